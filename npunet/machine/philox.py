"""Random masks that a key decides: the same bits on every device.

Element i is kept if the i-th number of 32 bits that Philox4x64-10 gives under a key is at least rate * 2^32. Philox
(Salmon et al. 2011, doi:10.1145/2063384.2063405) computes number i from i and the key alone. So every thread of a GPU
finds its own (gpu/dropout.cu), and NumPy has it as `np.random.Philox`.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from npunet.machine import ranks

NUMBERS = 8  # of 32 bits in a block of Philox4x64


class Mask(NamedTuple):
    """All that a mask depends on besides the shape."""

    key: int  # 0 .. 2^64 - 1
    rate: float
    start: int = 0  # the number of its first element

    @classmethod
    def drawn(cls, rate, rng, size):
        """A mask of ``size`` elements with a key from rng, a numpy.random.Generator.

        Where several ranks train together, it begins at this rank's place in the big batch.
        """
        return cls(int(rng.integers(2**64, dtype=np.uint64)), float(rate), ranks.rank() * size)

    @property
    def threshold(self):
        """Numbers of 32 bits below this one drop their element."""
        return np.uint32(int(self.rate * 2**32))

    def keep(self, shape):
        """The mask itself, booleans of any shape, on the host."""
        size, skipped = prod(shape), self.start % NUMBERS
        philox = np.random.Philox(key=self.key).advance(self.start // NUMBERS)
        # of 64 bits: two numbers, the lower half first
        words = philox.random_raw(-(-(skipped + size) // 2))
        numbers = words.astype("<u8", copy=False).view("<u4")[skipped : skipped + size]
        return (numbers >= self.threshold).reshape(shape)
