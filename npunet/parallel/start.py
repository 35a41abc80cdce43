"""How a process finds out that it is one of several, and what it does about cores and output."""

import os
import sys

from npunet.errors import InputError
from npunet.machine import ranks, threads
from npunet.parallel.mpi import MPI

# Set by the launchers of MPICH and Intel MPI, Open MPI, and Slurm's srun: the number of processes.
COUNTS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "SLURM_NTASKS")


def settle() -> None:
    """What several processes on one machine do about its cores and about output; see `join`."""
    if "OMP_NUM_THREADS" not in os.environ:
        threads.set_num_threads(max(1, threads.default_num_threads() // ranks.on_this_machine()))
    if ranks.rank() > 0:
        sys.stdout = open(os.devnull, "w")  # as long as the process lives


def join() -> None:
    """Become one rank of several if a launcher has started several; otherwise nothing happens.

    The cores of a machine are divided among its ranks, unless OMP_NUM_THREADS says otherwise. Ranks other than 0 print
    nothing to stdout. Raises InputError if several were started and mpi4py is missing.
    """
    if processes() == 1:
        return
    try:
        group = MPI()
    except ImportError as error:
        raise InputError(
            f"{processes()} processes were started, but mpi4py cannot be used ({error}); "
            'install it with pip install "npunet[mpi]", or start one process'
        ) from None
    ranks.use(group)
    settle()


def processes() -> int:
    """How many processes the launcher says that it has started; 1 where there is none."""
    counts = (os.environ.get(name, "") for name in COUNTS)
    if "SLURM_STEP_ID" not in os.environ:  # a batch script itself is one process, whatever it may start
        counts = (os.environ.get(name, "") for name in COUNTS if not name.startswith("SLURM"))
    return max((int(count) for count in counts if count.isdecimal()), default=1) or 1


def check_loss(kind: str) -> None:
    """Raises InputError if the loss of a big batch is no mean over its parts and several processes train."""
    if ranks.size() > 1 and kind != "cross-entropy":
        raise InputError(
            f"--loss {kind}: Dice of a big batch is no mean over {ranks.size()} processes; "
            f"give --loss cross-entropy, or start one process"
        )
