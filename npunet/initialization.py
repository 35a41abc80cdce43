"""Initialisation (§3): weights from a Gaussian with standard deviation sqrt(2 / N).

N is the number of incoming nodes of one neuron; each feature map then has about unit variance. For a 3x3
convolution over 64 feature maps N = 9 * 64 = 576 and the standard deviation is 0.059. A pixel that comes
out of a 2x2 up-convolution with stride 2 is reached by one tap only: there N is the number of channels.
Biases start at 0. The rule is that of He et al. 2015, arXiv 1502.01852.
"""

import math

import numpy as np


def standard_deviation(incoming_nodes):
    """sqrt(2 / N)."""
    return math.sqrt(2 / incoming_nodes)


def gaussian(shape, incoming_nodes, rng, dtype):
    """Weights of the given shape, N(0, 2 / incoming_nodes), drawn on the host from a numpy Generator.

    They are drawn in float64 and rounded, so that networks of both precisions start alike.
    """
    return (standard_deviation(incoming_nodes) * rng.standard_normal(shape)).astype(dtype)


def zeros(size, dtype):
    """Biases: zeros of shape (size,)."""
    return np.zeros(size, dtype)


def ones(size, dtype):
    """Scales of batch normalisation: ones of shape (size,)."""
    return np.ones(size, dtype)
