"""Convolution as kh kw matrix products on shifted views of the image: no windows are copied.

With channels last, an image is a matrix: one row for each pixel, one column for each channel. A tap (u, v) of the kernel is a small
matrix (C, K) that multiplies the image shifted by u rows and v columns; and because the rows of the image lie one behind the other,
that shift is the flat matrix begun u W + v pixels later:

    y_flat = sum over u, v of x_flat[u W + v : ...] @ weight[u, v]           pixels as rows, W of them for each image row

The last kw - 1 pixels of each row mix the end of one row with the start of the next. They are not part of the output and are
left out when the band is copied to y. For dweight the same pixels get dy = 0. A 1x1 kernel is the case of one plain product.
"""

from npunet.backend import array_module
from npunet.ops.conv_algorithms.common import add_bias_relu, bands, crop_or_pad, input_gradient, masked, output_shape

BAND_BYTES = 1 << 19                                     # of one band of y or dy: with its x it fits a core's level-2 cache


def flat_bands(x, weight):
    """(n, output rows, start of those rows in x_flat, number of flat pixels) for each band of the padded x (N, H, W, C)."""
    batch, height, width, _ = output_shape(x.shape, weight.shape, 0)
    for n in range(batch):
        for rows in bands(height, BAND_BYTES // (x.shape[2] * weight.shape[3] * x.itemsize)):
            yield n, rows, rows.start * x.shape[2], (rows.stop - rows.start - 1) * x.shape[2] + width


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    y = xp.empty(output_shape(x.shape, weight.shape, padding), dtype=x.dtype)
    x = xp.ascontiguousarray(crop_or_pad(x, padding, padding))
    width = x.shape[2]
    for n, rows, start, pixels in flat_bands(x, weight):
        x_flat = x[n].reshape(-1, c)                                         # (H W, C)
        total = xp.zeros(((rows.stop - rows.start) * width, k), dtype=x.dtype)
        for u in range(kh):
            for v in range(kw):
                begin = start + u * width + v
                total[:pixels] += x_flat[begin:begin + pixels] @ weight[u, v]          # (pixels, C) @ (C, K)
        band = total.reshape(-1, width, k)[:, :y.shape[2]]                   # (rows, W', K): without the mixed pixels
        add_bias_relu(band, bias, relu)
        y[n, rows] = band
    return y


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    dy = masked(dy, y, relu)
    x = xp.ascontiguousarray(crop_or_pad(x, padding, padding))
    width = x.shape[2]
    dweight, dbias = xp.zeros(weight.shape, dtype=x.dtype), xp.zeros(k, dtype=x.dtype)
    for n, rows, start, pixels in flat_bands(x, weight):
        x_flat = x[n].reshape(-1, c)                                         # (H W, C)
        band = xp.zeros((rows.stop - rows.start, width, k), dtype=x.dtype)   # dy with zeros at the mixed pixels
        band[:, :dy.shape[2]] = dy[n, rows]
        dy_flat = band.reshape(-1, k)[:pixels]                               # (pixels, K)
        for u in range(kh):
            for v in range(kw):
                begin = start + u * width + v
                dweight[u, v] += x_flat[begin:begin + pixels].T @ dy_flat              # (C, pixels) @ (pixels, K)
        dbias += dy_flat.sum(axis=0)
    dx = input_gradient(forward, dy, weight, padding) if need_dx else None
    return dx, dweight, dbias
