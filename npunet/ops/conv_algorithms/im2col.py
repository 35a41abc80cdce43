"""Convolution as one matrix product: each window becomes a row, the kernel becomes a matrix ("im2col").

    cols[(i, j), (u, v, c)] = x[i + u, j + v, c]         (pixels, kh kw C)
    y = cols @ weight as a matrix (kh kw C, K)           (pixels, K)

and its gradients are those of a matrix product: dweight = cols^T dy. For dx the rows dcols = dy @ weight^T would have to be added
back into overlapping windows; the same sum, read per pixel of x instead of per window, is a convolution of dy with the
flipped kernel, so the forward pass is used again. cols is kh kw times as large as x. It is therefore made for a band of
output rows at a time, never whole.

Source: Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing" (2006).
"""

from npunet.backend import array_module
from npunet.ops.conv_algorithms.common import add_bias_relu, bands, crop_or_pad, input_gradient, masked, output_shape

BAND_BYTES = 1 << 20                                     # cols of one band: half of a core's level-2 cache


def windows(x, kh, kw):
    """All kh x kw windows of x (N, H, W, C) as a view (N, H', W', kh, kw, C)."""
    view = array_module(x).lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))      # (N, H', W', C, kh, kw)
    return view.transpose(0, 1, 2, 4, 5, 3)


def row_bands(output, row_bytes):
    """(n, slice of output rows) for each band of each image; a band's cols take about BAND_BYTES."""
    return [(n, rows) for n in range(output[0]) for rows in bands(output[1], BAND_BYTES // row_bytes)]


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    kh, kw, c, k = weight.shape
    output = output_shape(x.shape, weight.shape, padding)
    y = array_module(x).empty(output, dtype=x.dtype)
    patches = windows(crop_or_pad(x, padding, padding), kh, kw)              # (N, H', W', kh, kw, C)
    matrix = weight.reshape(kh * kw * c, k)
    for n, rows in row_bands(output, output[2] * matrix.shape[0] * x.itemsize):
        cols = patches[n, rows].reshape(-1, kh * kw * c)                     # (rows W', kh kw C), copied here
        band = y[n, rows].reshape(-1, k)                                     # a view: rows are contiguous in y
        array_module(x).matmul(cols, matrix, out=band)
        add_bias_relu(band, bias, relu)
    return y


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    kh, kw, c, k = weight.shape
    xp = array_module(x)
    dy = masked(dy, y, relu)
    patches = windows(crop_or_pad(x, padding, padding), kh, kw)              # (N, H', W', kh, kw, C)
    dmatrix, dbias = xp.zeros((kh * kw * c, k), dtype=x.dtype), xp.zeros(k, dtype=x.dtype)
    for n, rows in row_bands(dy.shape, dy.shape[2] * kh * kw * c * x.itemsize):
        cols = patches[n, rows].reshape(-1, kh * kw * c)                     # (rows W', kh kw C)
        band = dy[n, rows].reshape(-1, k)                                    # (rows W', K)
        dmatrix += cols.T @ band                                             # (kh kw C, rows W') @ (rows W', K)
        dbias += band.sum(axis=0)
    dx = input_gradient(forward, dy, weight, padding) if need_dx else None
    return dx, dmatrix.reshape(weight.shape), dbias
