"""Solution: a comparison."""

import numpy as np


def relu(x):
    return np.maximum(x, 0)


def relu_gradient(dy, x):
    return dy * (x > 0)
