"""The first weights (§3): "drawing the initial weights from a Gaussian distribution with a standard deviation of
sqrt(2/N), where N denotes the number of incoming nodes of one neuron". Lesson 6 measures what happens otherwise.

N is the number of products that are added up for one output: "for a 3x3 convolution and 64 feature channels in
the previous layer N = 9 * 64 = 576". A pixel that comes out of an up-convolution is reached by one place of the
2x2 kernel only: there N is the number of channels alone.
"""

import numpy as np


def initial_weights(shape, rng, up=False):
    """shape (kh, kw, C, K), rng a numpy Generator, up: is it an up-convolution? -> array of that shape.

    Take the random numbers from rng: rng.standard_normal(shape) has standard deviation 1. Example: shape (3, 3,
    64, 64) gives numbers with mean 0 and standard deviation sqrt(2 / 576) = 0.059.
    """
    raise NotImplementedError("write initial_weights")
