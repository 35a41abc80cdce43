"""Exercise of lesson 10: what is wrong, splits or mergers?

V_rand is the harmonic mean of two scores. Among the pairs of interior pixels (a pixel with itself is a pair, too)

    V_split = pairs together in both / pairs together in the truth          falls where cells are split
    V_merge = pairs together in both / pairs together in the proposal       falls where cells are merged

Write them from the table of shared pixels, not from all pairs: an image has too many.
Check yourself with: pytest lessons/exercises -k 10
"""

import numpy as np

from npunet.metrics import contingency_table


def split_and_merge(regions, truth):
    """regions, truth (H, W) integers, 0 = background, 1..n -> (V_split, V_merge), floats; 1 is perfect.

    A pixel that is interior in the truth and background in the proposal is a region of its own. The truth has at least
    one cell. contingency_table(regions, truth) gives a sparse table (cells + 1, regions + 1), table.toarray() is a
    usual one; and the number of pixels that are in no region.
    """
    raise NotImplementedError("write split_and_merge: three sums of squares")
