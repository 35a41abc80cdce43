"""The operations that have a CUDA kernel, for CuPy arrays: bias + ReLU, max-pooling, dropout, batch normalisation.

The mathematics stands in the operation's own file.

Each function here does what the array expressions of its operation do, in one or two kernels; see the .cu file of the
same name.
"""

from typing import NamedTuple

import numpy as np

from npunet.gpu.cuda import CudaFile
from npunet.machine.backend import array_module

BIAS_RELU, MAX_POOLING, DROPOUT, BATCH_NORM = (
    CudaFile(name) for name in ("bias_relu", "max_pooling", "dropout", "batch_norm")
)
BLOCKS = 528  # of mask_and_sum: four for each multiprocessor of a large GPU


def bias_relu(y, bias, relu):
    """y (..., K), contiguous, becomes y + bias, or max(0, y + bias) with relu, in place. bias (K,) or None."""
    if bias is not None:
        BIAS_RELU.launch("bias_relu", y.size, y, bias, y.size, y.shape[-1], int(relu))
    elif relu:
        BIAS_RELU.launch("relu_only", y.size, y, y.size)


def mask_and_sum(dy, y):
    """dz, dbias of y = max(0, z), z = conv + bias, from dy (..., K).

    With y None there was no ReLU, and dz is dy itself.
    """
    xp = array_module(dy)
    dy = xp.ascontiguousarray(dy)
    channels = dy.shape[-1]
    pixels = dy.size // channels
    rows = -(-pixels // BLOCKS)
    blocks = -(-pixels // rows)
    dz = dy if y is None else xp.empty(dy.shape, dtype=dy.dtype)
    partial, dbias = xp.empty((blocks, channels), dtype=dy.dtype), xp.empty((channels,), dtype=dy.dtype)
    BIAS_RELU.launch(
        "mask_and_sum",
        0,
        dy,
        dy if y is None else y,
        dz,
        partial,
        pixels,
        channels,
        rows,
        int(y is not None),
        grid=(blocks,),
    )
    add_up(partial, dbias)
    return dz, dbias


def add_up(partial, total):
    """total (K,) = the sum of the rows of partial (blocks, K), always in the same order."""
    BIAS_RELU.launch("add_up", 0, partial, total, *partial.shape, grid=total.shape, threads=128)


class Winners(NamedTuple):
    """What max_pool2d_backward needs on the GPU: which of the four pixels won each window, one byte each."""

    winner: object
    shape: tuple


def max_pool2d(x):
    xp = array_module(x)
    n, height, width, channels = x.shape
    y = xp.empty((n, height // 2, width // 2, channels), dtype=x.dtype)
    winner = xp.empty(y.shape, dtype="uint8")
    MAX_POOLING.launch("max_pool", y.size, x, y, winner, y.size, height, width, channels)
    return y, Winners(winner, x.shape)


def max_pool2d_backward(dy, ctx, dskip=None):
    xp = array_module(dy)
    dx = xp.empty(ctx.shape, dtype=dy.dtype)
    MAX_POOLING.launch(
        "max_pool_backward",
        dx.size,
        xp.ascontiguousarray(dy),
        ctx.winner,
        dx if dskip is None else xp.ascontiguousarray(dskip),
        dx,
        dx.size,
        *ctx.shape[1:],
        int(dskip is not None),
    )
    return dx


def dropout(x, mask):
    """x with the mask of dropout.py applied; each thread computes the random numbers of eight elements."""
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    y = xp.empty(x.shape, dtype=x.dtype)
    DROPOUT.launch("dropout", -(-x.size // 8), x, y, x.size, np.uint64(mask.key), mask.threshold, 1 / (1 - mask.rate))
    return y


def moments(x):
    """Mean and variance over all pixels of x (..., C): two (C,) float64.

    Deviations from the first pixel lose nothing where the mean is large.
    """
    xp, pixels = array_module(x), x.size // x.shape[-1]
    x = xp.ascontiguousarray(x)
    centre = x.reshape(pixels, -1)[0].astype("float64")
    first, second = _two_sums(x, x, None, centre, False) / pixels
    return centre + first, xp.maximum(second - first * first, 0)


def gradient_sums(dy, x, y, mean):
    """Sums over all pixels of g and g (x - mean), two (C,) float64, with g = dy, and where y is given, zero unless y >
    0.
    """
    return _two_sums(x, dy, y, mean.astype("float64"), True)


def _two_sums(x, dy, y, centre, backward):
    xp, channels = array_module(x), x.shape[-1]
    x, dy = xp.ascontiguousarray(x), xp.ascontiguousarray(dy)
    pixels = x.size // channels
    rows = -(-pixels // BLOCKS)
    partial, total = (
        xp.empty((-(-pixels // rows), 2 * channels), dtype="float64"),
        xp.empty((2 * channels,), dtype="float64"),
    )
    BATCH_NORM.launch(
        "two_sums",
        0,
        x,
        dy,
        dy if y is None else y,
        xp.ascontiguousarray(centre),
        partial,
        pixels,
        channels,
        rows,
        int(backward),
        int(y is not None),
        grid=partial.shape[:1],
    )
    add_up(partial, total)
    return total.reshape(2, channels)


def normalise(x, factor, offset, relu):
    """factor x + offset for x (..., C), then max(0, .) with relu; factor and offset (C,) in any dtype."""
    xp = array_module(x)
    y = xp.empty(x.shape, dtype=x.dtype)
    BATCH_NORM.launch(
        "normalise",
        y.size,
        xp.ascontiguousarray(x),
        factor.astype(x.dtype),
        offset.astype(x.dtype),
        y,
        y.size,
        y.shape[-1],
        int(relu),
    )
    return y


def normalise_backward(dy, x, y, factor_g, factor_x, offset):
    """factor_g g + factor_x x + offset, with g as in `gradient_sums`."""
    xp = array_module(x)
    dx, dy = xp.empty(x.shape, dtype=x.dtype), xp.ascontiguousarray(dy)
    BATCH_NORM.launch(
        "normalise_backward",
        dx.size,
        dy,
        xp.ascontiguousarray(x),
        dy if y is None else y,
        *(vector.astype(x.dtype) for vector in (factor_g, factor_x, offset)),
        dx,
        dx.size,
        dx.shape[-1],
        int(y is not None),
    )
    return dx
