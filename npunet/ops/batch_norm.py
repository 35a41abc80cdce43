"""Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167; not in the paper):
each channel to mean 0 and variance 1.

Notation: x (N, H, W, C); M = N H W pixels; mean m and variance v (C,) over all pixels of the batch; scale and shift
(C,) are learned.

    u = (x - m) / sqrt(v + eps)          y = scale u + shift,  then max(0, y) with relu

When the network is applied, m and v are fixed numbers (averages over the training, "running statistics"), and y is a
straight line in x. In training they depend on x, and so every pixel has an effect on every other pixel of its channel.

Backward, for one channel, with g = dL/dy (0 where a ReLU cut off) and r = 1 / sqrt(v + eps):

    dshift = sum g            dscale = sum g u            du = scale g

u depends on x directly, through m and through v:  u_j = (x_j - m) r,  dm/dx_i = 1/M,  dv/dx_i = 2 (x_i - m) / M,
dr/dv = -r^3 / 2:

    du_j/dx_i = r [i = j]  -  r / M  -  r u_i u_j / M
    dx_i = sum over j of du_j du_j/dx_i = scale r (g_i - dshift / M - u_i dscale / M)

In words: of the gradient, the part that would shift the channel and the part that would stretch it are taken out,
because normalisation undoes both. Hence dx sums to 0 over the pixels, and so does dx u.
"""

from collections.abc import Callable
from typing import NamedTuple

from npunet.machine import memory, ranks
from npunet.machine.backend import Array, array_module
from npunet.machine.bands import each_band, sum_over_bands
from npunet.machine.shapes import check_arrays, check_gradient, check_maps


class BatchNormContext(NamedTuple):
    """mean and variance (C,) float64 are also what running statistics are made of.

    `y` is kept only with ReLU, for its sign.
    """

    x: Array
    y: Array | None
    scale: Array
    mean: Array
    variance: Array
    eps: float


def batch_norm_definition(x: Array, scale: Array, shift: Array, eps: float = 1e-5) -> Array:
    """The formulas as loops over pixels and channels, with the statistics of the batch."""
    xp = array_module(x)
    n, height, width, channels = x.shape
    y = xp.empty(x.shape, x.dtype)
    for c in range(channels):
        mean = variance = 0
        for pixel in xp.ndindex(n, height, width):
            mean = mean + x[pixel][c] / (n * height * width)
        for pixel in xp.ndindex(n, height, width):
            variance = variance + (x[pixel][c] - mean) ** 2 / (n * height * width)
        for pixel in xp.ndindex(n, height, width):
            y[pixel + (c,)] = scale[c] * (x[pixel][c] - mean) / (variance + eps) ** 0.5 + shift[c]
    return y


def batch_norm(
    x: Array,
    scale: Array,
    shift: Array,
    mean: Array | None = None,
    variance: Array | None = None,
    *,
    eps: float = 1e-5,
    relu: bool = False,
) -> tuple[Array, BatchNormContext]:
    """x (N, H, W, C), scale and shift (C,) -> y like x, ctx.

    mean and variance (C,) are those of the batch unless given: running statistics, to apply a network; or those of an
    earlier pass over the same batch, from its ctx. The backward pass is that of statistics which depend on x.
    Raises InputError if these are no arrays.
    """
    check_maps("batch_norm", x=x)
    check_arrays("batch_norm", scale=scale, shift=shift, mean=mean, variance=variance)
    xp = array_module(x)
    n, height, width, channels = x.shape
    if mean is None or variance is None:
        mean, variance = ranks.moments(*moments(x))
    factor = scale / xp.sqrt(variance + eps)  # (C,): y = factor x + offset
    factor, offset = _rows(factor, width, x.dtype), _rows(shift - factor * mean, width, x.dtype)
    y = memory.empty(x.shape, x.dtype, xp)

    def one_band(image, rows):
        band = y[image, rows].reshape(-1, width * channels)  # (rows, W*C), the same memory
        xp.multiply(x[image, rows].reshape(band.shape), factor, out=band)
        band += offset
        if relu:
            xp.maximum(band, 0, out=band)

    each_band(one_band, touches=(y, x))
    return y, BatchNormContext(x, y if relu else None, scale, mean, variance, eps)


def batch_norm_backward(dy: Array, ctx: BatchNormContext) -> tuple[Array, Array, Array]:
    """dy (N, H, W, C) -> dx like x, dscale (C,), dshift (C,)."""
    check_gradient("batch_norm_backward", dy, ctx.x.shape, ctx.x.dtype)
    return backward(dy, ctx, ranks.mean)  # m and v depend on the pixels of all ranks


