"""Convolution as the paper's formula, in loops (§2): the definition that every faster form is compared with.

    y[n, i, j, k] = bias[k] + sum over u, v, c of x[n, i + u - padding, j + v - padding, c] * weight[u, v, c, k]

x outside the image counts as zero; with padding 0 ("unpadded convolutions" in the paper) it is never asked for. With
relu, y is max(0, that). The backward pass reads the same formula term by term: each product x * weight that went into
y[n, i, j, k] sends dy[n, i, j, k] * weight to its x, and dy[n, i, j, k] * x to its weight.
"""

from npunet.machine.backend import array_module
from npunet.machine.shapes import crop_or_pad, output_shape


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    kh, kw = weight.shape[:2]
    x = crop_or_pad(x, padding, padding)
    y = array_module(x).zeros(output_shape(x.shape, weight.shape, 0), dtype=x.dtype)
    batch, height, width, channels = y.shape
    for n in range(batch):
        for i in range(height):
            for j in range(width):
                for k in range(channels):
                    window = x[n, i : i + kh, j : j + kw, :]  # (kh, kw, C)
                    value = (window * weight[:, :, :, k]).sum()
                    if bias is not None:
                        value = value + bias[k]
                    y[n, i, j, k] = value.clip(0) if relu else value
    return y


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    xp = array_module(x)
    kh, kw = weight.shape[:2]
    padded = crop_or_pad(x, padding, padding)
    dpadded, dweight, dbias = xp.zeros_like(padded), xp.zeros_like(weight), xp.zeros_like(weight[0, 0, 0])
    batch, height, width, channels = dy.shape
    for n in range(batch):
        for i in range(height):
            for j in range(width):
                for k in range(channels):
                    if relu and not y[n, i, j, k] > 0:
                        continue
                    window = padded[n, i : i + kh, j : j + kw, :]  # (kh, kw, C)
                    dpadded[n, i : i + kh, j : j + kw, :] += dy[n, i, j, k] * weight[:, :, :, k]
                    dweight[:, :, :, k] += dy[n, i, j, k] * window
                    dbias[k] += dy[n, i, j, k]
    return (crop_or_pad(dpadded, -padding, -padding) if need_dx else None), dweight, dbias


def scratch_bytes(x_shape, weight_shape, padding, itemsize):
    """Nothing: one window at a time."""
    return 0
