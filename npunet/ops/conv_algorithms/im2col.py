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

from npunet.machine.backend import array_module
from npunet.machine.bands import band_height, ceil_div, each, each_band, shares, sum_over_bands
from npunet.machine.memory import empty, scratch
from npunet.machine.products import matmul
from npunet.machine.shapes import crop_or_pad, output_shape
from npunet.machine.threads import get_num_threads
from npunet.ops.conv_algorithms.common import add_bias_relu, input_gradient, masked

LEAST_PIXELS = 128  # of a band: BLAS copies the kernel in pieces for each product


def windows(x, kh, kw):
    """All kh x kw windows of x (N, H, W, C) as a view (N, H', W', kh, kw, C)."""
    view = array_module(x).lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))  # (N, H', W', C, kh, kw)
    return view.transpose(0, 1, 2, 4, 5, 3)


def gather(patches):
    """cols of the windows (..., kh, kw, C): (pixels, kh kw C)."""
    kh, kw, c = patches.shape[-3:]
    if kh * kw > 1:
        cols = scratch("cols", patches.shape, patches.dtype, array_module(patches))
        cols[...] = patches
        patches = cols
    return patches.reshape(-1, kh * kw * c)


def kernel_is_larger(y_shape):
    """True if the kernel (kh kw C, K) has more numbers than cols (pixels, kh kw C), so if K > pixels."""
    batch, height, width, k = y_shape
    return batch * height * width < k


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    y = empty(output_shape(x.shape, weight.shape, padding), x.dtype, xp)
    patches = windows(crop_or_pad(x, padding, padding), kh, kw)  # (N, H', W', kh, kw, C)
    matrix = weight.reshape(kh * kw * c, k)

    def one_block(block):
        result = y.reshape(-1, k)[:, block]
        matmul(gather(patches), matrix[:, block], out=result)  # (N H' W', kh kw C) @ (kh kw C, some of K)
        add_bias_relu(result, None if bias is None else bias[block], relu)

    def one_band(n, rows):
        result = y[n, rows].reshape(-1, k)  # a view: rows are contiguous in y
        matmul(gather(patches[n, rows]), matrix, out=result)  # (rows W', kh kw C) @ (kh kw C, K)
        add_bias_relu(result, bias, relu)

    if kernel_is_larger(y.shape):
        each(one_block, shares(k, x), x)
    else:
        matrix = xp.ascontiguousarray(matrix)
        each_band(one_band, touches=(y, patches), fewest=ceil_div(LEAST_PIXELS, y.shape[2]))
    return y


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    if kernel_is_larger(dy.shape):
        return backward_by_channels(masked(dy, y, relu), x, weight, padding, need_dx)
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    dz = empty(dy.shape, dy.dtype, xp) if relu else dy  # dy before the ReLU
    patches = windows(crop_or_pad(x, padding, padding), kh, kw)  # (N, H', W', kh, kw, C)

    def one_band(n, rows):
        if relu:
            xp.multiply(dy[n, rows], y[n, rows] > 0, out=dz[n, rows])
        dresult = dz[n, rows].reshape(-1, k)  # (rows W', K)
        cols = gather(patches[n, rows])  # (rows W', kh kw C)
        return matmul(cols.T, dresult), dresult.sum(axis=0)  # (kh kw C, rows W') @ (rows W', K)

    fewest = ceil_div(LEAST_PIXELS, dy.shape[2])
    dweight, dbias = sum_over_bands(one_band, touches=(dy, patches), fewest=fewest)
    dx = input_gradient(forward, dz, weight, padding) if need_dx else None
    return dx, dweight.reshape(weight.shape), dbias


def backward_by_channels(dy, x, weight, padding, need_dx):
    """The same for a small image: dweight in blocks of output channels, dx in blocks of input channels."""
    xp = array_module(x)
    kh, kw, c, k = weight.shape
    batch, height, width, _ = dy.shape
    x = crop_or_pad(x, padding, padding)
    dresult = dy.reshape(-1, k)  # (N H' W', K)
    dweight = empty(weight.shape, x.dtype, xp)

    def dweight_block(block):
        cols = gather(windows(x, kh, kw))  # (N H' W', kh kw C)
        matmul(cols.T, dresult[:, block], out=dweight.reshape(-1, k)[:, block])

    each(dweight_block, shares(k, x), x)
    if not need_dx:
        return None, dweight, dresult.sum(axis=0)
    dx = xp.zeros(x.shape, dtype=x.dtype)  # with the border that padding added

    def dx_block(block):
        dcols = scratch("dcols", (batch, height, width, block.stop - block.start), dy.dtype, xp)
        for u in range(kh):
            for v in range(kw):
                matmul(dresult, weight[u, v, block].T, out=dcols.reshape(len(dresult), -1))  # (N H' W', K) @ (K, C)
                dx[:, u : u + height, v : v + width, block] += dcols

    each(dx_block, shares(c, x), x)
    return crop_or_pad(dx, -padding, -padding), dweight, dresult.sum(axis=0)


def scratch_bytes(x_shape, weight_shape, padding, itemsize):
    """Most bytes that forward or backward need for a moment besides x, y, weight and their gradients."""
    kh, kw, c, k = weight_shape
    batch, height, width, _ = y_shape = output_shape(x_shape, weight_shape, padding)
    window = kh * kw * c if kh * kw > 1 else 0  # numbers of cols for each pixel
    if kernel_is_larger(y_shape):
        return get_num_threads() * batch * height * width * window * itemsize
    rows = band_height(height, width * (kh * kw * c + k) * itemsize, ceil_div(LEAST_PIXELS, width))
    # cols; a part of dweight, its sum
    return get_num_threads() * (rows * width * window + 2 * kh * kw * c * k) * itemsize
