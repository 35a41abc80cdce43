"""Batch normalisation on a GPU: four kernels, and between them what is done with one number for each channel.

The derivation is in npunet/ops/batch_norm.py, with the names used here.
"""

from typing import NamedTuple

from npunet.gpu.cuda import CudaFile
from npunet.gpu.kernels import BLOCKS, add_up
from npunet.machine import ranks
from npunet.machine.backend import array_module
from npunet.machine.shapes import check_arrays, check_gradient, check_maps

KERNELS = CudaFile("batch_norm")


class BatchNormContext(NamedTuple):
    """As in npunet/ops/batch_norm.py."""

    x: object
    y: object
    scale: object
    mean: object
    variance: object
    eps: float


def batch_norm(x, scale, shift, mean=None, variance=None, *, eps=1e-5, relu=False):
    """x (N, H, W, C), scale and shift (C,) -> y like x, ctx; mean and variance (C,) are the batch's unless given."""
    check_maps("batch_norm", x=x)
    check_arrays("batch_norm", scale=scale, shift=shift, mean=mean, variance=variance)
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    if mean is None:
        mean, variance = ranks.moments(*moments(x))
    factor = scale / xp.sqrt(variance + eps)  # (C,): y = factor x + offset
    y = normalise(x, factor, shift - factor * mean, relu)
    return y, BatchNormContext(x, y if relu else None, scale, mean, variance, eps)


def batch_norm_backward(dy, ctx):
    """dy (N, H, W, C) -> dx like x, dscale (C,), dshift (C,)."""
    x, y, scale, mean, variance, eps = ctx
    check_gradient("batch_norm_backward", dy, x.shape, x.dtype)
    xp = array_module(dy)
    dy, pixels = xp.ascontiguousarray(dy), x.size // x.shape[3]
    dshift, dscale = gradient_sums(dy, x, y, mean)
    inverse = 1 / xp.sqrt(variance + eps)  # r
    dscale = dscale * inverse
    own = dscale.astype(x.dtype), dshift.astype(x.dtype)
    dscale, dshift = ranks.mean(dscale), ranks.mean(dshift)
    factor_g = scale * inverse
    factor_x = -factor_g * inverse * dscale / pixels
    offset = -factor_g * dshift / pixels - factor_x * mean
    dx = normalise_backward(dy, x, y, factor_g, factor_x, offset)
    return dx, *own


def moments(x):
    """Mean and variance over all pixels of x (..., C): two (C,) float64.

    Deviations from the first pixel lose nothing where the mean is large.
    """
    xp, pixels = array_module(x), x.size // x.shape[-1]
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
    pixels = x.size // channels
    rows = -(-pixels // BLOCKS)
    partial = xp.empty((-(-pixels // rows), 2 * channels), dtype="float64")
    total = xp.empty((2 * channels,), dtype="float64")
    KERNELS.launch(
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
    y = array_module(x).empty(x.shape, dtype=x.dtype)
    factor, offset = factor.astype(x.dtype), offset.astype(x.dtype)
    KERNELS.launch("normalise", y.size, x, factor, offset, y, y.size, y.shape[-1], int(relu))
    return y


def normalise_backward(dy, x, y, factor_g, factor_x, offset):
    """factor_g g + factor_x x + offset, with g as in `gradient_sums`."""
    dx = array_module(x).empty(x.shape, dtype=x.dtype)
    KERNELS.launch(
        "normalise_backward",
        dx.size,
        dy,
        x,
        dy if y is None else y,
        *(vector.astype(x.dtype) for vector in (factor_g, factor_x, offset)),
        dx,
        dx.size,
        dx.shape[-1],
        int(y is not None),
    )
    return dx
