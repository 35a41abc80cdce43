"""Drop-out (§3.1, last sentence). Where it stands in the network: `UNet._build` in npunet/unet.py.

Each element is set to zero with probability `rate`; the others are divided by 1 - rate, so that the
expected value stays the same and nothing has to be done when the network is applied:

    y = x * keep / (1 - rate),   keep ~ Bernoulli(1 - rate)          dL/dx = dL/dy * keep / (1 - rate)

Both are the same linear map, so backward is forward once more, with the same mask.

The mask is not drawn one number after the other: machine/philox.py computes the number of each element from a key and
the element's place. So CPU and GPU get the same bits, and forward leaves nothing to backward but the key: one 64-bit
number, drawn from the network's generator.
"""

import numpy as np

from npunet.machine.backend import Array, array_module
from npunet.machine.philox import Mask
from npunet.machine.shapes import check_arrays


def dropout_definition(x: Array, keep: Array, rate: float) -> Array:
    """The formula as loops, for a given mask `keep` of booleans."""
    y = x.copy()
    for index in array_module(x).ndindex(x.shape):
        y[index] = x[index] / (1 - rate) if keep[index] else 0
    return y


def dropout(x: Array, rate: float, rng: np.random.Generator) -> tuple[Array, Mask]:
    """x of any shape, 0 <= rate < 1, rng a numpy.random.Generator -> y like x, ctx.

    Raises InputError if x is no array.
    """
    check_arrays("dropout", x=x)
    mask = Mask.drawn(rate, rng, x.size)
    return dropout_backward(x, mask), mask


def dropout_backward(dy: Array, ctx: Mask) -> Array:
    """dy like y -> dx like x."""
    scale = dy.dtype.type(1 / (1 - ctx.rate))
    return dy * (array_module(dy).asarray(ctx.keep(dy.shape)) * scale)
