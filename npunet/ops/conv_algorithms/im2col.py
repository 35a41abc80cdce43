"""Convolution as one matrix product: each window becomes a row, the kernel becomes a matrix ("im2col").

    cols[(i, j), (u, v, c)] = x[i + u, j + v, c]         (pixels, kh kw C)
    y = cols @ weight as a matrix (kh kw C, K)           (pixels, K)

and its gradients are those of a matrix product: dweight = cols^T dy, dcols = dy weight^T. For dx the rows of dcols are
added back into the windows that they came from (col2im); the same sum, read per pixel of x instead of per window, is a
convolution of dy with the flipped kernel, so the forward pass can be used again. For a 1x1 kernel cols is x itself and
nothing is copied.

Threads share the larger of the two matrices. Where that is cols, kh kw times as large as x, it is made for a band of
output rows at a time, never whole, and each thread takes whole bands. Where it is the kernel (small images deep in the
network), each thread takes some of the output channels, or for dx, of the input channels.

Source: Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing" (2006).
"""

import numpy as np

from npunet.machine import memory
from npunet.machine.backend import array_module
from npunet.machine.shapes import crop_or_pad, output_shape
from npunet.machine.threads import get_num_threads, worker
from npunet.ops.conv_algorithms.common import add_bias_relu, bands, each, input_gradient, masked

BAND_BYTES = 1 << 20  # cols and y of one band: half of a core's level-2 cache
BAND_BYTES_GPU = 1 << 28  # there, few large products
LEAST_PIXELS = 128  # of a band: BLAS copies the kernel in pieces for each product


def windows(x, kh, kw):
    """All kh x kw windows of x (N, H, W, C) as a view (N, H', W', kh, kw, C)."""
    view = array_module(x).lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))  # (N, H', W', C, kh, kw)
    return view.transpose(0, 1, 2, 4, 5, 3)


def gather(patches, pixels):
    """cols of some of the output pixels: (pixels, kh kw C)."""
    found = patches[pixels]
    kh, kw, c = found.shape[-3:]
    if kh * kw > 1:
        cols = memory.scratch("cols", found.shape, found.dtype, array_module(found))
        cols[...] = found
        found = cols
    return found.reshape(-1, kh * kw * c)


def kernel_is_larger(y_shape, weight_shape):
    """True if the kernel (kh kw C, K) has more numbers than cols (pixels, kh kw C)."""
    batch, height, width, k = y_shape
    return batch * height * width < k


def row_bands(output, weight, xp):
    """(n, rows) of each band of output rows:
    cols and y take about BAND_BYTES, more if that would be less than LEAST_PIXELS.
    """
    row_bytes = output[2] * weight[..., 0].size * weight.itemsize + output[2] * output[3] * weight.itemsize
    size = max(
        (BAND_BYTES if xp is np else BAND_BYTES_GPU) // row_bytes,
        min(-(-LEAST_PIXELS // output[2]), -(-output[1] // get_num_threads())),
    )
    return [(n, rows) for n in range(output[0]) for rows in bands(output[1], size)]


def channel_blocks(channels):
    """A slice of the channels for each thread."""
    return bands(channels, -(-channels // get_num_threads()))


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    y = memory.empty(output_shape(x.shape, weight.shape, padding), x.dtype, xp)
    patches = windows(crop_or_pad(x, padding, padding), kh, kw)  # (N, H', W', kh, kw, C)
    matrix = weight.reshape(kh * kw * c, k)

    def one_part(pixels, channels):
        cols = gather(patches, pixels)
        result = y[pixels].reshape(-1, k)[:, channels]  # a view: rows are contiguous in y
        xp.matmul(cols, matrix[:, channels], out=result)
        add_bias_relu(result, None if bias is None else bias[channels], relu)

    if kernel_is_larger(y.shape, weight.shape):
        each(lambda block: one_part(slice(None), block), channel_blocks(k), xp)
    else:
        matrix = xp.ascontiguousarray(matrix)
        each(lambda band: one_part(band, slice(None)), row_bands(y.shape, weight, xp), xp)
    return y


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    if kernel_is_larger(dy.shape, weight.shape):
        return backward_by_channels(masked(dy, y, relu), x, weight, padding, need_dx)
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    dz = memory.empty(dy.shape, dy.dtype, xp) if relu else dy  # dy behind the ReLU
    patches = windows(crop_or_pad(x, padding, padding), kh, kw)  # (N, H', W', kh, kw, C)
    totals = [None] * get_num_threads()  # dweight and dbias of each thread, over the bands that it did

    def one_band(band):
        if relu:
            xp.multiply(dy[band], y[band] > 0, out=dz[band])
        cols = gather(patches, band)  # (rows W', kh kw C)
        dresult = dz[band].reshape(-1, k)  # (rows W', K)
        parts = cols.T @ dresult, dresult.sum(axis=0)  # (kh kw C, rows W') @ (rows W', K)
        done = totals[worker()]
        totals[worker()] = parts if done is None else [total + part for total, part in zip(done, parts)]

    each(one_band, row_bands(dy.shape, weight, xp), xp, fixed=True)
    dweight, dbias = (sum(parts[1:], parts[0]) for parts in zip(*(total for total in totals if total is not None)))
    dx = input_gradient(forward, dz, weight, padding) if need_dx else None
    return dx, dweight.reshape(weight.shape), dbias


def backward_by_channels(dy, x, weight, padding, need_dx):
    """The same for a small image: dweight in blocks of output channels, dx in blocks of input channels."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    batch, height, width, _ = dy.shape
    x = crop_or_pad(x, padding, padding)
    dresult = dy.reshape(-1, k)  # (N H' W', K)
    dweight = memory.empty(weight.shape, x.dtype, xp)

    def dweight_block(block):
        cols = gather(windows(x, kh, kw), slice(None))  # (N H' W', kh kw C)
        xp.matmul(cols.T, dresult[:, block], out=dweight.reshape(-1, k)[:, block])

    each(dweight_block, channel_blocks(k), xp)
    if not need_dx:
        return None, dweight, dresult.sum(axis=0)
    dx = xp.zeros(x.shape, dtype=x.dtype)  # with the border that padding added

    def dx_block(block):
        dcols = memory.scratch("cols", (batch, height, width, block.stop - block.start), dy.dtype, xp)
        for u in range(kh):
            for v in range(kw):
                xp.matmul(dresult, weight[u, v, block].T, out=dcols.reshape(len(dresult), -1))  # (N H' W', K) @ (K, C)
                dx[:, u : u + height, v : v + width, block] += dcols

    each(dx_block, channel_blocks(c), xp)
    return crop_or_pad(dx, -padding, -padding), dweight, dresult.sum(axis=0)
