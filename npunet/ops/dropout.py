"""Drop-out (§3.1, last sentence). Where it stands in the network: `UNet._build` in npunet/unet.py.

Each element is set to zero with probability `rate`; the others are divided by 1 - rate, so that the
expected value stays the same and nothing has to be done when the network is applied:

    y = x * keep / (1 - rate),   keep ~ Bernoulli(1 - rate)          dL/dx = dL/dy * keep / (1 - rate)

Both are the same linear map, so backward is forward once more, with the same mask.

The mask is not drawn one number after the other: element i is kept if the i-th number of 32 bits that Philox4x64-10
gives under a key is at least rate * 2^32. Philox (Salmon et al. 2011, doi:10.1145/2063384.2063405) computes number i
from i and the key alone. So every thread of a GPU finds its own (dropout.cu), NumPy has it as `np.random.Philox`, both
get the same bits, and forward leaves nothing to backward but the key: one 64-bit number, which the host draws from the
network's generator.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from npunet.gpu import cuda, kernels
from npunet.machine.backend import array_module


class Mask(NamedTuple):
    """All that a mask depends on besides the shape; the context of dropout_backward."""

    key: int  # 0 .. 2^64 - 1
    rate: float

    @property
    def threshold(self):
        """Numbers of 32 bits below this one drop their element."""
        return np.uint32(int(self.rate * 2**32))

    def keep(self, shape):
        """The mask itself, booleans of any shape, on the host."""
        size = prod(shape)
        words = np.random.Philox(key=self.key).random_raw(
            -(-size // 2)
        )  # of 64 bits: two numbers, the lower half first
        return (words.astype("<u8", copy=False).view("<u4")[:size] >= self.threshold).reshape(shape)


def dropout_definition(x, keep, rate):
    """The formula as loops, for a given mask `keep` of booleans."""
    y = x.copy()
    for index in array_module(x).ndindex(x.shape):
        y[index] = x[index] / (1 - rate) if keep[index] else 0
    return y


def dropout(x, rate, rng):
    """x of any shape, 0 <= rate < 1, rng a numpy.random.Generator -> y like x, ctx."""
    mask = Mask(int(rng.integers(2**64, dtype=np.uint64)), float(rate))
    return _masked(x, mask), mask


def dropout_backward(dy, ctx):
    """dy like y -> dx like x."""
    return _masked(dy, ctx)


def _masked(x, mask):
    """x * keep / (1 - rate)."""
    if cuda.on_gpu(x):
        return kernels.dropout(x, mask)
    xp, scale = array_module(x), x.dtype.type(1 / (1 - mask.rate))
    return x * (xp.asarray(mask.keep(x.shape)) * scale)
