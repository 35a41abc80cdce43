"""Convolution and its two gradients (§2): "two 3x3 convolutions (unpadded convolutions)". Lesson 2 derives them.

    x (N, H, W, C)      N images, H rows, W columns, C channels      weight (kh, kw, C, K)      bias (K,)
    y (N, H', W', K)    H' = H - kh + 1 and W' = W - kw + 1: a window must lie inside the image

    y[n, i, j, k] = bias[k] + sum over u, v, c of  x[n, i + u, j + v, c] weight[u, v, c, k]

The kernel is not turned. Every size comes from the arguments: the last layer of the network has kernels of 1x1.

Speed: a loop over all pixels in Python takes minutes for the network. Loop over the places (u, v) of the kernel
only. One place is one matrix product for all pixels at once: `part @ weight[u, v]` multiplies the last axis of
part, (N, H', W', C), with a matrix (C, K). Budget: 0.05 s for 100 x 100 pixels with 8 channels in and out.
Nothing is written into an argument, and float32 arguments give float32 results: np.zeros(shape, x.dtype).
"""

import numpy as np


def conv2d(x, weight, bias):
    """x (N, H, W, C), weight (kh, kw, C, K), bias (K,) -> y (N, H', W', K), the formula above.

    Example, N = C = K = 1:      1 2 0                 1  2                      4.5 -0.5
                             x = 0 1 3        weight = 0 -1    bias = 0.5    y = 2.5  6.5
                                 2 0 1

    y[0, 0] = 1*1 + 2*2 + 0*0 + 1*(-1) + 0.5 = 4.5
    """
    raise NotImplementedError("write conv2d")


def conv2d_input_gradient(dy, weight):
    """dy (N, H', W', K), weight (kh, kw, C, K) -> dx (N, H, W, C) with H = H' + kh - 1, W = W' + kw - 1.

    dy is dL/dy, the derivative of the loss L by each element of y; dx is wanted. The product x[i + u, j + v]
    weight[u, v] went into y[i, j], so dy[i, j] weight[u, v] comes back to x[i + u, j + v]; what comes back from
    several windows adds up:

        dx[n, i + u, j + v, c]  +=  sum over k of  dy[n, i, j, k] weight[u, v, c, k]          for all n, i, j, u, v

    Example with the weight above:      1  0              1  2  0
                                   dy = 2 -1         dx = 2  2 -2
                                                          0 -2  1
    """
    raise NotImplementedError("write conv2d_input_gradient")


def conv2d_weight_gradient(dy, x):
    """dy (N, H', W', K), x (N, H, W, C) -> dweight (kh, kw, C, K), dbias (K,); kh = H - H' + 1, kw = W - W' + 1.

        dweight[u, v, c, k] = sum over n, i, j of  x[n, i + u, j + v, c] dy[n, i, j, k]
        dbias[k]            = sum over n, i, j of  dy[n, i, j, k]

    Sums, not means. Example with x and dy above:      dweight = 0 1      dbias = 2
                                                                 4 0
    """
    raise NotImplementedError("write conv2d_weight_gradient")
