"""What the ranks of tests/test_nccl.py do: NCCL's engine with a CuPy that is none; a ring carries the numbers."""

import ctypes
import os
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import strict_array

from npunet import parallel
from npunet.gpu import nccl
from npunet.machine import ranks

DTYPES = {7: np.float32, 8: np.float64, 1: np.uint8, 4: np.int64}  # NCCL's own numbers


def install(ring, gpus=8):
    """Put a stand-in for cupy and cupy.cuda.nccl into this process; returns what was called."""
    called = []

    class NcclCommunicator:
        def __init__(self, size, identity, rank):
            assert (size, rank) == (ring.size, ring.rank) and ring.from_first(identity) == identity
            assert len(identity) == 128
            ring.sum_(np.zeros(ring.size))  # waits for all, as NCCL does

        def allReduce(self, source, target, count, kind, operation, stream):
            assert source == target and (operation, stream) == (0, 5)
            called.append("allReduce")
            ring.sum_(at(target, count, kind))

        def bcast(self, place, count, kind, root, stream):
            assert (root, stream) == (0, 5)
            array = at(place, count, kind)
            array[...] = ring.from_first(array.copy())

    module, cuda, library = ModuleType("cupy"), ModuleType("cupy.cuda"), ModuleType("cupy.cuda.nccl")
    library.NcclCommunicator, library.get_unique_id = NcclCommunicator, lambda: tuple(os.urandom(128))
    library.NCCL_FLOAT32, library.NCCL_FLOAT64, library.NCCL_UINT8, library.NCCL_INT64, library.NCCL_SUM = 7, 8, 1, 4, 0
    cuda.nccl, cuda.Stream = library, SimpleNamespace(null=SimpleNamespace(ptr=5))
    cuda.runtime = SimpleNamespace(getDeviceCount=lambda: gpus)
    cuda.Device = lambda number: SimpleNamespace(use=lambda: called.append(f"device {number}"))
    module.cuda, module.asarray = cuda, strict_array.asarray
    strict_array.ndarray.data = property(lambda array: SimpleNamespace(ptr=array._data.ctypes.data))
    sys.modules |= {"cupy": module, "cupy.cuda": cuda, "cupy.cuda.nccl": library}
    return called


def at(place, count, kind):
    """The array at an address."""
    size = count * np.dtype(DTYPES[kind]).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(place), DTYPES[kind])


def torchrun(ring, file):
    """The variables that torchrun sets."""
    told = {"RANK": ring.rank, "WORLD_SIZE": ring.size, "LOCAL_RANK": ring.rank, "LOCAL_WORLD_SIZE": ring.size}
    os.environ.update({name: str(value) for name, value in told.items()} | {"NPUNET_NCCL_ID": str(file)})


def numbers(rank):
    rng = np.random.default_rng(rank)
    return rng.standard_normal((3, 5)).astype(np.float32), rng.standard_normal(7), np.array([float(rank)])


def by_ring(ring):
    """The sums of the definition, and the mean of gradients."""
    ranks.use(ring)
    return [ranks.total(array) for array in numbers(ring.rank)], averaged(ring, np.asarray)


def by_nccl(ring, file, by_mpi):
    """The same by NCCL: [sums], mean of gradients, what rank 0 handed in, what was called."""
    called = install(ring)
    if by_mpi:
        ranks.use(ring)  # as MPI's group would have joined them
    else:
        torchrun(ring, file)
    assert nccl.join() and ranks.size() == ring.size and ranks.rank() == ring.rank
    first, second, flag = numbers(ring.rank)
    sums = [ranks.total(strict_array.asarray(first)), ranks.total(strict_array.asarray(second)), ranks.total(flag)]
    assert [type(one).__module__ for one in sums] == ["strict_array", "strict_array", "numpy"]
    sums = [one.get() if hasattr(one, "get") else one for one in sums]
    return sums, averaged(ring, strict_array.asarray), ranks.from_first({"rank": ring.rank}), called


def averaged(ring, asarray):
    """`parallel.average` of two gradients and an energy, as NumPy arrays."""
    first, second, energy = numbers(ring.rank)
    parameters = {"a": SimpleNamespace(grad=asarray(first)), "b": SimpleNamespace(grad=asarray(first.T.copy()))}
    energy = parallel.average(parameters, asarray(energy.astype(np.float32)).reshape(()))
    found = [parameters["a"].grad, parameters["b"].grad, energy]
    return [one.get() if hasattr(one, "get") else one for one in found]


def without_gpus(ring, file):
    """The line of an error: fewer GPUs than processes."""
    install(ring, gpus=1)
    torchrun(ring, file)
    try:
        nccl.join()
    except Exception as error:
        return type(error).__name__, str(error)
