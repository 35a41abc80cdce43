"""Pad and concatenate: the skip connections of padded networks, where the upsampled map is the smaller one.

Notation: upsampled (N, H, W, C), skip (N, Hs, Ws, Cs) with Hs >= H and Ws >= W, y (N, Hs, Ws, Cs + C).

Padded convolutions keep the size, but pooling an odd one loses a row: 25 -> 12 -> 24. So that any image can be used,
the upsampled map gets the missing rows and columns as zeros, half of them before it and the rest after:

    y = [skip, upsampled with zeros around]        top = (Hs - H) // 2,  left = (Ws - W) // 2

The skip's channels come first, as in milesial/Pytorch-UNet. Backward: zeros are constants, so the gradient that fell on
them is dropped. The paper does it the other way round, see crop_concat.py: there valid convolutions make the skip the
larger one, and it is cropped.
"""

from typing import NamedTuple

from npunet.errors import InputError
from npunet.machine import memory
from npunet.machine.backend import Array, array_module
from npunet.machine.bands import each_band
from npunet.machine.shapes import check_gradient, check_maps


class PadConcatContext(NamedTuple):
    """What pad_concat_backward needs: channels of the skip, and the rows and columns where the upsampled map lies."""

    skip_channels: int
    y_shape: tuple
    down: slice
    across: slice
    dtype: object


def pad_concat_definition(upsampled: Array, skip: Array) -> Array:
    """The formula as loops over every element of y."""
    xp = array_module(upsampled)
    _, height, width, channels = upsampled.shape
    n, skip_height, skip_width, skip_channels = skip.shape
    top, left = (skip_height - height) // 2, (skip_width - width) // 2
    y = xp.zeros((n, skip_height, skip_width, skip_channels + channels), skip.dtype)
    for image, row, column, channel in xp.ndindex(y.shape):
        if channel < skip_channels:
            y[image, row, column, channel] = skip[image, row, column, channel]
        elif 0 <= row - top < height and 0 <= column - left < width:
            y[image, row, column, channel] = upsampled[image, row - top, column - left, channel - skip_channels]
    return y


def pad_concat(upsampled: Array, skip: Array) -> tuple[Array, PadConcatContext]:
    """upsampled (N, H, W, C), skip (N, Hs, Ws, Cs) -> y (N, Hs, Ws, Cs + C), ctx.

    Raises InputError if these are no such arrays, or the skip is smaller than the upsampled map.
    """
    check_maps("pad_concat", upsampled=upsampled, skip=skip)
    n, height, width, channels = upsampled.shape
    if skip.shape[1] < height or skip.shape[2] < width:
        raise InputError(
            f"pad_concat: the skip connection {skip.shape} is smaller than the upsampled map {upsampled.shape}"
        )
    xp = array_module(upsampled)
    skip_channels, top, left = skip.shape[3], (skip.shape[1] - height) // 2, (skip.shape[2] - width) // 2
    down, across = slice(top, top + height), slice(left, left + width)
    y = memory.empty((*skip.shape[:3], skip_channels + channels), skip.dtype, xp)
    if upsampled.shape[:3] != skip.shape[:3]:
        y[..., skip_channels:] = 0

    def one_band(image, rows):
        y[image, rows, :, :skip_channels] = skip[image, rows]
        first, last = max(rows.start, down.start), min(rows.stop, down.stop)  # rows with an upsampled part
        if first < last:
            y[image, first:last, across, skip_channels:] = upsampled[image, first - top : last - top]

    each_band(one_band, touches=(y, skip, upsampled))
    return y, PadConcatContext(skip_channels, y.shape, down, across, y.dtype)


def pad_concat_backward(dy: Array, ctx: PadConcatContext) -> tuple[Array, Array]:
    """dy (N, Hs, Ws, Cs + C) -> dupsampled (N, H, W, C), dskip (N, Hs, Ws, Cs)."""
    skip_channels, y_shape, down, across, dtype = ctx
    check_gradient("pad_concat_backward", dy, y_shape, dtype)
    xp = array_module(dy)
    n, skip_height, skip_width, channels = dy.shape
    dskip = memory.empty((n, skip_height, skip_width, skip_channels), dy.dtype, xp)
    dupsampled = memory.empty(
        (n, down.stop - down.start, across.stop - across.start, channels - skip_channels), dy.dtype, xp
    )

    def one_band(image, rows):
        dskip[image, rows] = dy[image, rows, :, :skip_channels]
        first, last = max(rows.start, down.start), min(rows.stop, down.stop)
        if first < last:
            dupsampled[image, first - down.start : last - down.start] = dy[image, first:last, across, skip_channels:]

    each_band(one_band, touches=(dy, dskip, dupsampled))
    return dupsampled, dskip
