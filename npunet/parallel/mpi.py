"""MPI through mpi4py: ranks on one machine or on many, started by mpiexec or by a batch system such as Slurm.

mpi4py needs an MPI library; `pip install "npunet[mpi]"` brings both. On a cluster use the cluster's own library.
"""

import time

import numpy as np

PATIENCE = 0.002  # seconds between two looks at whether a slow rank has come


class MPI:
    """The ranks of MPI's COMM_WORLD."""

    takes_device_arrays = False

    def __init__(self):
        from mpi4py import MPI as library  # starts MPI: only where somebody asks for it

        self.library, self.world = library, library.COMM_WORLD
        self.rank, self.size = self.world.Get_rank(), self.world.Get_size()
        neighbours = self.world.Split_type(library.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = neighbours.Get_rank(), neighbours.Get_size()

    def sum_(self, array: np.ndarray) -> None:
        """MPI promises the same result on every rank, and the libraries in use add in an order that does not vary."""
        self._wait_for_all()
        self.world.Allreduce(self.library.IN_PLACE, array)

    def from_first(self, thing):
        self._wait_for_all()
        return self.world.bcast(thing)

    def _wait_for_all(self):
        """Sleeps until every rank has come. MPI itself would wait at full speed, and take a core from the slow rank.

        The slow rank is most often rank 0, which scores the held-out images on the same machine.
        """
        request = self.world.Ibarrier()
        give_up = time.perf_counter() + PATIENCE
        while not request.Test():
            if time.perf_counter() > give_up:
                time.sleep(PATIENCE)

    def abort(self, status: int) -> None:
        self.world.Abort(status)
