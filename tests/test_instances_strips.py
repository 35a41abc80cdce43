"""Cells strip by strip are those of the whole image, whatever the strips."""

import numpy as np
import pytest
from scipy import ndimage

from npunet.instances import in_reading_order, seeded_watershed
from npunet.instances.strips import SEED, cut_classes, cut_ranks, ranks_of, strips


def hills(seed, shape=(90, 70), blur=2.5):
    """A smooth random field in 0..1 whose components are large, bent and touch."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), blur)
    return ((field - field.min()) / np.ptp(field)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1000])
def test_strips_are_the_whole(seed, rows):
    probability = hills(seed)
    cells = np.full(probability.shape, -1, np.int32)
    for threshold, seed_threshold, min_size in ((0.4, 0.6, 8), (0.35, 0.75, 0), (0.5, 0.5, 20)):
        whole = seeded_watershed(probability, threshold, seed_threshold, min_size)
        count = cut_ranks(ranks_of(probability, threshold, seed_threshold), cells, min_size, rows)
        assert count == whole.max() >= 3
        np.testing.assert_array_equal(cells, whole)


def test_a_clump_is_parted_across_strips():
    """A comb: teeth that are joined at the last row only, and one seed in each."""
    probability = np.zeros((40, 41), np.float32)
    probability[:, 1::4] = 0.6
    probability[-1] = 0.6
    probability[3:9, 1::4] = 0.9
    whole = seeded_watershed(probability, 0.5, 0.8, 2)
    assert whole.max() == 10
    cells = np.zeros(probability.shape, np.int32)
    cut_ranks(ranks_of(probability, 0.5, 0.8), cells, 2, rows=3)
    np.testing.assert_array_equal(cells, whole)


def test_ranks_are_levels_below():
    probability = np.array([0, 0.3, 0.31, 0.5, 0.7, np.nextafter(np.float32(0.7), np.float32(1)), 1], np.float32)
    ranks = ranks_of(probability, 0.3, 0.7)
    levels = np.linspace(0.3, 0.7, SEED).astype(np.float32)
    assert ranks.tolist() == [int((levels < p).sum()) for p in probability]
    assert ranks.dtype == np.uint8 and ranks[[0, 1, -2, -1]].tolist() == [0, 0, SEED, SEED]
    assert ranks_of(probability, 0.5, 0.5).tolist() == [0, 0, 0, 0, SEED, SEED, SEED]


@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_components_of_every_class(rows):
    classes = np.digitize(hills(3), [0.4, 0.5, 0.6]).astype(np.uint8)
    expected, count = np.zeros(classes.shape, int), 0
    for k in (1, 2, 3):
        labelled, found = ndimage.label(classes == k)
        large = np.bincount(labelled.ravel()) >= 5
        large[0] = False
        expected[large[labelled]] = labelled[large[labelled]] + count
        count += found
    cells = np.zeros(classes.shape, np.int32)
    found = cut_classes(classes, cells, 5, rows)
    np.testing.assert_array_equal(cells, in_reading_order(expected))
    assert found == cells.max() > 10


def test_numbers_follow_the_first_pixel():
    cells = in_reading_order(np.array([[0, 9, 9, 0], [4, 0, 0, 2], [4, 9, 0, 2]]))
    np.testing.assert_array_equal(cells, [[0, 1, 1, 0], [2, 0, 0, 3], [2, 1, 0, 3]])


def test_nothing_to_find():
    cells = np.ones((6, 5), np.int32)
    assert cut_ranks(np.zeros((6, 5), np.uint8), cells, rows=2) == 0 and not cells.any()
    assert cut_classes(np.zeros((6, 5), np.uint8), cells, rows=2) == 0


def test_strips_cover_the_rows():
    assert [(s.start, s.stop) for s in strips((7, 3), 3)] == [(0, 3), (3, 6), (6, 7)]
    assert list(strips((5, 10**7))) == [slice(n, n + 1) for n in range(5)]
