"""Solution of lesson 3's exercise: the mean is linear, so its backward pass is its adjoint and needs no memory of x."""

import numpy as np


def average_pool2d(x):
    """x (N, H, W, C), H and W even -> y (N, H/2, W/2, C), ctx."""
    y = (x[:, 0::2, 0::2] + x[:, 0::2, 1::2] + x[:, 1::2, 0::2] + x[:, 1::2, 1::2]) / 4
    return y, x.shape


def average_pool2d_backward(dy, ctx):
    """dy (N, H/2, W/2, C) -> dx (N, H, W, C)."""
    dx = np.empty(ctx, dy.dtype)
    for row in (0, 1):
        for column in (0, 1):
            dx[:, row::2, column::2] = dy / 4
    return dx
