"""Solution: N counts the products that are added up for one output."""

import numpy as np


def initial_weights(shape, rng, up=False):
    kh, kw, channels, _ = shape
    incoming = channels if up else kh * kw * channels
    return np.sqrt(2 / incoming) * rng.standard_normal(shape)
