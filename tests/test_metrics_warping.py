"""The warping error:
simple points against counted components, the warp against its rule as loops, and single mistakes.
"""

import numpy as np
import pytest
from scipy import ndimage

from npunet import metrics
from npunet.metrics.warping import NEIGHBOURS, is_simple_table, warp


def topology(image):
    """Components of the interior (4-connected) and of the background (8-connected), all background around."""
    image = np.pad(image, 1)
    return ndimage.label(image)[1], ndimage.label(~image, np.ones((3, 3)))[1]


def is_simple(image, y, x):
    """By definition: flipping the pixel changes neither number. (A change of one is never undone by the other.)"""
    flipped = image.copy()
    flipped[y, x] = ~flipped[y, x]
    return topology(image) == topology(flipped)


def test_table_of_simple_points():
    table = is_simple_table()
    for code in range(256):
        image = np.zeros((3, 3), bool)
        for k, (dy, dx) in enumerate(NEIGHBOURS):
            image[1 + dy, 1 + dx] = code >> k & 1
        assert table[code] == is_simple(image, 1, 1), image
    assert table.sum() == 116  # known: 116 of the 256 neighbourhoods are simple in (4, 8)-topology


def warp_by_rule(truth, proposal):
    """The docstring of `warp`, pixel by pixel, with simple points found by counting components."""
    warped = truth.copy()
    changed = np.ones(truth.shape, bool)
    while True:
        active = [(y, x) for y, x in np.argwhere((warped != proposal) & changed)]
        if not active:
            return warped
        changed[:] = False
        for y, x in sorted(
            active, key=lambda p: (p[0] % 2 == 0, p[1] % 2 == 0)
        ):  # the padded image starts one pixel earlier
            if is_simple(warped, y, x):
                warped[y, x] = ~warped[y, x]
                changed[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = True


def smooth(seed, shape):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5) > 0


@pytest.mark.parametrize("seed", range(4))
def test_warp_follows_its_rule(seed):
    truth, proposal = smooth(seed, (17, 20)), smooth(seed + 50, (17, 20))
    warped = warp(truth, proposal)
    np.testing.assert_array_equal(warped, warp_by_rule(truth, proposal))
    assert topology(warped) == topology(truth)
    assert (warped != truth).any() and (warped != proposal).any()
    for y, x in np.argwhere(warped != proposal):
        assert not is_simple(warped, y, x)  # nothing is left that could be flipped


def cells():
    truth = np.zeros((20, 31), bool)
    truth[2:18, 2:15] = truth[2:18, 16:29] = True  # two cells with one column between
    return truth


def error(proposal):
    value = metrics.warping_error.of_cut(proposal, cells()) * proposal.size
    assert value == pytest.approx(round(value))
    return round(value)


def test_moved_borders_are_no_error():
    assert error(np.roll(cells(), 1, axis=0)) == 0
    assert error(np.roll(cells(), 1, axis=1)) == 0
    assert error(ndimage.binary_erosion(cells(), iterations=3)) == 0


def test_single_mistakes_by_hand():
    truth = cells()
    merged = truth.copy()
    merged[9, 15] = True  # one pixel joins the two
    assert error(merged) == 1
    merged[10, 15] = merged[11, 15] = True  # a wider gap costs more:
    assert error(merged) == 3  # every open pixel touches both cells, so none is simple
    split = truth.copy()
    split[:, 8] = False  # a wall of 16 pixels that is not there grows from its ends: one is missing
    assert error(split) == 1
    hole = truth.copy()
    hole[8:10, 5:7] = False  # a hole cannot begin: no pixel well inside a cell is simple
    assert error(hole) == 4
    assert error(np.zeros_like(truth)) == truth.size  # nothing found at all: by rule, all wrong
    lost = truth.copy()
    lost[:, 16:] = False  # a cell shrinks to one pixel
    assert error(lost) == 1


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.transpose])
def test_symmetry_of_clear_cases(turn):
    truth, proposal = cells(), cells()
    proposal[9, 15] = True
    assert np.sum(warp(turn(truth), turn(proposal)) != turn(proposal)) == 1
