"""Solution of lesson 6's exercise: adding copies the gradient to both summands, cropping puts zeros around it."""

import numpy as np


def crop_add(upsampled, skip):
    """upsampled (N, H, W, C), skip (N, Hs, Ws, C) with Hs >= H and Ws >= W -> y (N, H, W, C), ctx."""
    height, width = upsampled.shape[1:3]
    top, left = (skip.shape[1] - height) // 2, (skip.shape[2] - width) // 2
    window = slice(None), slice(top, top + height), slice(left, left + width)
    return upsampled + skip[window], (skip.shape, window)


def crop_add_backward(dy, ctx):
    """dy (N, H, W, C) -> dupsampled (N, H, W, C), dskip (N, Hs, Ws, C), in memory of their own."""
    skip_shape, window = ctx
    dskip = np.zeros(skip_shape, dy.dtype)
    dskip[window] = dy
    return dy.copy(), dskip
