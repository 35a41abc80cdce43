"""2x2 up-convolution (§2, Fig. 1, the green arrows): doubles height and width and maps C to K channels.

"Every step in the expansive path consists of an upsampling of the feature map followed by a 2x2 convolution" (§2),
which "halves the number of feature channels" (§2): K = C / 2 there.

Notation: x (N, H, W, C), weight (2, 2, C, K), bias (K,), y (N, 2H, 2W, K).

Every input pixel is spread over its own 2x2 block of output pixels, each tap (a, b) of the kernel with a
matrix of its own. The blocks do not overlap, so an up-convolution is four matrix products:

    y[n, 2i+a, 2j+b, :] = x[n, i, j, :] @ weight[a, b] + bias

or one, x @ matrix, with the four side by side, matrix (C, 2*2*K), whose columns (a, b, k) are the blocks of pixels.
Backward, by the chain rule, with the blocks of dy rearranged into such columns:

    dx = columns @ matrix^T          dmatrix = x^T @ columns          dbias = dy summed over all pixels

It is the adjoint ("transposed") of the 2x2 convolution with stride 2 that has the same weights, which is
why it is also called transposed convolution: <up_conv(x), z> = <x, strided_conv(z)> for all x and z.
"""

from typing import NamedTuple

from npunet.errors import InputError
from npunet.machine import memory
from npunet.machine.backend import Array, array_module
from npunet.machine.bands import ceil_div, each, row_bands, shared_matmul, sum_over, sum_over_bands
from npunet.machine.products import matmul
from npunet.machine.shapes import check_arrays, check_gradient, check_maps

FEWEST_PIXELS = 512  # of a band: the matrix is read again for each
TAPS = [(0, 0), (0, 1), (1, 0), (1, 1)]


class UpConvolutionContext(NamedTuple):
    """What up_conv2d_backward needs."""

    x: Array
    weight: Array
    has_bias: bool


def up_conv2d_definition(x: Array, weight: Array, bias: Array) -> Array:
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


def up_conv2d(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, UpConvolutionContext]:
    """x (N, H, W, C), weight (2, 2, C, K), bias (K,) or None -> y (N, 2H, 2W, K), ctx.

    Raises InputError if these are no arrays, or their shapes do not belong together.
    """
    check_maps("up_conv2d", x=x)
    check_arrays("up_conv2d", weight=weight, bias=bias)
    if weight.ndim != 4 or weight.shape[:3] != (2, 2, x.shape[3]):
        raise InputError(
            f"up_conv2d: weight {weight.shape} does not fit x {x.shape}; expected (2, 2, {x.shape[3]}, C_out)"
        )
    xp = array_module(x)
    n, height, width, channels = x.shape
    outputs = weight.shape[3]
    if bias is not None and bias.shape != (outputs,):
        raise InputError(f"up_conv2d: bias has shape {bias.shape}; expected ({outputs},)")
    if weight.dtype != x.dtype:
        raise InputError(f"up_conv2d: x is {x.dtype} but weight {weight.dtype}; convert with astype")
    y = memory.empty((n, 2 * height, 2 * width, outputs), x.dtype, xp)
    blocks = y.reshape(n, height, 2, width, 2, outputs)  # the same memory

    def one_part(part):
        (image, rows), (a, b) = part
        pixels = x[image, rows]  # (rows, W, C)
        product = memory.scratch("product", (*pixels.shape[:2], outputs), x.dtype, xp)
        matmul(pixels.reshape(-1, channels), weight[a, b], out=product.reshape(-1, outputs))  # (rows*W, C) @ (C, K)
        xp.add(product, 0 if bias is None else bias, out=blocks[image, rows, a, :, b])

    few = n * height * width <= FEWEST_PIXELS  # then only the taps are shared among threads
    bands = [(image, slice(None)) for image in range(n)] if few else row_bands((x, y), ceil_div(FEWEST_PIXELS, width))
    each(one_part, [(band, tap) for band in bands for tap in TAPS], x)
    return y, UpConvolutionContext(x, weight, bias is not None)


def up_conv2d_backward(dy: Array, ctx: UpConvolutionContext) -> tuple[Array, Array, Array | None]:
    """dy (N, 2H, 2W, K) -> dx (N, H, W, C), dweight (2, 2, C, K), dbias (K,) or None."""
    check_arrays("up_conv2d_backward", dy=dy)  # ctx may come from a GPU, and only an array dy would have led there
    x, weight, has_bias = ctx
    xp = array_module(dy)
    n, height, width, channels = x.shape
    outputs = weight.shape[3]
    check_gradient("up_conv2d_backward", dy, (n, 2 * height, 2 * width, outputs), x.dtype)
    if n * height * width <= FEWEST_PIXELS:
        dx, dweight, dbias = _backward_by_taps(dy, x, weight)
        return dx, dweight, dbias if has_bias else None
    columns = memory.empty((n, height, width, 2, 2, outputs), dy.dtype, xp)

    def one_band(image, rows):
        block = dy[image, 2 * rows.start : 2 * rows.stop].reshape(-1, 2, width, 2, outputs)  # (rows, a, W, b, K)
        columns[image, rows] = block.swapaxes(1, 2)
        return [columns[image, rows].sum(axis=(0, 1, 2, 3))] if has_bias else []

    dbias = sum_over_bands(one_band, touches=(columns, dy))
    columns = columns.reshape(-1, 4 * outputs)  # (N*H*W, 2*2*K)
    dx = memory.empty(x.shape, dy.dtype, xp)
    shared_matmul(columns, _as_matrix(weight).T, dx.reshape(-1, channels))  # (N*H*W, 2*2*K) @ (2*2*K, C)
    dmatrix = xp.empty((channels, 4 * outputs), dy.dtype)
    shared_matmul(x.reshape(-1, channels).T, columns, dmatrix)  # (C, N*H*W) @ (N*H*W, 2*2*K)
    dweight = xp.ascontiguousarray(dmatrix.reshape(channels, 2, 2, outputs).transpose(1, 2, 0, 3))
    return dx, dweight, dbias[0] if has_bias else None


def _backward_by_taps(dy, x, weight):
    """dx, dweight, dbias for few pixels, where putting the taps of a large kernel side by side costs too much."""
    xp = array_module(dy)
    n, height, width, channels = x.shape
    pixels, dweight = x.reshape(-1, channels), xp.empty(weight.shape, dy.dtype)
    blocks = dy.reshape(n, height, 2, width, 2, -1)

    def one_tap(tap):
        a, b = tap
        dtap = xp.ascontiguousarray(blocks[:, :, a, :, b]).reshape(len(pixels), -1)  # (N*H*W, K)
        matmul(pixels.T, dtap, out=dweight[a, b])  # (C, N*H*W) @ (N*H*W, K)
        return matmul(dtap, weight[a, b].T), dtap.sum(axis=0)  # (N*H*W, K) @ (K, C)

    dx, dbias = sum_over(one_tap, TAPS, dy)
    return dx.reshape(x.shape), dweight, dbias


def _as_matrix(weight):
    """(2, 2, C, K) -> (C, 2*2*K): the four taps side by side."""
    return weight.transpose(2, 0, 1, 3).reshape(weight.shape[2], -1)
