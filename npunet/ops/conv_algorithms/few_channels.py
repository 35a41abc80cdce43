"""Convolution of an image with few channels, as the first layer's:
im2col lying on its side, with the bias as one more tap.

A grey image has windows of nine numbers, and gathering nine here and nine there costs more than multiplying them. So
the matrix is made the other way round, a row for each tap of the kernel: then each row is the picture itself, shifted,
and copied in long pieces.

    rows[(u, v, c), (i, j)] = x[i + u, j + v, c]         (kh kw C, pixels), and below it a row of ones
    y = rows^T @ [weight; bias]                          (pixels, K)
    [dweight; dbias] = rows @ dy                         (kh kw C + 1, K)

The ones turn the bias into the weight of a tap that always sees 1, so neither the bias nor its gradient needs a pass of
its own. Each thread takes bands of output rows.
"""

import numpy as np

from npunet.machine import memory
from npunet.machine.backend import array_module
from npunet.machine.shapes import crop_or_pad, output_shape
from npunet.machine.threads import get_num_threads, worker
from npunet.ops.conv_algorithms import im2col
from npunet.ops.conv_algorithms.common import bands, each, input_gradient

BAND_BYTES = 1 << 19  # of y in a band, which ReLU passes again: a quarter of a core's level-2 cache
BAND_BYTES_GPU = 1 << 28


def row_bands(output, itemsize, xp):
    """(n, rows) of each band of output rows."""
    batch, height, width, k = output
    size = (BAND_BYTES if xp is np else BAND_BYTES_GPU) // (width * k * itemsize)
    return [(n, rows) for n in range(batch) for rows in bands(height, size)]


def taps(patches, band, name, xp):
    """The matrix ``rows`` of a band: (kh kw C + 1, pixels)."""
    windows = patches[band].transpose(2, 3, 4, 0, 1)  # (kh, kw, C, rows, W')
    pixels = windows.shape[3] * windows.shape[4]
    matrix = memory.scratch(name, (windows.size // pixels + 1, pixels), patches.dtype, xp)
    matrix[:-1].reshape(windows.shape)[...] = windows
    matrix[-1] = 1
    return matrix


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    y = memory.empty(output_shape(x.shape, weight.shape, padding), x.dtype, xp)
    patches = im2col.windows(crop_or_pad(x, padding, padding), kh, kw)  # (N, H', W', kh, kw, C)
    last = xp.zeros((1, k), dtype=x.dtype) if bias is None else bias.reshape(1, k)
    matrix = xp.concatenate([weight.reshape(-1, k), last])  # (kh kw C + 1, K)

    def one_band(band):
        result = y[band].reshape(-1, k)  # a view: rows are contiguous in y
        xp.matmul(taps(patches, band, "even", xp).T, matrix, out=result)
        if relu:
            xp.maximum(result, 0, out=result)

    each(one_band, row_bands(y.shape, x.itemsize, xp), xp)
    return y


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    dz = memory.empty(dy.shape, dy.dtype, xp) if relu and need_dx else dy  # dy behind the ReLU
    patches = im2col.windows(crop_or_pad(x, padding, padding), kh, kw)  # (N, H', W', kh, kw, C)
    totals = [None] * get_num_threads()  # [dweight; dbias] of each thread, over the bands that it did

    def one_band(band):
        dresult = dz[band]
        if relu:
            dresult = dresult if need_dx else memory.scratch("odd", dresult.shape, dy.dtype, xp)
            xp.multiply(dy[band], y[band] > 0, out=dresult)
        part = taps(patches, band, "even", xp) @ dresult.reshape(-1, k)  # (kh kw C + 1, pixels) @ (pixels, K)
        totals[worker()] = part if totals[worker()] is None else totals[worker()] + part

    each(one_band, row_bands(dy.shape, x.itemsize, xp), xp, fixed=True)
    first, *others = [total for total in totals if total is not None]
    total = sum(others, first)
    dx = input_gradient(im2col.forward, dz, weight, padding) if need_dx else None
    return dx, total[:-1].reshape(weight.shape), total[-1]
