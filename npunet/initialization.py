"""Initialisation (§3): weights from a Gaussian with standard deviation sqrt(2 / N).

"Ideally the initial weights should be adapted such that each feature map in the network has approximately unit
variance" (§3). For alternating convolution and ReLU "this can be achieved by drawing the initial weights from a
Gaussian distribution with a standard deviation of" sqrt(2 / N) (§3), where N is the number of incoming nodes of one
neuron. For a 3x3 convolution over 64 feature maps N = 9 * 64 = 576 and the standard deviation is 0.059. A pixel of a
2x2 up-convolution with stride 2 is reached by one tap only: there N is the number of channels. Biases start at 0. The
rule is that of He et al. 2015, arXiv 1502.01852.

No ReLU follows the up-convolutions and the last 1x1 convolution of Fig. 1. There the same aim gives sqrt(1 / N). With
sqrt(2 / N) the variance would double with each of them: on an ISBI tile, 16 base channels then begin at a loss of 16.2,
with sqrt(1 / N) at 3.5.
"""

import math

import numpy as np
from numpy.typing import DTypeLike


def standard_deviation(incoming_nodes: int, relu: bool = True) -> float:
    """sqrt(2 / N) before a ReLU, which lets half of the second moment through; sqrt(1 / N) where none follows."""
    return math.sqrt((2 if relu else 1) / incoming_nodes)


def gaussian(
    shape: tuple[int, ...], incoming_nodes: int, rng: np.random.Generator, dtype: DTypeLike, relu: bool = True
) -> np.ndarray:
    """Weights of the given shape with that standard deviation and mean 0, drawn on the host from a numpy Generator.

    They are drawn in float64 and rounded, so that networks of both precisions start alike.
    """
    return (standard_deviation(incoming_nodes, relu) * rng.standard_normal(shape)).astype(dtype)


def uniform(shape: tuple, fan_in: int, rng: np.random.Generator, dtype: DTypeLike) -> np.ndarray:
    """Uniform numbers in +-1/sqrt(fan_in): the default of PyTorch's convolutions, for weights and biases alike.

    This is not the paper's rule. `npunet.style` uses it to begin as a program written in PyTorch begins. Weights have
    variance 1 / (3 fan_in), a sixth of the paper's 2 / N, so a feature map's variance falls from layer to layer.
    PyTorch's fan_in is kh kw C_in for a convolution. For an up-convolution PyTorch counts kh kw C_out, because its
    weights are stored with the channels in the other order.
    """
    bound = 1 / math.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape).astype(dtype)


def zeros(size: int | tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Biases: zeros of shape (size,)."""
    return np.zeros(size, dtype)


def ones(size: int | tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Scales of batch normalisation: ones of shape (size,)."""
    return np.ones(size, dtype)
