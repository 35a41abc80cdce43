"""Convolution as kh kw matrix products on shifted views of the image: no windows are copied.

With channels last, an image is a matrix: one row for each pixel, one column for each channel. A tap (u, v) of the
kernel is a small matrix (C, K) that multiplies the image shifted by u rows and v columns; and because the rows of the
image lie one behind the other, that shift is the flat matrix begun u W + v pixels later:

    y_flat = sum over u, v of x_flat[u W + v : ...] @ weight[u, v]          pixels as rows, W of them for each image row

The last kw - 1 pixels of each row mix the end of one row with the start of the next. They are not part of the output
and are left out when the band is copied to y. For dweight the same pixels get dy = 0. A 1x1 kernel is the case of one
plain product. Each thread takes some of the output channels, so that small images with many channels keep all threads
busy.
"""

from npunet.machine.backend import array_module
from npunet.machine.bands import band_height, ceil_div, each, row_bands, shares
from npunet.machine.memory import empty
from npunet.machine.products import matmul
from npunet.machine.shapes import crop_or_pad, output_shape
from npunet.machine.threads import get_num_threads
from npunet.ops.conv_algorithms.common import add_bias_relu, input_gradient, masked


def flat_bands(y, width):
    """(n, output rows, start of those rows in x_flat, number of flat pixels) for each band of y (N, H', W', K);
    `width` is that of the padded x.
    """
    for n, rows in row_bands(touches=(y, y)):  # the sum over taps, and y or dy
        yield n, rows, rows.start * width, (rows.stop - rows.start - 1) * width + y.shape[2]


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    y = empty(output_shape(x.shape, weight.shape, padding), x.dtype, xp)
    x = xp.ascontiguousarray(crop_or_pad(x, padding, padding))
    weight = xp.ascontiguousarray(weight)  # NumPy before 2.3 multiplies strided matrices without BLAS
    width = x.shape[2]

    def one_block(block):
        for n, rows, start, pixels in flat_bands(y, width):
            x_flat = x[n].reshape(-1, c)  # (H W, C)
            total = xp.zeros(((rows.stop - rows.start) * width, block.stop - block.start), dtype=x.dtype)
            for u in range(kh):
                for v in range(kw):
                    begin = start + u * width + v
                    shifted = x_flat[begin : begin + pixels]
                    total[:pixels] += matmul(shifted, weight[u, v, :, block])  # (pixels, C) @ (C, K)
            band = total.reshape(rows.stop - rows.start, width, -1)[:, : y.shape[2]]  # without the mixed pixels
            add_bias_relu(band, None if bias is None else bias[block], relu)
            y[n, rows, :, block] = band

    each(one_block, shares(k, x), x)
    return y


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    dy = masked(dy, y, relu)
    padded = xp.ascontiguousarray(crop_or_pad(x, padding, padding))
    width = padded.shape[2]
    dweight, dbias = xp.zeros(weight.shape, dtype=x.dtype), xp.zeros(k, dtype=x.dtype)

    def one_block(block):
        for n, rows, start, pixels in flat_bands(dy, width):
            x_flat = padded[n].reshape(-1, c)  # (H W, C)
            band = xp.zeros((rows.stop - rows.start, width, block.stop - block.start), dtype=x.dtype)
            band[:, : dy.shape[2]] = dy[n, rows, :, block]  # dy with zeros at the mixed pixels
            dy_flat = band.reshape(rows.stop * width - rows.start * width, -1)[:pixels]  # (pixels, K)
            for u in range(kh):
                for v in range(kw):
                    begin = start + u * width + v
                    shifted = x_flat[begin : begin + pixels]
                    dweight[u, v, :, block] += matmul(shifted.T, dy_flat)  # (C, pixels) @ (pixels, K)
            dbias[block] += dy_flat.sum(axis=0)

    each(one_block, shares(k, x), x)
    dx = input_gradient(forward, dy, weight, padding) if need_dx else None
    return dx, dweight, dbias


def scratch_bytes(x_shape, weight_shape, padding, itemsize):
    """Most bytes that forward or backward need for a moment besides x, y, weight and their gradients."""
    batch, height, width, k = output_shape(x_shape, weight_shape, padding)
    c, columns = weight_shape[2], x_shape[2] + 2 * padding
    rows = band_height(height, 2 * width * k * itemsize)
    block, threads = ceil_div(k, get_num_threads()), get_num_threads()
    each = 2 * rows * columns * block + c * block  # of a thread: the sum and one product; a product for dweight
    return (threads * each + batch * height * columns * k) * itemsize  # and dy with its border
