"""Instance normalisation (Ulyanov, Vedaldi, Lempitsky 2016, arXiv 1607.08022; not in the paper):
each channel of each picture to mean 0 and variance 1.

It is batch normalisation of every picture as a batch of its own, in training and later alike (derivation in
ops/batch_norm.py, with M = H W). What a network makes of a picture then does not depend on the picture's contrast. For
style transfer that is what is wanted: the contrast of the result is the style's.

No statistics are shared: not by the pictures of a batch, and not by the processes that train together.
"""

from npunet.machine.backend import Array, array_module
from npunet.machine.shapes import check_arrays, check_gradient, check_maps
from npunet.ops.batch_norm import BatchNormContext, backward, batch_norm, moments


def instance_norm_definition(x: Array, scale: Array, shift: Array, eps: float = 1e-5) -> Array:
    """The formulas as loops over pictures, channels and pixels."""
    xp = array_module(x)
    n, height, width, channels = x.shape
    y = xp.empty(x.shape, x.dtype)
    for image, c in xp.ndindex(n, channels):
        mean = variance = 0
        for row, column in xp.ndindex(height, width):
            mean = mean + x[image, row, column, c] / (height * width)
        for row, column in xp.ndindex(height, width):
            variance = variance + (x[image, row, column, c] - mean) ** 2 / (height * width)
        for row, column in xp.ndindex(height, width):
            u = (x[image, row, column, c] - mean) / (variance + eps) ** 0.5
            y[image, row, column, c] = scale[c] * u + shift[c]
    return y


def instance_norm(
    x: Array,
    scale: Array,
    shift: Array,
    mean: Array | None = None,
    variance: Array | None = None,
    *,
    eps: float = 1e-5,
    relu: bool = False,
) -> tuple[Array, list[BatchNormContext]]:
    """x (N, H, W, C), scale and shift (C,) -> y like x, ctx: one for each picture.

    mean and variance (C,) are those of each picture unless given: of a whole picture, for its tiles. The backward pass
    is that of statistics which depend on x. Raises InputError if these are no arrays.
    """
    check_maps("instance_norm", x=x)
    check_arrays("instance_norm", scale=scale, shift=shift, mean=mean, variance=variance)
    found = []
    for image in range(len(x)):
        alone = x[image : image + 1]  # (1, H, W, C)
        statistics = moments(alone) if mean is None or variance is None else (mean, variance)
        found.append(batch_norm(alone, scale, shift, *statistics, eps=eps, relu=relu))
    return joined([y for y, _ in found]), [ctx for _, ctx in found]


def instance_norm_backward(dy: Array, ctx: list[BatchNormContext]) -> tuple[Array, Array, Array]:
    """dy (N, H, W, C) -> dx like x, dscale (C,), dshift (C,): sums over the pictures."""
    check_gradient("instance_norm_backward", dy, (len(ctx), *ctx[0].x.shape[1:]), ctx[0].x.dtype)
    found = [backward(dy[image : image + 1], each, lambda sums: sums) for image, each in enumerate(ctx)]
    dx, dscale, dshift = zip(*found)
    return joined(dx), sum(dscale[1:], dscale[0]), sum(dshift[1:], dshift[0])


def joined(parts):
    """Arrays (1, H, W, C) -> (N, H, W, C); one alone is not copied."""
    return parts[0] if len(parts) == 1 else array_module(parts[0]).concatenate(parts)
