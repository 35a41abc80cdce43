"""V_rand (§4, Table 1: the "Rand error" is 1 minus it): are two pixels of one cell found in one region? Lesson 10.

Look only at the n pixels that belong to a cell of the truth, and at their n^2 pairs (a pixel with itself is a
pair, too; (p, q) and (q, p) are two):

    V_rand = 2 * pairs together in both / (pairs together in the proposal + pairs together in the truth)

A pixel that belongs to a cell but that the proposal calls background (0) is a region of its own: together with
itself and with no other. Never list the pairs: m pixels that are together make m^2 of them, so three sums of
squares are enough: over the cells, over the regions, and over the table of pixels that each region shares with
each cell.
"""

import numpy as np


def v_rand(regions, truth):
    """regions, truth (H, W) integers, 0 = background, other numbers name regions and cells -> a number, 1 is
    perfect.

    Example: two cells of 9 pixels, both in one region: 162 pairs together in both and in the truth, 324 in the
    proposal: 2 * 162 / (324 + 162) = 0.667.
    """
    raise NotImplementedError("write v_rand")
