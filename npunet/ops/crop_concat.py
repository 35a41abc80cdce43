"""Crop and concatenate (§2, Fig. 1, the grey arrows): the skip connections of the U.

Notation: upsampled (N, H, W, C), skip (N, Hs, Ws, Cs) with Hs >= H and Ws >= W, y (N, H, W, C + Cs).

The feature map of the contracting path is larger than the upsampled one, because valid convolutions have
cost the latter its border; its central H x W part is taken:

    y = [upsampled, skip[:, top : top + H, left : left + W]]        top = (Hs - H) // 2,  left = (Ws - W) // 2

The upsampled channels come first, as in the network that the authors published. Backward: cropping is a
selection, so its adjoint puts the gradient back in place and leaves zeros where nothing was taken.
"""

from npunet.backend import array_module


def crop_concat_definition(upsampled, skip):
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


def crop_concat(upsampled, skip):
    """upsampled (N, H, W, C), skip (N, Hs, Ws, Cs) -> y (N, H, W, C + Cs), ctx.

    Raises ValueError if the skip is smaller than the upsampled map.
    """
    n, height, width, channels = upsampled.shape
    if skip.shape[1] < height or skip.shape[2] < width:
        raise ValueError(f"crop_concat: the skip connection {skip.shape} is smaller than the upsampled map {upsampled.shape}")
    window = _central_window(skip.shape, height, width)
    y = array_module(upsampled).empty((n, height, width, channels + skip.shape[3]), upsampled.dtype)
    y[..., :channels] = upsampled
    y[..., channels:] = skip[window]
    return y, (channels, skip.shape, window)


def crop_concat_backward(dy, ctx):
    """dy (N, H, W, C + Cs) -> dupsampled (N, H, W, C), dskip (N, Hs, Ws, Cs)."""
    channels, skip_shape, window = ctx
    dskip = array_module(dy).zeros(skip_shape, dy.dtype)
    dskip[window] = dy[..., channels:]
    return dy[..., :channels].copy(), dskip


def _central_window(skip_shape, height, width):
    top, left = (skip_shape[1] - height) // 2, (skip_shape[2] - width) // 2
    return slice(None), slice(top, top + height), slice(left, left + width)
