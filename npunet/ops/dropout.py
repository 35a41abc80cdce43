"""Dropout (§3.1, last sentence): implicit augmentation at the end of the contracting path.

Each element is set to zero with probability `rate`; the others are divided by 1 - rate, so that the
expected value stays the same and nothing has to be done when the network is applied:

    y = x * keep / (1 - rate),   keep ~ Bernoulli(1 - rate)          dL/dx = dL/dy * keep / (1 - rate)

The random numbers come from a NumPy generator on the host, so a seed gives the same mask on CPU and GPU.
"""

import numpy as np

from npunet.backend import array_module


def dropout_definition(x, keep, rate):
    """The formula as loops, for a given mask `keep` of booleans."""
    y = x.copy()
    for index in array_module(x).ndindex(x.shape):
        y[index] = x[index] / (1 - rate) if keep[index] else 0
    return y


def dropout(x, rate, rng):
    """x of any shape, 0 <= rate < 1, rng a numpy.random.Generator -> y like x, ctx."""
    xp = array_module(x)
    keep = rng.random(x.shape, np.float32) >= rate
    factor = xp.asarray(keep).astype(x.dtype) / x.dtype.type(1 - rate)
    return x * factor, factor


def dropout_backward(dy, ctx):
    """dy like y -> dx like x."""
    return dy * ctx
