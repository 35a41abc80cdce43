"""Random masks that a key decides: the same bits on every device.

Element i is kept if the i-th number of 32 bits that Philox4x64-10 gives under a key is at least rate * 2^32. Philox
(Salmon et al. 2011, doi:10.1145/2063384.2063405) computes number i from i and the key alone. So every thread of a GPU
finds its own (gpu/dropout.cu), and NumPy has it as `np.random.Philox`.
"""

from math import prod
from typing import NamedTuple

import numpy as np


class Mask(NamedTuple):
    """All that a mask depends on besides the shape."""

    key: int  # 0 .. 2^64 - 1
    rate: float

    @classmethod
    def drawn(cls, rate, rng):
        """A mask with a key from rng, a numpy.random.Generator."""
        return cls(int(rng.integers(2**64, dtype=np.uint64)), float(rate))

    @property
    def threshold(self):
        """Numbers of 32 bits below this one drop their element."""
        return np.uint32(int(self.rate * 2**32))

    def keep(self, shape):
        """The mask itself, booleans of any shape, on the host."""
        size = prod(shape)
        # of 64 bits: two numbers, the lower half first
        words = np.random.Philox(key=self.key).random_raw(-(-size // 2))
        return (words.astype("<u8", copy=False).view("<u4")[:size] >= self.threshold).reshape(shape)
