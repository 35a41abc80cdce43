"""Solution: pairs of pixels are squares of counts."""

import numpy as np


def v_rand(regions, truth):
    inside = truth > 0
    s, t = regions[inside], truth[inside]
    alone = np.count_nonzero(s == 0)
    table = np.zeros((s.max() + 1, t.max() + 1))
    np.add.at(table, (s, t), 1)
    in_cells = (table.sum(axis=0) ** 2).sum()
    table[0] = 0
    in_both = (table**2).sum() + alone
    in_regions = (table.sum(axis=1) ** 2).sum() + alone
    return float(2 * in_both / (in_regions + in_cells))
