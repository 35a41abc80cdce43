"""Feature maps in bands of rows: on the CPU each thread takes whole bands, small enough to stay in its cache."""

import numpy as np

from npunet.machine.threads import get_num_threads, parallel

BAND_BYTES = 1 << 20


def each_band(task, batch, rows, row_bytes, xp, fewest=1, fixed=False):
    """Calls task(n, slice of rows) until all rows of all images are covered.

    row_bytes is what one row reads and writes; a band has at least ``fewest`` rows, but never so many that a thread
    goes without. ``fixed``: which thread takes which band is always the same, see `parallel`. With CuPy a band is a
    whole image: there the GPU is the parallel machine.
    """
    if xp is not np:
        for n in range(batch):
            task(n, slice(0, rows))
        return
    height = max(1, min(max(BAND_BYTES // max(1, row_bytes), fewest), -(-rows // get_num_threads())))
    bands = [(n, slice(start, min(start + height, rows))) for n in range(batch) for start in range(0, rows, height)]
    parallel(lambda index: task(*bands[index]), len(bands), fixed)


def matmul(a, b, out, xp):
    """out = a @ b for matrices, each thread computing its share of the rows of ``out``."""
    if xp is not np:
        xp.matmul(a, b, out=out)
        return
    share = -(-len(a) // get_num_threads())
    rows = [slice(start, start + share) for start in range(0, len(a), share)]
    parallel(lambda index: np.matmul(a[rows[index]], b, out=out[rows[index]]), len(rows))
