"""Solution: every tap (u, v) of the kernel is one matrix product with a shifted view of x."""

import numpy as np


def conv2d(x, weight, bias):
    kh, kw = weight.shape[:2]
    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    y = np.zeros((len(x), height, width, weight.shape[3]), x.dtype)
    for u in range(kh):
        for v in range(kw):
            y += x[:, u : u + height, v : v + width] @ weight[u, v]
    return y + bias


def conv2d_input_gradient(dy, weight):
    kh, kw, channels = weight.shape[:3]
    height, width = dy.shape[1:3]
    dx = np.zeros((len(dy), height + kh - 1, width + kw - 1, channels), dy.dtype)
    for u in range(kh):
        for v in range(kw):
            dx[:, u : u + height, v : v + width] += dy @ weight[u, v].T
    return dx


def conv2d_weight_gradient(dy, x):
    height, width, outputs = dy.shape[1:]
    kh, kw = x.shape[1] - height + 1, x.shape[2] - width + 1
    dweight = np.zeros((kh, kw, x.shape[3], outputs), dy.dtype)
    for u in range(kh):
        for v in range(kw):
            window = x[:, u : u + height, v : v + width].reshape(-1, x.shape[3])
            dweight[u, v] = window.T @ dy.reshape(-1, outputs)
    return dweight, dy.sum(axis=(0, 1, 2))
