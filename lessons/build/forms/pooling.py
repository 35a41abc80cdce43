"""Max-pooling (§2): "a 2x2 max pooling operation with stride 2 for downsampling". Lesson 3 shows it.

    x (N, H, W, C), H and W even -> y (N, H / 2, W / 2, C)

    y[n, i, j, c] = the largest of  x[n, 2i,     2j, c]   x[n, 2i,     2j + 1, c]
                                    x[n, 2i + 1, 2j, c]   x[n, 2i + 1, 2j + 1, c]

Speed: no loop over pixels. x[:, 0::2, 0::2] is the first of the four for all windows at once, a view (N, H/2,
W/2, C). Budget for 200 x 200 pixels and 8 channels: 0.03 s, and 0.06 s for the gradient.
"""

import numpy as np


def max_pool(x):
    """x (N, H, W, C) -> y (N, H / 2, W / 2, C).

    Example:      1  3 -5 -2
                  4  2 -1 -8            4 -1
              x = 0  0  7  7        y = 0  9
                  0  0  6  9
    """
    raise NotImplementedError("write max_pool")


def max_pool_gradient(dy, x):
    """dy (N, H / 2, W / 2, C), x (N, H, W, C) as `max_pool` was given it -> dx (N, H, W, C).

    The largest of the four gets dy, the other three get 0. If several are equally large, the first in reading order
    (the upper row first, in a row the left one) gets all of it: windows of four zeros are common behind a ReLU.

    Example with x above:       10  20               0 0  0   0
                           dy = 30 -40              10 0 20   0
                                               dx = 30 0  0   0
                                                     0 0  0 -40
    """
    raise NotImplementedError("write max_pool_gradient")
