"""Instances from probabilities: the flood against its rule as loops, distances, and scikit-image's watershed."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import watershed

from npunet.errors import InputError
from npunet.instances import components, cutting, flood, seeded_watershed
from npunet.instances.cutting import ClassComponents


def blobs(seed, shape=(60, 70), share=0.3):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    return noise > np.quantile(noise, 1 - share)


def flood_by_rule(labels, mask, lines):
    """The docstring of `flood`, pixel by pixel."""
    labels, stuck = labels.copy(), np.zeros(labels.shape, bool)

    def touching(y, x):
        beside = [(y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)]
        return {
            int(labels[v, u])
            for v, u in beside
            if 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1] and labels[v, u] > 0
        }

    while True:
        front = [(y, x) for y, x in np.argwhere(mask & (labels == 0) & ~stuck) if touching(y, x)]
        if not front:
            return labels
        if not lines:
            for (y, x), joins in [(pixel, min(touching(*pixel))) for pixel in front]:
                labels[y, x] = joins
            continue
        for y, x in sorted(front, key=lambda pixel: sum(pixel) % 2):
            regions = touching(y, x)
            if len(regions) > 1:
                stuck[y, x] = True
            else:
                labels[y, x] = min(regions)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lines", [False, True])
def test_flood_follows_its_rule(seed, lines):
    interior = blobs(seed, (31, 36))
    mask = np.random.default_rng(seed).random(interior.shape) < (1 if seed < 3 else 0.8)
    labels = ndimage.label(interior)[0]
    assert labels.max() >= 3
    np.testing.assert_array_equal(flood(labels, mask, lines), flood_by_rule(labels, mask, lines))


@pytest.mark.parametrize("seed", range(3))
def test_flood_joins_the_nearest_region(seed):
    """Without obstacles every pixel ends in a region that no other is nearer than, in steps of 4-neighbours."""
    labels = ndimage.label(blobs(seed))[0]
    found = flood(labels, np.ones(labels.shape, bool))
    steps = np.array([ndimage.distance_transform_cdt(labels != n, "taxicab") for n in range(1, labels.max() + 1)])
    assert (found > 0).all()
    np.testing.assert_array_equal(np.take_along_axis(steps, found[None] - 1, axis=0)[0], steps.min(axis=0))


@pytest.mark.parametrize("seed", range(4))
def test_lines_against_scikit_image(seed):
    """Ties fall differently, so single pixels at the lines may; the regions are the same."""
    interior = blobs(seed)
    labels = ndimage.label(interior)[0]
    ours = flood(labels, ~interior, lines=True)
    theirs = watershed((~interior).astype(np.uint8), labels, connectivity=1, watershed_line=True)
    both = (ours > 0) & (theirs > 0)
    assert (ours == theirs)[both].mean() > 0.97
    assert abs((ours == 0).sum() - (theirs == 0).sum()) < 0.2 * (theirs == 0).sum()
    for axis in range(2):  # regions do not touch
        first, second = (ours[:-1], ours[1:]) if axis == 0 else (ours[:, :-1], ours[:, 1:])
        assert not ((first != second) & (first > 0) & (second > 0)).any()
    for y, x in np.argwhere(ours == 0):  # and no line pixel could be given away
        window = ours[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        cross = [
            ours[v, u]
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            if 0 <= v < ours.shape[0] and 0 <= u < ours.shape[1] and ours[v, u]
        ]
        assert len(set(cross)) > 1 or (not cross and len(set(window[window > 0])) != 1)


def test_components():
    probability = np.array([[0.9, 0.4, 0.6], [0.5, 0.51, 0.6], [0.9, 0.2, 0.0]])
    # 4-connected, strictly above
    np.testing.assert_array_equal(components(probability), [[1, 0, 2], [0, 2, 2], [3, 0, 0]])
    np.testing.assert_array_equal(components(probability, 0.8), [[1, 0, 0], [0, 0, 0], [2, 0, 0]])
    np.testing.assert_array_equal(components(probability, min_size=2), [[0, 0, 1], [0, 1, 1], [0, 0, 0]])
    assert components(probability).dtype == np.int32


def two_hills(dip=0.65):
    """Two cells whose probabilities touch above 0.5 with a valley of `dip` between, and a third, faint one."""
    y, x = np.mgrid[:40, :80]
    hill = lambda v, u, height: height * np.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * 8**2))
    middle = np.hypot(8 * np.sqrt(2 * np.log(0.95 / dip)), 0)  # where one hill has fallen to the dip
    return np.maximum(np.maximum(hill(20, 20, 0.95), hill(20, 20 + 2 * middle, 0.95)), hill(20, 66, 0.7))


def test_watershed_parts_what_components_join():
    probability = two_hills()
    assert components(probability).max() == 2
    labels = seeded_watershed(probability, 0.5, 0.8)
    assert labels.max() == 3  # the faint cell has no seed and stays whole
    np.testing.assert_array_equal(labels > 0, probability > 0.5)
    seeds = ndimage.label(probability > 0.8)[0]
    seeds[(seeds == 0) & (np.arange(80) > 55) & (probability > 0.5)] = 3
    theirs = watershed(-probability, seeds, mask=probability > 0.5)
    same = sum(np.sum((labels == labels[seeds == n][0]) & (theirs == n)) for n in (1, 2, 3))
    assert same / (theirs > 0).sum() > 0.98  # one column, where the two meet, may go either way
    assert sorted(np.bincount(labels.ravel())[1:3]) == pytest.approx([theirs[theirs == 1].size] * 2, rel=0.05)


def test_the_cut_is_at_the_lowest_point_not_halfway():
    probability = np.array([[0.9, 0.55, 0.6, 0.65, 0.7, 0.75, 0.78, 0.9]])
    np.testing.assert_array_equal(seeded_watershed(probability), [[1, 1, 2, 2, 2, 2, 2, 2]])


def test_watershed_with_equal_thresholds_is_components():
    probability = ndimage.gaussian_filter(np.random.default_rng(1).random((40, 50)), 2)
    probability = (probability - probability.min()) / np.ptp(probability)
    ours, plain = seeded_watershed(probability, 0.5, 0.5), components(probability, 0.5)
    assert plain.max() > 3
    np.testing.assert_array_equal(ours, plain)


def test_min_size_drops_small_seeds_and_small_cells():
    probability = two_hills()
    probability[2, 2] = 0.9  # a speck
    probability[20, 27] = 0.99  # noise between the two: too small a seed
    assert seeded_watershed(probability, min_size=0).max() == 5
    assert seeded_watershed(probability, min_size=5).max() == 3


@pytest.mark.parametrize(
    "call, found",
    [
        (lambda: components(np.zeros((4, 5, 2))), r"\(4, 5, 2\)"),
        (lambda: seeded_watershed(np.zeros((4, 5)), 0.6, 0.5), "0.5 is below the threshold 0.6"),
    ],
)
def test_bad_input_is_named(call, found):
    with pytest.raises(InputError, match=found) as error:
        call()
    assert "\n" not in str(error.value) and "expected" in str(error.value)


def test_depth_is_the_last_axis_whatever_the_width():
    p = np.random.default_rng(0).random((3, 2, 3))  # (H, W, K), two pixels wide
    np.testing.assert_allclose(cutting.depth(p), p @ [0, 0.5, 1])
    np.testing.assert_array_equal(cutting.depth(p[..., :2]), p[..., 1])
    np.testing.assert_array_equal(cutting.depth(p[..., 0]), p[..., 0])


def test_a_pixel_is_doubtful_where_the_second_class_is_near():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), (6, 5))
    doubtful = ClassComponents().doubtful(probabilities, 0.1)
    for pixel in np.ndindex(6, 5):
        second, first = sorted(probabilities[pixel])[-2:]
        assert doubtful[pixel] == (first - second <= 0.2)
    assert 0 < doubtful.sum() < doubtful.size
