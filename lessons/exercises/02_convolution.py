"""Exercise of lesson 2: a convolution that keeps every second pixel only, and its gradients.

    y[n, i, j, k] = sum over u, v, c of x[n, 2i + u, 2j + v, c] weight[u, v, c, k]

You need no new loops: such a "strided" convolution is conv2d followed by taking every second row and column, and the
gradient of taking is putting back. Check yourself with: pytest lessons/exercises -k 02
"""

import numpy as np

from npunet.ops import conv2d, conv2d_backward


def strided_conv2d(x, weight):
    """x (N, H, W, C), weight (kh, kw, C, K) -> y (N, H'', W'', K), ctx.

    H'' is the number of rows 0, 2, 4, ... of the valid convolution, W'' that of its columns. Nothing is written into x
    or weight. ctx is whatever your backward needs.
    """
    raise NotImplementedError("write strided_conv2d: a valid convolution, then every second row and column")


def strided_conv2d_backward(dy, ctx):
    """dy (N, H'', W'', K) -> dx (N, H, W, C), dweight (kh, kw, C, K)."""
    raise NotImplementedError(
        "write strided_conv2d_backward: put dy back where it was taken from, then conv2d_backward"
    )
