"""2x2 up-convolution (§2, Fig. 1, the green arrows): doubles height and width and maps C to K channels.

Notation: x (N, H, W, C), weight (2, 2, C, K), bias (K,), y (N, 2H, 2W, K).

Every input pixel is spread over its own 2x2 block of output pixels, each tap (a, b) of the kernel with a
matrix of its own. The blocks do not overlap, so an up-convolution is four matrix products:

    y[n, 2i+a, 2j+b, :] = x[n, i, j, :] @ weight[a, b] + bias

Backward, by the chain rule through these four products, with dy_ab = dy[:, a::2, b::2, :]:

    dx = sum over a, b of  dy_ab @ weight[a, b]^T
    dweight[a, b] = x^T @ dy_ab   summed over all pixels            dbias = dy summed over all pixels

It is the adjoint ("transposed") of the 2x2 convolution with stride 2 that has the same weights, which is
why it is also called transposed convolution: <up_conv(x), z> = <x, strided_conv(z)> for all x and z.
"""

from npunet.backend import array_module

TAPS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def up_conv2d_definition(x, weight, bias):
    """The formula as loops over every pixel, tap and pair of channels."""
    xp = array_module(x)
    n, height, width, _ = x.shape
    y = xp.zeros((n, 2 * height, 2 * width, weight.shape[3]), x.dtype)
    for image, row, column in xp.ndindex(n, height, width):
        for a, b in TAPS:
            for k in range(weight.shape[3]):
                total = bias[k]
                for c in range(x.shape[3]):
                    total = total + x[image, row, column, c] * weight[a, b, c, k]
                y[image, 2 * row + a, 2 * column + b, k] = total
    return y


def up_conv2d(x, weight, bias=None):
    """x (N, H, W, C), weight (2, 2, C, K), bias (K,) or None -> y (N, 2H, 2W, K), ctx.

    Raises ValueError if the shapes do not belong together.
    """
    if weight.shape[:2] != (2, 2) or weight.shape[2] != x.shape[3]:
        raise ValueError(f"up_conv2d: weight {weight.shape} does not fit x {x.shape}; expected (2, 2, {x.shape[3]}, C_out)")
    n, height, width, _ = x.shape
    y = array_module(x).empty((n, 2 * height, 2 * width, weight.shape[3]), x.dtype)
    for a, b in TAPS:
        y[:, a::2, b::2] = x @ weight[a, b]               # (N, H, W, C) @ (C, K)
    if bias is not None:
        y += bias
    return y, (x, weight, bias is not None)


def up_conv2d_backward(dy, ctx):
    """dy (N, 2H, 2W, K) -> dx (N, H, W, C), dweight (2, 2, C, K), dbias (K,) or None."""
    x, weight, has_bias = ctx
    xp = array_module(dy)
    pixels = x.reshape(-1, x.shape[3])                    # (N*H*W, C)
    dx = xp.zeros(x.shape, dy.dtype)
    dweight = xp.empty(weight.shape, dy.dtype)
    for a, b in TAPS:
        dy_ab = xp.ascontiguousarray(dy[:, a::2, b::2])   # (N, H, W, K)
        dx += dy_ab @ weight[a, b].T
        dweight[a, b] = pixels.T @ dy_ab.reshape(-1, dy.shape[3])
    dbias = dy.sum(axis=(0, 1, 2)) if has_bias else None
    return dx, dweight, dbias
