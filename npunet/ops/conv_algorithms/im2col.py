"""Convolution as one matrix product: each window becomes a row, the kernel becomes a matrix ("im2col").

    cols[(i, j), (u, v, c)] = x[i + u, j + v, c]         (pixels, kh kw C)
    y = cols @ weight as a matrix (kh kw C, K)           (pixels, K)

and its gradients are those of a matrix product: dweight = cols^T dy. For dx the rows dcols = dy @ weight^T would have to be added
back into overlapping windows; the same sum, read per pixel of x instead of per window, is a convolution of dy with the
flipped kernel, so the forward pass is used again. cols is kh kw times as large as x. It is therefore made for a band of
output rows at a time, never whole; each thread takes whole bands. For a 1x1 kernel cols is x itself and nothing is copied.

Source: Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing" (2006).
"""

import numpy as np

from npunet import memory
from npunet.backend import array_module
from npunet.ops.conv_algorithms.common import add_bias_relu, bands, crop_or_pad, each, input_gradient, output_shape
from npunet.threads import get_num_threads, worker

BAND_BYTES = 1 << 20                                     # cols and y of one band: half of a core's level-2 cache
BAND_BYTES_GPU = 1 << 28                                 # there, few large products


def windows(x, kh, kw):
    """All kh x kw windows of x (N, H, W, C) as a view (N, H', W', kh, kw, C)."""
    view = array_module(x).lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))      # (N, H', W', C, kh, kw)
    return view.transpose(0, 1, 2, 4, 5, 3)


def row_bands(output, weight, xp):
    """(n, rows) of each band of output rows whose cols and y take about BAND_BYTES."""
    row_bytes = output[2] * weight[..., 0].size * weight.itemsize + output[2] * output[3] * weight.itemsize
    size = (BAND_BYTES if xp is np else BAND_BYTES_GPU) // row_bytes
    return [(n, rows) for n in range(output[0]) for rows in bands(output[1], size)]


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    y = memory.empty(output_shape(x.shape, weight.shape, padding), x.dtype, xp)
    patches = windows(crop_or_pad(x, padding, padding), kh, kw)              # (N, H', W', kh, kw, C)
    matrix = xp.ascontiguousarray(weight.reshape(kh * kw * c, k))

    def one_band(band):
        cols = patches[band].reshape(-1, kh * kw * c)                        # (rows W', kh kw C), copied here
        result = y[band].reshape(-1, k)                                      # a view: rows are contiguous in y
        xp.matmul(cols, matrix, out=result)
        add_bias_relu(result, bias, relu)

    each(one_band, row_bands(y.shape, weight, xp), xp)
    return y


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    masked = memory.empty(dy.shape, dy.dtype, xp) if relu else dy            # dy behind the ReLU
    patches = windows(crop_or_pad(x, padding, padding), kh, kw)              # (N, H', W', kh, kw, C)
    totals = [None] * get_num_threads()                  # dweight and dbias of each thread, over the bands that it did

    def one_band(band):
        if relu:
            xp.multiply(dy[band], y[band] > 0, out=masked[band])
        cols = patches[band].reshape(-1, kh * kw * c)                        # (rows W', kh kw C)
        dresult = masked[band].reshape(-1, k)                                # (rows W', K)
        parts = cols.T @ dresult, dresult.sum(axis=0)                        # (kh kw C, rows W') @ (rows W', K)
        done = totals[worker()]
        totals[worker()] = parts if done is None else [total + part for total, part in zip(done, parts)]

    each(one_band, row_bands(dy.shape, weight, xp), xp)
    dweight, dbias = (sum(parts[1:], parts[0]) for parts in zip(*(total for total in totals if total is not None)))
    dx = input_gradient(forward, masked, weight, padding) if need_dx else None
    return dx, dweight.reshape(weight.shape), dbias
