"""Max-pooling: "a 2x2 max pooling operation with stride 2 for downsampling" (§2), the largest of every four pixels.

Notation: x (N, H, W, C) -> y (N, H/2, W/2, C). The four pixels of each window are the four "corners"
of x, taken in row-major order:

    corner 0  x[:, 0::2, 0::2]      corner 1  x[:, 0::2, 1::2]
    corner 2  x[:, 1::2, 0::2]      corner 3  x[:, 1::2, 1::2]

Backward: the maximum is one of its arguments, so the whole gradient goes to the pixel that won and the
three others get none. Where several pixels tie (pooling follows ReLU, so windows of four zeros are
common) the first in row-major order is the winner, on every device.

An odd last row or column has no window: it is not read and gets no gradient. The paper's input sizes
are chosen so that this never happens (§2; npunet/geometry.py).
"""

from typing import NamedTuple

from npunet.machine import memory
from npunet.machine.backend import Array, array_module
from npunet.machine.bands import each_band
from npunet.machine.shapes import check_arrays, check_gradient, check_maps


class MaxPoolingContext(NamedTuple):
    """What max_pool2d_backward needs: a pixel of x won its window if it is equal to that pixel of y."""

    x: Array
    y: Array


def max_pool2d_definition(x: Array) -> tuple[Array, Array]:
    """The definition as loops; returns y and the position of the winner in its window, 0 to 3."""
    xp = array_module(x)
    n, height, width, channels = x.shape
    y = xp.empty((n, height // 2, width // 2, channels), x.dtype)
    winner = xp.empty(y.shape, "int8")
    for image, row, column, channel in xp.ndindex(y.shape):
        best = None
        for position in range(4):  # row-major: the first maximum wins a tie
            value = x[image, 2 * row + position // 2, 2 * column + position % 2, channel]
            if best is None or value > best:
                best, y[image, row, column, channel], winner[image, row, column, channel] = value, value, position
    return y, winner


def max_pool2d(x: Array) -> tuple[Array, MaxPoolingContext]:
    """x (N, H, W, C) -> y (N, H // 2, W // 2, C), ctx. Raises InputError if x is no such array."""
    check_maps("max_pool2d", x=x)
    xp = array_module(x)
    n, height, width, channels = x.shape
    y = memory.empty((n, height // 2, width // 2, channels), x.dtype, xp)

    def one_band(image, rows):
        best, corners = y[image, rows], _corners(x[image, 2 * rows.start : 2 * rows.stop])  # each (rows, W // 2, C)
        xp.maximum(corners[0], corners[1], out=best)
        xp.maximum(best, corners[2], out=best)
        xp.maximum(best, corners[3], out=best)

    each_band(one_band, touches=(y, x))
    return y, MaxPoolingContext(x, y)


def max_pool2d_backward(dy: Array, ctx: MaxPoolingContext, dskip: Array | None = None) -> Array:
    """dy (N, H // 2, W // 2, C) -> dx (N, H, W, C).

    dskip (N, H, W, C) is what the skip connection, which reads the same x, has found for its gradient; it is added in
    the same pass.
    """
    check_arrays("max_pool2d_backward", dy=dy)  # ctx may come from a GPU, and only an array dy would have led there
    x, y = ctx
    check_gradient("max_pool2d_backward", dy, y.shape, y.dtype)
    xp = array_module(dy)
    n, height, width, _ = x.shape
    dx = memory.empty(x.shape, dy.dtype, xp)
    for odd in (slice(None), slice(height // 2 * 2, None)), (slice(None), slice(None), slice(width // 2 * 2, None)):
        dx[odd] = 0 if dskip is None else dskip[odd]  # an odd last row or column has no window

    def one_band(image, rows):
        both = slice(2 * rows.start, 2 * rows.stop)
        best = xp.stack([y[image, rows]] * 2, axis=2)  # (rows, W//2, 2, C): for both pixels of a pair
        gradient = xp.stack([dy[image, rows]] * 2, axis=2)  # alike
        unclaimed = xp.ones(y[image, rows].shape, bool)  # windows whose winner has not been met yet
        for row in (0, 1):  # each as pairs of pixels, so that NumPy's loops run along the whole row
            wins = _pairs(x[image, both], row) == best
            for column in (0, 1):
                wins[:, :, column] &= unclaimed
                unclaimed ^= wins[:, :, column]
            target = _pairs(dx[image, both], row)
            xp.multiply(gradient, wins, out=target)
            if dskip is not None:
                target += _pairs(dskip[image, both], row)

    each_band(one_band, touches=(y, dy, x, dx) if dskip is None else (y, dy, x, dx, dskip))
    return dx


def _pairs(x, row):
    """The pixels of one image (H, W, C) that lie in this row, 0 or 1, of a window: (H // 2, W // 2, 2, C), a view."""
    height, width, channels = x.shape
    return x[row : height // 2 * 2 : 2, : width // 2 * 2].reshape(height // 2, width // 2, 2, channels)


def _corners(x):
    """The four (H // 2, W // 2, C) views of one image (H, W, C) that hold the same position of every window."""
    height, width = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    return [x[row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)]
