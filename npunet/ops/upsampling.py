"""Bilinear upsampling to twice the size with aligned corners:
what milesial/Pytorch-UNet offers instead of up-convolutions.

Notation: x (N, H, W, C) -> y (N, 2H, 2W, C). Nothing is learned and channels stay as they are.

Along one axis the corner pixels of x and y lie on each other ("aligned corners"), and what is between is divided
evenly: pixel j of y, 0 <= j < 2H, lies at j (H - 1) / (2H - 1) on the axis of x and is the mean of its two neighbours
there, weighted by nearness. That is a matrix R (2H, H) with at most two entries in a row. The same holds across with S
(2W, W), so that for each channel

    y = R x S^T                        and backward, by the adjoint,             dx = R^T dy S

Each pixel of x gets back the gradient of the pixels that it was mixed into, in the same shares. As R is empty but for a
narrow diagonal, a band of rows of y needs only the few rows of x that its part of R reaches: two small matrix products
a band.
"""

from typing import NamedTuple

import numpy as np

from npunet.machine import memory
from npunet.machine.backend import Array, array_module
from npunet.machine.bands import cached, each_band
from npunet.machine.shapes import check_gradient, check_maps

COLUMNS = 64  # of the result in one product; its part of S is small and nearly full
BAND_BYTES = 1 << 20  # that a band touches: the taller it is, the more zeros are multiplied


class UpsamplingContext(NamedTuple):
    """What upsample2d_backward needs: the shape and dtype of x."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype


def upsample2d_definition(x: Array) -> Array:
    """The rule pixel by pixel: the four neighbours in x of each pixel of y, weighted by nearness."""
    xp = array_module(x)
    n, height, width, channels = x.shape
    y = xp.zeros((n, 2 * height, 2 * width, channels), x.dtype)
    for image, row, column, c in xp.ndindex(y.shape):
        down, across = row * (height - 1) / (2 * height - 1), column * (width - 1) / (2 * width - 1)
        for i in range(height):
            for j in range(width):
                share = max(0, 1 - abs(down - i)) * max(0, 1 - abs(across - j))
                y[image, row, column, c] = y[image, row, column, c] + share * x[image, i, j, c]
    return y


def interpolation_matrix(size: int) -> np.ndarray:
    """R (2 size, size) float64: row j holds the shares of the pixels in pixel j of twice as many."""
    position = np.arange(2 * size) * ((size - 1) / (2 * size - 1))
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(size)))


def upsample2d(x: Array) -> tuple[Array, UpsamplingContext]:
    """x (N, H, W, C) -> y (N, 2H, 2W, C), ctx. Raises InputError if x is no such array."""
    check_maps("upsample2d", x=x)
    y = _two_products(interpolation_matrix(x.shape[1]), x, interpolation_matrix(x.shape[2]))
    return y, UpsamplingContext(x.shape, x.dtype)


def upsample2d_backward(dy: Array, ctx: UpsamplingContext) -> Array:
    """dy (N, 2H, 2W, C) -> dx (N, H, W, C)."""
    n, height, width, channels = ctx.shape
    check_gradient("upsample2d_backward", dy, (n, 2 * height, 2 * width, channels), ctx.dtype)
    return _two_products(interpolation_matrix(height).T, dy, interpolation_matrix(width).T)


def _two_products(down, x, across):
    """down x across^T for every channel: (H', H), (N, H, W, C), (W', W) -> (N, H', W', C), in bands of rows."""
    xp = array_module(x)
    n, _, width, channels = x.shape
    blocks = cached(len(across), COLUMNS, x)
    parts = [_reached(across[block]) for block in blocks]
    across = xp.asarray(across.astype(x.dtype))
    y = memory.empty((n, len(down), len(across), channels), x.dtype, xp)

    def one_band(image, rows):
        reach = _reached(down[rows])
        weights = xp.asarray(down[rows, reach].astype(x.dtype))
        mixed = weights @ x[image, reach].reshape(-1, width * channels)  # (rows, reach) @ (reach, W*C)
        mixed = mixed.reshape(-1, width, channels)
        for block, part in zip(blocks, parts):
            xp.matmul(across[block, part], mixed[:, part], out=y[image, rows, block])  # (W', W) @ (rows, W, C)

    each_band(one_band, touches=(y, x), most=BAND_BYTES)
    return y


def _reached(matrix):
    """The slice of columns that are not all zero: from the first to the last."""
    columns = np.flatnonzero(matrix.any(axis=0))
    return slice(int(columns[0]), int(columns[-1]) + 1)
