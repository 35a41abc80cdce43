"""What the convolution algorithms share: output sizes, borders, the flipped kernel, bias and ReLU of a band of rows."""

import numpy as np

from npunet.gpu import cuda, kernels
from npunet.machine.backend import array_module
from npunet.machine.threads import parallel


def output_shape(x_shape, weight_shape, padding):
    """(N, H', W', K) of the convolution of x (N, H, W, C) with weight (kh, kw, C, K): H' = H + 2 padding - kh + 1."""
    batch, height, width, _ = x_shape
    kh, kw, _, channels = weight_shape
    return batch, height + 2 * padding - kh + 1, width + 2 * padding - kw + 1, channels


def crop_or_pad(x, rows, columns):
    """x (N, H, W, C) with ``rows`` zeros added above and below, ``columns`` left and right;
    negative numbers crop instead.

    Zero-padding and cropping by the same amount are adjoint, so the gradient of one is the other.
    Returns x itself, not a copy, if there is nothing to add.
    """
    if rows <= 0 and columns <= 0:
        return x[:, -rows : x.shape[1] + rows, -columns : x.shape[2] + columns]
    x = crop_or_pad(x, min(rows, 0), min(columns, 0))
    rows, columns = max(rows, 0), max(columns, 0)
    batch, height, width, channels = x.shape
    padded = array_module(x).zeros((batch, height + 2 * rows, width + 2 * columns, channels), dtype=x.dtype)
    padded[:, rows : rows + height, columns : columns + width] = x
    return padded


def flipped(weight):
    """The kernel of the input gradient: weight (kh, kw, C, K) turned by 180 degrees, channels exchanged:
    (kh, kw, K, C).
    """
    return weight[::-1, ::-1].swapaxes(2, 3)


def input_gradient(forward, dy, weight, padding):
    """dx as a convolution:
    of dy, padded by kernel size - 1 - padding, with the flipped kernel (derivation in convolution.py).
    """
    kh, kw = weight.shape[:2]
    return forward(crop_or_pad(dy, kh - 1 - padding, kw - 1 - padding), flipped(weight), None, 0, False)


def add_bias_relu(band, bias, relu):
    """Adds bias (K,) and applies ReLU to band (..., K), in place, while the band is still in cache."""
    if cuda.usable(band):
        kernels.bias_relu(band, bias, relu)
        return
    if bias is not None:
        band += bias
    if relu:
        array_module(band).maximum(band, 0, out=band)


def masked(dy, y, relu):
    """dy behind the ReLU: zero where y = max(0, .) is not positive. dy itself without ReLU."""
    return dy * (y > 0) if relu else dy


def bands(count, size):
    """Slices of at most ``size`` that cover range(count)."""
    size = max(1, int(size))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def each(task, items, xp, fixed=False):
    """task(item) for each item: on all threads for NumPy (``fixed``: see `parallel`), one after the other for CuPy,
    where the GPU is the parallel machine."""
    if xp is np:
        parallel(lambda index: task(items[index]), len(items), fixed)
    else:
        for item in items:
            task(item)
