"""The matrices of Winograd's convolution, from the points at which polynomials are evaluated, and how they are applied.

For each result of a 3-tap kernel g on inputs d: y = A^T [ (G g) * (B^T d) ], see winograd.py.
"""

import numpy as np

from npunet.machine.backend import array_module
from npunet.machine.bands import blocks
from npunet.machine.memory import scratch

PART = 1 << 13  # kernels (c, k) transformed at a time


def toom_cook(points, taps=3):
    """B^T (t, t), G (t, taps), A^T (m, t) that evaluate at `points` and infinity;
    t = len(points) + 1, m = t - taps + 1.
    """
    t = len(points) + 1
    bt, g, a = np.zeros((t, t)), np.zeros((t, taps)), np.zeros((t, t - taps + 1))
    for i, point in enumerate(points):
        others = points[:i] + points[i + 1 :]
        bt[i, :-1] = np.polynomial.polynomial.polyfromroots(others)  # Lagrange's polynomial of this point ...
        g[i] = point ** np.arange(taps) / np.prod(np.subtract(point, others))  # ... its denominator put into G
        a[i] = point ** np.arange(t - taps + 1)
    bt[-1] = np.polynomial.polynomial.polyfromroots(points)  # infinity: the highest coefficients
    g[-1, -1] = a[-1, -1] = 1
    return bt, g, a.T


def two_sided(matrix, source, target):
    """target = matrix source matrix^T over the first two axes: source (r, r, C, K), target (a, a, C, K).

    Some C at a time, so that what is between the two products stays in cache.
    """
    xp = array_module(source)
    a, r = matrix.shape
    c, k = source.shape[2:]
    for part in blocks(c, max(1, PART // k)):
        block = source[:, :, part].reshape(r, r, -1)  # (r, r, columns)
        half = scratch("half a kernel", (r, a, block.shape[2]), source.dtype, xp)
        xp.matmul(matrix, block.transpose(1, 0, 2), out=half)  # (a, r) @ (r; r, columns)
        xp.matmul(matrix, half.transpose(1, 0, 2), out=target[:, :, part].reshape(a, a, -1))
