"""Checks of exercise 10, run as: pytest lessons/exercises/check_10_measures.py"""

import numpy as np
import pytest
from exercise import load

from npunet.metrics import rand_f_score

answer = load("10_measures")

CELLS = np.repeat([[1, 1, 1, 0, 2, 2, 2]], 3, axis=0)  # two cells of nine pixels: 162 pairs


def test_the_truth_is_perfect():
    assert answer.split_and_merge(CELLS, CELLS) == (1.0, 1.0)


def test_a_merger_leaves_the_split_score_alone():
    """One region of 18 pixels: 324 pairs, of which 162 are right."""
    split, merge = answer.split_and_merge(np.where(CELLS > 0, 7, 0), CELLS)
    assert split == 1.0 and merge == 0.5 and isinstance(split, float)


def test_a_split_leaves_the_merge_score_alone():
    """The second cell in three columns of three: 81 + 3 * 9 = 108 of 162 pairs."""
    regions = np.repeat([[1, 1, 1, 0, 2, 3, 4]], 3, axis=0)
    split, merge = answer.split_and_merge(regions, CELLS)
    assert split == pytest.approx(108 / 162) and merge == 1.0


def test_missing_pixels_are_splits():
    """Column 6 is called background: 81 + 36 + 3 pairs are left, each of the three pixels with itself."""
    regions = np.repeat([[1, 1, 1, 0, 2, 2, 0]], 3, axis=0)
    split, merge = answer.split_and_merge(regions, CELLS)
    assert split == pytest.approx(120 / 162) and merge == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_all_pairs_and_the_harmonic_mean(seed):
    rng = np.random.default_rng(seed)
    truth, regions = rng.integers(0, 5, (9, 11)), rng.integers(0, 4, (9, 11))
    truth[0, 0] = 4
    inside = truth > 0
    t, s = truth[inside], np.where(regions > 0, regions, 100 + np.arange(99).reshape(9, 11))[inside]
    in_truth, in_regions = t[:, None] == t, s[:, None] == s
    both = np.sum(in_truth & in_regions)
    split, merge = answer.split_and_merge(regions, truth)
    assert (split, merge) == (pytest.approx(both / in_truth.sum()), pytest.approx(both / in_regions.sum()))
    assert 2 / (1 / split + 1 / merge) == pytest.approx(rand_f_score(regions, truth))
