"""Counting errors: worked examples by hand, an oracle over all pairs of cells, and which cells touch."""

import numpy as np
import pytest
from scipy import ndimage

from npunet import metrics
from npunet.metrics import cell_ious, count_errors, touching_cells


def counts(found, truth):
    found = count_errors(np.asarray(found), np.asarray(truth))
    return tuple(found[name] for name in ("true", "found", "merged", "split", "missed", "invented"))


@pytest.mark.parametrize(
    "found, truth, expected",
    [
        ([[1, 1, 0, 2, 2]], [[1, 1, 0, 2, 2]], (2, 2, 0, 0, 0, 0)),
        ([[7, 7, 0, 3, 3]], [[1, 1, 0, 2, 2]], (2, 2, 0, 0, 0, 0)),  # numbers do not matter
        ([[1, 1, 1, 1, 1]], [[1, 1, 0, 2, 2]], (2, 1, 1, 0, 0, 0)),  # a merger: both are covered, no one is missed
        ([[1, 1, 1, 1, 1, 1]], [[1, 1, 2, 2, 3, 3]], (3, 1, 2, 0, 0, 0)),  # two walls are missing
        (
            [[1, 1, 0, 2, 2]],
            [[1, 1, 1, 1, 1]],
            (1, 2, 0, 1, 1, 0),
        ),  # a split in two halves: neither covers more than half
        ([[1, 1, 1, 0, 2]], [[1, 1, 1, 1, 1]], (1, 2, 0, 1, 0, 0)),  # the larger part is the match
        ([[0, 0, 0, 0, 0]], [[1, 1, 0, 2, 2]], (2, 0, 0, 0, 2, 0)),
        ([[1, 1, 0, 2, 2]], [[0, 0, 0, 0, 0]], (0, 2, 0, 0, 0, 2)),
        (
            [[0, 1, 1, 1, 1]],
            [[1, 1, 0, 0, 0]],
            (1, 1, 0, 0, 1, 1),
        ),  # an overlap that is half of one and a quarter of the other
        ([[1, 1, 1, 1, 1, 0, 0]], [[1, 1, 0, 0, 0, 2, 2]], (2, 1, 0, 0, 1, 0)),
    ],
)
def test_counts_by_hand(found, truth, expected):
    assert counts(found, truth) == expected


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    found, truth = (ndimage.label(ndimage.gaussian_filter(rng.normal(size=(50, 60)), 2.5) > 0.05)[0] for _ in range(2))
    pairs = [
        (f, t, np.sum((found == f) & (truth == t)))
        for f in range(1, found.max() + 1)
        for t in range(1, truth.max() + 1)
    ]
    covers = {(f, t) for f, t, shared in pairs if 2 * shared > np.sum(truth == t)}
    covered = {(f, t) for f, t, shared in pairs if 2 * shared > np.sum(found == f)}
    merged = sum(max(0, sum(f == g for f, _ in covers) - 1) for g in range(1, found.max() + 1))
    split = sum(max(0, sum(t == u for _, t in covered) - 1) for u in range(1, truth.max() + 1))
    missed = truth.max() - len({t for _, t in covers})
    invented = found.max() - len({f for f, _ in covers | covered})
    assert counts(found, truth) == (truth.max(), found.max(), merged, split, missed, invented)
    assert missed + invented > 0


def test_seg_is_the_mean_of_its_terms():
    truth = np.array([[1, 1, 1, 0, 5, 5, 0, 7]])
    found = np.array([[1, 1, 0, 0, 2, 2, 2, 0]])
    numbers, ious = cell_ious(found, truth)
    assert numbers.tolist() == [1, 5, 7] and ious.tolist() == pytest.approx([2 / 3, 2 / 3, 0])
    assert metrics.seg(found, truth) == pytest.approx(4 / 9)


def test_touching_cells():
    truth = np.zeros((9, 16), int)
    truth[:, :3], truth[:, 3:5], truth[:, 7:9], truth[:, 12:] = 1, 9, 4, 6
    assert touching_cells(truth, 1).tolist() == [1, 9]
    assert touching_cells(truth, 2).tolist() == [1, 9]  # 4 begins three pixels after 9 ends
    assert touching_cells(truth, 3).tolist() == [1, 4, 9]
    assert touching_cells(truth, 4).tolist() == [1, 4, 6, 9]
    assert touching_cells((truth > 11).astype(int), 4).tolist() == []
