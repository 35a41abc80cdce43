"""Exercise of lesson 3: pooling by the mean instead of the maximum, and its backward pass.

    y[n, i, j, c] = mean of the four pixels x[n, 2i + a, 2j + b, c],  a and b in {0, 1}

Who gets the gradient now? Check yourself with: pytest lessons/exercises -k 03
"""

import numpy as np


def average_pool2d(x):
    """x (N, H, W, C), H and W even -> y (N, H/2, W/2, C), ctx; same dtype, nothing written into x."""
    raise NotImplementedError("write average_pool2d: the mean of the four corners of every window")


def average_pool2d_backward(dy, ctx):
    """dy (N, H/2, W/2, C) -> dx (N, H, W, C), same dtype."""
    raise NotImplementedError("write average_pool2d_backward: every pixel has the same share in the mean")
