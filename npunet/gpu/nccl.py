"""NCCL, NVIDIA's library for sums over GPUs, as an engine for `machine.ranks`: one process for each GPU.

Sums of arrays on the GPU stay there; what little the host adds up (a flag, a score) goes through the GPU too. NCCL
wants one secret number that all processes know, its *id*. Where MPI has started them, MPI brings it; otherwise a file
does. After that nothing but NCCL is needed, so launchers that set environment variables only, as torchrun, will do:

    RANK, WORLD_SIZE                 number of this process, and how many there are
    LOCAL_RANK, LOCAL_WORLD_SIZE     the same on this machine; LOCAL_RANK is the number of its GPU
    MASTER_PORT, TORCHELASTIC_RUN_ID make the file's name one of this run
    NPUNET_NCCL_ID                   the file, which several machines must share; on one machine it is not needed

CuPy brings the bindings, the package nvidia-nccl-cu12 (or cu13) the library. This engine has not run on a GPU yet:
tests/test_nccl.py runs it with a stand-in for CuPy, and compares it with the ring.
"""

import json
import os
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.gpu import cuda
from npunet.machine import ranks

PATIENCE = 120.0  # seconds that a process waits for the id
NAMES = {"float32": "NCCL_FLOAT32", "float64": "NCCL_FLOAT64", "uint8": "NCCL_UINT8", "int64": "NCCL_INT64"}


class NCCL:
    """One process of several, each with a GPU of its own.

    host: the group that has joined the processes already, such as MPI's; None where only variables tell of them.
    """

    takes_device_arrays = True

    def __init__(self, rank: int, size: int, local_rank: int, local_size: int, host=None):
        cupy, nccl = cuda.nccl()
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size
        self.cupy, self.nccl, self.host = cupy, nccl, host
        count = cupy.cuda.runtime.getDeviceCount()
        if local_rank >= count:
            raise InputError(
                f"process {local_rank} of this machine has no GPU: there are {count}; start no more than that"
            )
        cupy.cuda.Device(local_rank).use()
        own = nccl.get_unique_id() if rank == 0 else None
        shared = host.from_first(own) if host else shared_by_file(own, id_file())
        self.communicator = nccl.NcclCommunicator(size, shared, rank)  # waits for all
        if rank == 0 and not host:
            id_file().unlink()

    def sum_(self, array) -> None:
        """array, contiguous and on the GPU, becomes the sum over all ranks: the same bits on each. NumPy's too."""
        if isinstance(array, np.ndarray):
            there = self.cupy.asarray(array)
            self.sum_(there)
            array[...] = there.get()
            return
        kind = getattr(self.nccl, NAMES[array.dtype.name])
        place, stream = array.data.ptr, self.cupy.cuda.Stream.null.ptr
        self.communicator.allReduce(place, place, array.size, kind, self.nccl.NCCL_SUM, stream)

    def from_first(self, thing):
        """Pickled, as bytes on the GPU: first how many, then they."""
        data = np.frombuffer(pickle.dumps(thing), np.uint8) if self.rank == 0 else np.zeros(0, np.uint8)
        length = self._of_first(np.array([len(data)], np.int64))
        data = self._of_first(data if self.rank == 0 else np.zeros(int(length[0]), np.uint8))
        return thing if self.rank == 0 else pickle.loads(data.tobytes())  # from rank 0 of this run, never from a file

    def _of_first(self, array):
        there = self.cupy.asarray(array)
        kind, stream = getattr(self.nccl, NAMES[array.dtype.name]), self.cupy.cuda.Stream.null.ptr
        self.communicator.bcast(there.data.ptr, there.size, kind, 0, stream)
        return there.get()

    def abort(self, status: int) -> None:
        """End all processes: MPI does, or the launcher, which sees that this one has ended."""
        if self.host:
            self.host.abort(status)
        os._exit(status)  # not sys.exit: NCCL would wait for the others


def join() -> bool:
    """Give each process a GPU and let NCCL add up; whether several were started. To be called before arrays are made.

    Raises InputError if NCCL cannot be used and nothing else has joined the processes.
    """
    host = None if ranks.size() == 1 else ranks.group()
    if host is None and processes() == 1:
        return False
    try:
        if host:
            group = NCCL(host.rank, host.size, host.local_rank, host.local_size, host)
        else:
            rank, local_rank = (number(name) for name in ("RANK", "LOCAL_RANK"))
            group = NCCL(rank, processes(), local_rank, number("LOCAL_WORLD_SIZE", processes()))
    except ImportError as error:
        if host:
            return True  # sums go over the host
        raise InputError(
            f"{processes()} processes were started without MPI, but NCCL cannot be used ({error}); "
            "install CuPy and nvidia-nccl-cu12 (or cu13), or start them with mpiexec"
        ) from None
    ranks.use(group)
    return True


def processes() -> int:
    """WORLD_SIZE, which torchrun and its like set; 1 without it."""
    return number("WORLD_SIZE", 1)


def number(name: str, default: int | None = None) -> int:
    """A whole number from the environment. Raises InputError without it, or if it is none."""
    text = os.environ.get(name, "")
    if not text and default is not None:
        return default
    if not text.isdecimal():
        raise InputError(f"the variable {name} is {text!r}; expected a whole number, as torchrun sets it")
    return int(text)


def id_file() -> Path:
    """Where the id of this run is put down."""
    if named := os.environ.get("NPUNET_NCCL_ID"):
        return Path(named)
    if number("LOCAL_WORLD_SIZE", processes()) < processes():
        raise InputError("processes on several machines need NPUNET_NCCL_ID, the name of a new file that all can reach")
    run = "-".join(os.environ.get(name, "") for name in ("MASTER_PORT", "TORCHELASTIC_RUN_ID"))
    return Path(tempfile.gettempdir()) / f"npunet-nccl-{os.getuid()}-{os.getppid()}-{run}"


def shared_by_file(own: tuple | None, path: Path) -> tuple:
    """The id, a tuple of bytes' values, by way of a file: rank 0, who has it, writes; the others wait for it."""
    if own is not None:
        if path.exists():
            raise InputError(f"{path} is there already; NPUNET_NCCL_ID names a new file for each run, remove it")
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(json.dumps([int(value) for value in own]), encoding="utf-8")
        os.replace(temporary, path)  # whole or not at all
        return own
    give_up = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > give_up:
            raise InputError(
                f"{path}: rank 0 has not written it for {PATIENCE:.0f} seconds; are all processes running?"
            )
        time.sleep(0.05)
    return tuple(json.loads(path.read_text(encoding="utf-8")))
