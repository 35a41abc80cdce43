"""Crop and concatenate (§2, Fig. 1, the grey arrows): the skip connections of the U.

Notation: upsampled (N, H, W, C), skip (N, Hs, Ws, Cs) with Hs >= H and Ws >= W, y (N, H, W, C + Cs).

The paper has "a concatenation with the correspondingly cropped feature map from the contracting path" (§2). "The
cropping is necessary due to the loss of border pixels in every convolution" (§2): the feature map of the contracting
path is larger than the upsampled one. Its central H x W part is taken:

    y = [upsampled, skip[:, top : top + H, left : left + W]]        top = (Hs - H) // 2,  left = (Ws - W) // 2

The upsampled channels come first, as in the network that the authors published. Backward: cropping is a
selection, so its adjoint puts the gradient back in place and leaves zeros where nothing was taken.
"""

from typing import NamedTuple

from npunet.errors import InputError
from npunet.machine import memory
from npunet.machine.backend import Array, array_module
from npunet.machine.bands import each_band
from npunet.machine.shapes import check_gradient, check_maps


class CropConcatContext(NamedTuple):
    """What crop_concat_backward needs: channels of the upsampled part, and where the skip connection was cropped."""

    channels: int
    y_shape: tuple
    skip_shape: tuple
    window: tuple
    dtype: object


def crop_concat_definition(upsampled: Array, skip: Array) -> Array:
    """The formula as loops over every element of y."""
    xp = array_module(upsampled)
    n, height, width, channels = upsampled.shape
    top, left = (skip.shape[1] - height) // 2, (skip.shape[2] - width) // 2
    y = xp.empty((n, height, width, channels + skip.shape[3]), upsampled.dtype)
    for image, row, column, channel in xp.ndindex(y.shape):
        if channel < channels:
            y[image, row, column, channel] = upsampled[image, row, column, channel]
        else:
            y[image, row, column, channel] = skip[image, top + row, left + column, channel - channels]
    return y


def crop_concat(upsampled: Array, skip: Array) -> tuple[Array, CropConcatContext]:
    """upsampled (N, H, W, C), skip (N, Hs, Ws, Cs) -> y (N, H, W, C + Cs), ctx.

    Raises InputError if these are no such arrays, or the skip is smaller than the upsampled map.
    """
    check_maps("crop_concat", upsampled=upsampled, skip=skip)
    n, height, width, channels = upsampled.shape
    if skip.shape[1] < height or skip.shape[2] < width:
        raise InputError(
            f"crop_concat: the skip connection {skip.shape} is smaller than the upsampled map {upsampled.shape}"
        )
    xp = array_module(upsampled)
    window = _central_window(skip.shape, height, width)
    central = skip[window]  # (N, H, W, Cs), a view
    y = memory.empty((n, height, width, channels + skip.shape[3]), upsampled.dtype, xp)

    def one_band(image, rows):
        y[image, rows, :, :channels] = upsampled[image, rows]
        y[image, rows, :, channels:] = central[image, rows]

    each_band(one_band, touches=(y, upsampled, central))
    return y, CropConcatContext(channels, y.shape, skip.shape, window, y.dtype)


def crop_concat_backward(dy: Array, ctx: CropConcatContext) -> tuple[Array, Array]:
    """dy (N, H, W, C + Cs) -> dupsampled (N, H, W, C), dskip (N, Hs, Ws, Cs)."""
    channels, y_shape, skip_shape, window, dtype = ctx
    check_gradient("crop_concat_backward", dy, y_shape, dtype)
    xp = array_module(dy)
    dupsampled = memory.empty((*dy.shape[:3], channels), dy.dtype, xp)
    dskip = memory.empty(skip_shape, dy.dtype, xp)
    _, down, across = window
    dskip[:, : down.start] = 0
    dskip[:, down.stop :] = 0

    def one_band(image, rows):
        dupsampled[image, rows] = dy[image, rows, :, :channels]
        target = dskip[image, down][rows]  # (rows, Ws, Cs)
        target[:, : across.start] = 0
        target[:, across] = dy[image, rows, :, channels:]
        target[:, across.stop :] = 0

    each_band(one_band, touches=(dy, dupsampled, dskip))
    return dupsampled, dskip


def _central_window(skip_shape, height, width):
    top, left = (skip_shape[1] - height) // 2, (skip_shape[2] - width) // 2
    return slice(None), slice(top, top + height), slice(left, left + width)
