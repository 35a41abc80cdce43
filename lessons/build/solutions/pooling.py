"""Solution: the four corners of all windows are four views of x."""

import numpy as np


def corners(x):
    return [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]


def max_pool(x):
    first, second, third, fourth = corners(x)
    return np.maximum(np.maximum(first, second), np.maximum(third, fourth))


def max_pool_gradient(dy, x):
    largest = max_pool(x)
    dx = np.zeros(x.shape, dy.dtype)
    free = np.ones(dy.shape, bool)
    for corner, dcorner in zip(corners(x), corners(dx)):
        wins = (corner == largest) & free
        dcorner[...] = dy * wins
        free &= ~wins
    return dx
