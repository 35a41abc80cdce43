"""Data-parallel training: n processes with a batch of b tiles take the same steps as one process with n b tiles.

Every process, a *rank*, has the whole network and draws its own tiles. The energy of the big batch is the mean of the
ranks' energies (Eq. 1 is a mean over pixels, and all ranks have equally many), so its gradient is the mean of their
gradients:

    g = 1/n sum over ranks r of g_r                                        one all-reduce in each step

Every rank then clips the same g and makes the same update, so the networks stay equal to the bit, and nobody ever sends
weights. Three more things make the steps those of the big batch:

    tiles      tile i of step s is drawn from (seed, s, i); rank r of n with batch b draws the tiles r b .. r b + b - 1
    drop-out   the mask is a function of the element's place in the big batch (machine/philox.py)
    batch normalisation   mean and variance are those of all ranks, forward and backward (ops/batch_norm.py)

The engines that carry the numbers, behind one small interface (`machine.ranks.Group`):

    ring.py    the ring all-reduce as loops over pipes: the definition, the oracle of the tests, never the default
    mpi.py     MPI through mpi4py: `mpiexec -n 4 python -m npunet.train ...`
    gpu/nccl.py    NCCL through CuPy, for arrays that are on GPUs: one process for each

`join` looks at how the process was started and chooses; docs/scaling.md tells what it costs and what it brings.
"""

from npunet.parallel.gradients import average
from npunet.parallel.start import check_loss, join, settle

__all__ = ["average", "check_loss", "join", "settle"]