def backward(dy: Array, ctx: BatchNormContext, over_ranks: Callable) -> tuple[Array, Array, Array]:
    """`batch_norm_backward`; over_ranks makes sums over this rank's pixels to means over the ranks."""
    x, y, scale, mean, variance, eps = ctx
    dshift, dscale, g = _gradient_sums(dy, x, y, mean)
    pixels, inverse = x.size // x.shape[3], 1 / array_module(dy).sqrt(variance + eps)
    dscale = dscale * inverse
    own = dscale.astype(x.dtype), dshift.astype(x.dtype)
    dscale, dshift = over_ranks(dscale), over_ranks(dshift)
    # dx = scale r (g - dshift / M - (x - m) r dscale / M), sorted by g, x and constants:
    factor_g = scale * inverse
    factor_x = -factor_g * inverse * dscale / pixels
    offset = -factor_g * dshift / pixels - factor_x * mean
    return _sum_of_lines(g, x, factor_g, factor_x, offset), *own


def _gradient_sums(dy, x, y, mean):
    """Sums over all pixels of g and g (x - mean), two (C,) float64; and g, dy masked by the ReLU, a new array."""
    xp = array_module(dy)
    n, height, width, channels = x.shape
    masked, means = memory.empty(x.shape, dy.dtype, xp), _rows(mean, width, x.dtype)

    def one_band(image, rows):
        g = masked[image, rows].reshape(-1, width * channels)  # (rows, W*C)
        if y is None:
            g[...] = dy[image, rows].reshape(g.shape)
        else:
            xp.multiply(dy[image, rows].reshape(g.shape), y[image, rows].reshape(g.shape) > 0, out=g)
        deviation = memory.scratch("batch norm", g.shape, g.dtype, xp)
        xp.subtract(x[image, rows].reshape(g.shape), means, out=deviation)
        deviation *= g
        return _channel_sums(g, channels), _channel_sums(deviation, channels)

    read = (dy, x) if y is None else (dy, y, x)
    sums = sum_over_bands(one_band, touches=(masked, *read, x))  # x once more: the deviations are as large
    return *sums, masked


def _sum_of_lines(g, x, factor_g, factor_x, offset):
    """factor_g g + factor_x x + offset, in the memory of g; the factors are (C,)."""
    xp = array_module(g)
    n, height, width, channels = x.shape
    factor_g, factor_x, offset = (_rows(vector, width, x.dtype) for vector in (factor_g, factor_x, offset))

    def one_band(image, rows):
        band = g[image, rows].reshape(-1, width * channels)  # (rows, W*C)
        band *= factor_g
        band += offset
        scaled = memory.scratch("batch norm", band.shape, band.dtype, xp)
        band += xp.multiply(x[image, rows].reshape(band.shape), factor_x, out=scaled)

    each_band(one_band, touches=(g, x, x))  # x twice: what is scaled is as large
    return g


def moments(x):
    """Mean and variance over all pixels: two (C,) float64, from one reading of x.

    Each band, while it is in the cache, gives its own mean and its squared deviations from that (no difference of large
    sums); a band whose mean is off by d adds pixels * d^2 when they are put together (Chan, Golub and LeVeque 1983).
    """
    xp = array_module(x)
    n, height, width, channels = x.shape

    def one_band(image, rows):
        band = x[image, rows].reshape(-1, width * channels)  # (rows, W*C)
        pixels = len(band) * width
        mean = _channel_sums(band, channels) / pixels  # (C,)
        deviation = memory.scratch("batch norm", band.shape, x.dtype, xp)
        xp.subtract(band, _rows(mean, width, x.dtype), out=deviation)
        deviation *= deviation
        return pixels * mean, pixels * mean * mean, _channel_sums(deviation, channels)

    total, squares, deviations = sum_over_bands(one_band, touches=(x, x))  # x twice: the deviations are as large
    pixels = n * height * width
    mean = total / pixels
    return mean, deviations / pixels + xp.maximum(squares / pixels - mean * mean, 0)


def _rows(vector, width, dtype):
    """(C,) -> (W*C,): the number of each channel repeated for all pixels of a row, so that NumPy works on whole rows
    at once.
    """
    xp = array_module(vector)
    return xp.broadcast_to(vector.astype(dtype), (width, len(vector))).reshape(-1)


def _channel_sums(band, channels):
    """(rows, W*C) -> (C,) float64. A product with a row of ones: BLAS adds three times as fast as sum does."""
    xp = array_module(band)
    pixels = band.reshape(-1, channels)  # (rows*W, C)
    return (xp.ones(len(pixels), band.dtype) @ pixels).astype("float64")
