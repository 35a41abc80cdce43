"""Convolution of an image with few channels, as the first layer's:
im2col lying on its side, with the bias as one more tap.

A grey image has windows of nine numbers, and gathering nine here and nine there costs more than multiplying them. So
the matrix is made the other way round, a row for each tap of the kernel: then each row is the picture itself, shifted,
and copied in long pieces.

    rows[(u, v, c), (i, j)] = x[i + u, j + v, c]         (kh kw C, pixels), and below it a row of ones
    y = rows^T @ [weight; bias]                          (pixels, K)
    [dweight; dbias] = rows @ dy                         (kh kw C + 1, K)

The ones turn the bias into the weight of a tap that always sees 1, so neither the bias nor its gradient needs a pass of
its own. Each thread takes bands of output rows.
"""

from npunet.machine.backend import array_module
from npunet.machine.bands import band_height, each_band, sum_over_bands
from npunet.machine.memory import empty, scratch
from npunet.machine.products import matmul
from npunet.machine.shapes import crop_or_pad, output_shape
from npunet.machine.threads import get_num_threads
from npunet.ops.conv_algorithms import im2col
from npunet.ops.conv_algorithms.common import input_gradient


def taps(patches, n, rows):
    """The matrix `rows` of a band: (kh kw C + 1, pixels)."""
    windows = patches[n, rows].transpose(2, 3, 4, 0, 1)  # (kh, kw, C, rows, W')
    pixels = windows.shape[3] * windows.shape[4]
    matrix = scratch("taps", (windows.size // pixels + 1, pixels), patches.dtype, array_module(patches))
    matrix[:-1].reshape(windows.shape)[...] = windows
    matrix[-1] = 1
    return matrix


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    y = empty(output_shape(x.shape, weight.shape, padding), x.dtype, xp)
    patches = im2col.windows(crop_or_pad(x, padding, padding), kh, kw)  # (N, H', W', kh, kw, C)
    last = xp.zeros((1, k), dtype=x.dtype) if bias is None else bias.reshape(1, k)
    matrix = xp.concatenate([weight.reshape(-1, k), last])  # (kh kw C + 1, K)

    def one_band(n, rows):
        result = y[n, rows].reshape(-1, k)  # a view: rows are contiguous in y
        matmul(taps(patches, n, rows).T, matrix, out=result)
        if relu:
            xp.maximum(result, 0, out=result)

    each_band(one_band, touches=(y, y))  # written by the product, read again by ReLU
    return y


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    dz = empty(dy.shape, dy.dtype, xp) if relu and need_dx else dy  # dy before the ReLU
    patches = im2col.windows(crop_or_pad(x, padding, padding), kh, kw)  # (N, H', W', kh, kw, C)

    def one_band(n, rows):
        dresult = dz[n, rows]
        if relu:
            dresult = dresult if need_dx else scratch("masked", dresult.shape, dy.dtype, xp)
            xp.multiply(dy[n, rows], y[n, rows] > 0, out=dresult)
        return (matmul(taps(patches, n, rows), dresult.reshape(-1, k)),)  # (kh kw C + 1, pixels) @ (pixels, K)

    (total,) = sum_over_bands(one_band, touches=(dy, dy))
    dx = input_gradient(im2col.forward, dz, weight, padding) if need_dx else None
    return dx, total[:-1].reshape(weight.shape), total[-1]


def scratch_bytes(x_shape, weight_shape, padding, itemsize):
    """Most bytes that forward or backward need for a moment besides x, y, weight and their gradients."""
    kh, kw, c, k = weight_shape
    _, height, width, _ = output_shape(x_shape, weight_shape, padding)
    rows = band_height(height, 2 * width * k * itemsize)
    taps_and_mask = get_num_threads() * rows * width * (kh * kw * c + 1 + k) * itemsize
    dx = im2col.scratch_bytes(x_shape, (kh, kw, k, c), kh // 2, itemsize)
    return max(taps_and_mask, dx)
