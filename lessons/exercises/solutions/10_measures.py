"""Solution of lesson 10's exercise: n pixels that are together make n^2 pairs;
a pixel in no region is together with itself, in its cell and alone.
"""

import numpy as np

from npunet.metrics import contingency_table


def split_and_merge(regions, truth):
    """regions, truth (H, W) integers, 0 = background, 1..n -> (V_split, V_merge), floats; 1 is perfect."""
    table, singles = contingency_table(regions, truth)
    shared = table.toarray()  # (cells + 1, regions + 1)
    in_both = (shared**2).sum() + singles
    in_regions = (shared.sum(axis=0) ** 2).sum() + singles
    in_cells = (np.bincount(truth[truth > 0]) ** 2).sum()  # with the pixels that are in no region
    return float(in_both / in_cells), float(in_both / in_regions)
