"""Bias + ReLU, max-pooling and dropout on a GPU: what their array expressions do, in one or two kernels.

The mathematics stands in the operation's own file in npunet/ops, the kernels in the .cu file of the same name here.
"""

from typing import NamedTuple

import numpy as np

from npunet.gpu.cuda import CudaFile, real
from npunet.gpu.step_numbers import recording, step_numbers
from npunet.machine.backend import array_module
from npunet.machine.philox import NUMBERS, Mask
from npunet.machine.shapes import check_gradient, check_maps

BIAS_RELU, MAX_POOLING, DROPOUT = CudaFile("bias_relu"), CudaFile("max_pooling"), CudaFile("dropout")
BLOCKS = 528  # of mask_and_sum: four for each multiprocessor of a large GPU


def bias_relu(y, bias, relu):
    """y (..., K) becomes y + bias, or max(0, y + bias) with relu, in place. bias (K,) or None."""
    if not y.flags.c_contiguous:  # part of the channels, or rows with a gap behind each
        if bias is not None:
            y += bias
        if relu:
            array_module(y).maximum(y, 0, out=y)
    elif bias is not None:
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
    partial, dbias = (xp.empty(shape, dtype=real(dy.dtype)) for shape in ((blocks, channels), (channels,)))
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
    """What max_pool2d_backward needs: which of the four pixels won each window, one byte each, and the shape of x."""

    winner: object
    shape: tuple


def max_pool2d(x):
    """x (N, H, W, C) -> y (N, H // 2, W // 2, C), ctx."""
    check_maps("max_pool2d", x=x)
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    n, height, width, channels = x.shape
    y = xp.empty((n, height // 2, width // 2, channels), dtype=x.dtype)
    winner = xp.empty(y.shape, dtype="uint8")
    MAX_POOLING.launch("max_pool", y.size, x, y, winner, y.size, height, width, channels)
    return y, Winners(winner, x.shape)


def max_pool2d_backward(dy, ctx, dskip=None):
    """dy (N, H // 2, W // 2, C) -> dx (N, H, W, C); dskip (N, H, W, C) is added."""
    check_gradient("max_pool2d_backward", dy, ctx.winner.shape, dy.dtype)
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


def dropout(x, rate, rng):
    """x of any shape, 0 <= rate < 1, rng a numpy.random.Generator -> y like x, ctx."""
    if recording():  # the key is drawn before each replay
        draw = lambda: [Mask.drawn(rate, rng, x.size).key]
        mask = Mask(step_numbers(array_module(x), draw, 1, "uint64"), float(rate))
    else:
        mask = Mask.drawn(rate, rng, x.size)
    return dropout_backward(x, mask), mask


def dropout_backward(dy, ctx):
    """dy like y -> dx like x; each thread computes the random numbers of eight elements."""
    xp = array_module(dy)
    dy = xp.ascontiguousarray(dy)
    dx = xp.empty(dy.shape, dtype=dy.dtype)
    blocks = -(-(ctx.start % NUMBERS + dy.size) // NUMBERS)
    first, key = np.uint64(ctx.start), ctx.key
    if isinstance(key, int):  # and not a place on the device
        key = xp.asarray(np.array([key], np.uint64))
    DROPOUT.launch("dropout", blocks, dy, dx, dy.size, first, key, ctx.threshold, 1 / (1 - ctx.rate))
    return dx
