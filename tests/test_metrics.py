"""The measures of §4: worked examples, definitions as loops, scikit-image, and how merges and splits move them."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import watershed

from npunet import metrics
from npunet.errors import InputError
from npunet.metrics import threshold_sweep

SWEPT = ["v_rand", "v_info", "rand_error", "warping_error", "pixel_error"]
PERFECT = dict(v_rand=1, v_info=1, rand_error=0, warping_error=0, pixel_error=0)


def membranes(seed, shape=(64, 72), n=14, width=1):
    """(H, W) bool interior of cells with dark membranes between: the Voronoi cells of n points."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (n, 2)) * shape
    y, x = np.indices(shape)
    nearest = np.argmin((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2, axis=-1)
    border = ndimage.maximum_filter(nearest, 3) != ndimage.minimum_filter(nearest, 3)
    return ~ndimage.binary_dilation(border, iterations=width)


def noisy(interior, seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=interior.shape), 1.5)
    return np.clip(ndimage.gaussian_filter(interior.astype(float), 1) + noise, 0, 1)


def random_maps(seed, shape=(9, 11)):
    """Two maps of numbers with background in both, more alike than chance."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 4, (3, 4)), np.ones((3, 3), int))[: shape[0], : shape[1]]
    regions = np.where(rng.random(truth.shape) < 0.7, truth * 2, rng.integers(0, 9, truth.shape))
    return regions, truth


def singles_named(regions):
    """Every background pixel of the proposal becomes a region with a number of its own."""
    return np.where(regions == 0, regions.max() + 1 + np.arange(regions.size).reshape(regions.shape), regions)


# ---- V_rand and V_info ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_rand_is_about_pairs_of_pixels(seed):
    regions, truth = random_maps(seed)
    s, t = singles_named(regions)[truth > 0], truth[truth > 0]
    both = sum(s[a] == s[b] and t[a] == t[b] for a in range(len(s)) for b in range(len(s)))
    in_regions = sum(s[a] == s[b] for a in range(len(s)) for b in range(len(s)))
    in_cells = sum(t[a] == t[b] for a in range(len(s)) for b in range(len(s)))
    precision, recall = both / in_regions, both / in_cells
    assert metrics.rand_f_score(regions, truth) == pytest.approx(
        2 * precision * recall / (precision + recall), rel=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_information_is_about_entropies(seed):
    regions, truth = random_maps(seed)
    s, t = singles_named(regions)[truth > 0].tolist(), truth[truth > 0].tolist()
    entropy = lambda things: -sum(k / len(s) * math.log2(k / len(s)) for k in Counter(things).values())
    information = entropy(s) + entropy(t) - entropy(zip(s, t))
    assert metrics.information_f_score(regions, truth) == pytest.approx(
        2 * information / (entropy(s) + entropy(t)), rel=1e-12
    )


@pytest.mark.parametrize("seed", range(4))
def test_rand_and_information_against_scikit_image(seed):
    truth = ndimage.label(membranes(seed))[0]
    regions = ndimage.label(noisy(truth > 0, seed) > 0.6)[0]
    table, singles = metrics.contingency_table(regions, truth)
    n = np.count_nonzero(truth)
    both = np.square(table.toarray()).sum() + singles
    in_regions = np.square(table.sum(axis=0)).sum() + singles
    in_cells = np.square(np.bincount(truth[truth > 0])).sum()
    assert metrics.rand_f_score(regions, truth) == pytest.approx(2 * both / (in_regions + in_cells), rel=1e-12)
    error, precision, recall = adapted_rand_error(truth, singles_named(regions), ignore_labels=(0,))
    # scikit-image leaves out pairs of a pixel with itself
    ours = (both - n) / (in_regions - n), (both - n) / (in_cells - n)
    # which of the two is called precision is a matter of taste
    assert sorted(ours) == pytest.approx(sorted((precision, recall)))
    assert error == pytest.approx(1 - metrics.rand_f_score(regions, truth), abs=5e-3)
    variation = sum(variation_of_information(truth, singles_named(regions), ignore_labels=(0,)))
    shares = [np.bincount(labels[truth > 0]) / n for labels in (truth, singles_named(regions))]
    entropies = sum(-(p[p > 0] * np.log2(p[p > 0])).sum() for p in shares)
    assert metrics.information_f_score(regions, truth) == pytest.approx(1 - variation / entropies)


def test_worked_examples():
    """Two cells of four pixels. Merged: 2 (16 + 16) / (64 + 32) = 2/3, no information. One split in halves:
    2 (16 + 4 + 4) / (24 + 32) = 6/7, and 2 ln 2 / (3/2 ln 2 + ln 2) = 4/5. One lost: 2 (16 + 4) / (20 + 32) = 10/13."""
    truth = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2]])
    merged = np.array([[7, 7, 7, 7, 7], [7, 7, 0, 7, 7]])
    split = np.array([[1, 1, 3, 2, 2], [1, 1, 0, 5, 5]])
    lost = np.array([[3, 3, 0, 0, 0], [3, 3, 0, 0, 0]])
    assert metrics.rand_f_score(merged, truth) == pytest.approx(2 / 3)
    assert metrics.information_f_score(merged, truth) == pytest.approx(0)
    assert metrics.rand_f_score(split, truth) == pytest.approx(6 / 7)
    assert metrics.information_f_score(split, truth) == pytest.approx(4 / 5)
    assert metrics.rand_f_score(lost, truth) == pytest.approx(10 / 13)
    # H(S) = 1/2 + 4/8 3 = 2 bit, I = H(T) = 1 bit
    assert metrics.information_f_score(lost, truth) == pytest.approx(2 * 1 / (2 + 1))
    nothing = np.zeros_like(truth)
    assert metrics.rand_f_score(truth, nothing) == metrics.information_f_score(truth, nothing) == 1
    assert metrics.information_f_score(merged, (truth > 0).astype(int)) == 1  # one cell, one region


def test_thinning_forgives_thick_membranes_and_rand_error_does_not():
    interior = membranes(1, n=8)
    thick = ndimage.binary_erosion(interior, iterations=2, border_value=1)
    assert ndimage.label(thick)[1] == ndimage.label(interior)[1]
    assert metrics.v_rand(thick, interior)[0] > 0.98 and metrics.v_info(thick, interior)[0] > 0.98
    assert metrics.rand_error(thick, interior)[0] > 0.2


def test_thinning_by_hand():
    """Even pixels (y + x) go first:
    of two pixels between two cells, the even one joins its cell, the odd one becomes border.
    """
    np.testing.assert_array_equal(metrics.thin_borders(np.array([[1, 0, 0, 1]], bool)), [[1, 0, 2, 2]])
    np.testing.assert_array_equal(metrics.thin_borders(np.array([[1, 0, 0, 0, 1]], bool)), [[1, 1, 0, 2, 2]])
    np.testing.assert_array_equal(metrics.thin_borders(np.zeros((2, 3), bool)), 0)
    np.testing.assert_array_equal(metrics.thin_borders(np.array([[0, 0], [0, 1]], bool)), 1)


@pytest.mark.parametrize("seed", range(3))
def test_thinning_against_scikit_image(seed):
    interior, truth = noisy(membranes(seed), seed) > 0.7, ndimage.label(membranes(seed))[0]
    theirs = watershed((~interior).astype(np.uint8), ndimage.label(interior)[0], connectivity=1, watershed_line=True)
    ours = metrics.thin_borders(interior)
    assert metrics.rand_f_score(ours, truth) == pytest.approx(metrics.rand_f_score(theirs, truth), abs=0.01)
    assert metrics.information_f_score(ours, truth) == pytest.approx(
        metrics.information_f_score(theirs, truth), abs=0.01
    )


# ---- the sweep -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SWEPT)
def test_perfect_in_every_form(name):
    interior = np.stack([membranes(2), membranes(3)])
    for truth in (interior, interior.astype(np.uint8), interior * np.uint8(255)):
        for prob in (interior, interior.astype(np.float32), 0.2 + 0.6 * interior):
            score, threshold = getattr(metrics, name)(prob, truth)
            assert score == pytest.approx(PERFECT[name], abs=1e-12)
            assert isinstance(score, float) and isinstance(threshold, float)
            assert threshold == (0.0 if prob is interior or prob.dtype == np.float32 else 0.2)
    score, _ = getattr(metrics, name)(list(interior), [interior[0], interior[1]])
    assert score == pytest.approx(PERFECT[name], abs=1e-12)


@pytest.mark.parametrize("name", SWEPT)
def test_a_merger_and_a_split_cost(name):
    truth = np.ones((20, 31), bool)
    truth[:, 10] = truth[:, 20] = False  # three cells
    merged, split = truth.copy(), truth.copy()
    merged[8:11, 10] = True
    split[:, 5] = False
    for wrong in (merged, split):
        score = getattr(metrics, name)(wrong, truth)[0]
        assert 0 < score < 1 and abs(score - PERFECT[name]) > 1e-3


@pytest.mark.parametrize("name", ["v_rand", "v_info", "rand_error"])
def test_numbers_do_not_matter(name):
    truth, prob = ndimage.label(membranes(4))[0], noisy(membranes(4), 4)
    relabelled = np.random.default_rng(0).permutation(900)[truth] + 1
    measure = getattr(metrics, name)
    expected = measure(prob, truth)
    assert measure(prob, np.where(truth > 0, relabelled, 0)) == pytest.approx(expected, rel=1e-12)
    # but for ties in the flood
    assert measure(prob[::-1, ::-1].T, truth[::-1, ::-1].T)[0] == pytest.approx(expected[0], abs=0.01)
    assert measure(prob, truth > 0) == pytest.approx(expected, rel=1e-12)  # a mask stands for its components


def test_numbers_part_cells_that_touch():
    truth = np.array([[1, 1, 2, 2]])
    assert metrics.v_rand((truth > 0), truth)[0] == pytest.approx(2 / 3)
    assert metrics.v_rand((truth > 0), truth > 0)[0] == 1


def test_threshold_is_strict_and_the_lowest_of_the_best():
    truth = np.array([[1, 1, 1, 0, 1, 1, 1]])
    prob = np.array([[0.75, 0.75, 0.75, 0.3, 0.75, 0.75, 0.75]], np.float32)
    assert metrics.v_rand(prob, truth) == (1.0, 0.3)  # 0.3 > 0.3 is false
    assert metrics.rand_error(prob, truth) == (0.0, 0.3)
    assert metrics.pixel_error(prob, truth) == (0.0, 0.3)


def test_one_threshold_for_all_sections():
    truth = np.array([[1, 1, 0, 1, 1]])
    low, high = truth * 0.25 + 0.05, truth * 0.25 + 0.65  # perfect from 0.1 to 0.2, and from 0.7 to 0.8
    assert metrics.v_rand(low, truth)[0] == metrics.v_rand(high, truth)[0] == 1
    score, threshold = metrics.v_rand(np.stack([low, high]), np.stack([truth, truth]))
    merged = metrics.rand_f_score(np.ones_like(truth), np.array([[1, 1, 0, 2, 2]]))
    scattered = metrics.rand_f_score(np.zeros_like(truth), np.array([[1, 1, 0, 2, 2]]))
    assert score == pytest.approx((1 + max(merged, scattered)) / 2) and score < 1
    scores, common = metrics.per_section("v_rand", np.stack([low, high]), np.stack([truth, truth]))
    assert scores.mean() == score and common == threshold and sorted(scores)[1] == 1


def test_sections_may_differ_in_size():
    first, second = membranes(5, (30, 40), 5), membranes(6, (25, 33), 5)
    error, threshold = metrics.rand_error([noisy(first, 1), noisy(second, 2)], [first, second])
    assert 0 < error < 0.5 and 0 < threshold < 1
    scores, _ = metrics.per_section("pixel_error", [noisy(first, 1), second], [first, second])
    assert scores.shape == (2,) and scores[0] > scores[1]


# ---- overlaps ------------------------------------------------------------------------------------------------------


def test_overlaps_by_hand():
    mask, truth = np.array([[1, 1, 1, 0], [0, 0, 0, 0]]), np.array([[0, 1, 1, 1], [0, 1, 0, 0]])
    assert metrics.iou(mask, truth) == 2 / 5
    assert metrics.dice(mask, truth) == 4 / 7
    assert metrics.pixel_accuracy(mask, truth) == 5 / 8
    assert metrics.pixel_error(mask, truth) == (pytest.approx(3 / 7), 0.0)
    assert metrics.iou(mask * 255, truth * 7) == 2 / 5  # any nonzero is object
    empty = np.zeros_like(mask)
    assert metrics.iou(empty, empty) == metrics.dice(empty, empty) == 1
    assert metrics.iou(mask, empty) == metrics.dice(mask, empty) == 0
    assert metrics.pixel_accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])) == 0.75


def test_seg_by_hand():
    """Cell 1: 3 of 4 pixels found, one too many: 3/5. Cell 2: exactly half covered, so no match. Cell 5: missed."""
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 5]])
    found = np.array([[0, 4, 4, 4, 4, 0, 9, 9, 0]])
    assert metrics.seg(found, truth) == pytest.approx((3 / 5 + 0 + 0) / 3)
    assert metrics.seg(truth, truth) == 1
    assert metrics.seg(truth * 3, truth) == 1
    # all merged: each matched, badly
    assert metrics.seg((truth > 0) * 1, truth) == pytest.approx((4 / 7) / 3 + (2 / 7) / 3 + (1 / 7) / 3)
    assert metrics.seg(np.stack([found, truth]), np.stack([truth, truth])) == pytest.approx((3 / 5 + 3) / 6)
    assert metrics.seg([found, truth[:, :5]], [truth, truth[:, :5]]) == pytest.approx((3 / 5 + 1) / 4)
    assert math.isnan(metrics.seg(found, np.zeros_like(truth)))


@pytest.mark.parametrize("seed", range(3))
def test_seg_is_the_mean_over_cells(seed):
    truth = ndimage.label(membranes(seed))[0]
    found = ndimage.label(noisy(truth > 0, seed) > 0.6)[0]
    scores = []
    for cell in range(1, truth.max() + 1):
        scores.append(0.0)
        for region in range(1, found.max() + 1):
            shared = np.sum((truth == cell) & (found == region))
            if shared > 0.5 * np.sum(truth == cell):
                scores[-1] = shared / np.sum((truth == cell) | (found == region))
    assert 0 < np.mean(scores) < 1
    assert metrics.seg(found, truth) == pytest.approx(np.mean(scores), rel=1e-12)


# ---- bad input, and the real thing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, found",
    [
        (lambda: metrics.v_rand(np.zeros((4, 5)), np.zeros((4, 6), int)), r"\(4, 5\), truth is 1 of shape \(4, 6\)"),
        (lambda: metrics.v_rand(np.zeros((2, 4, 5)), np.zeros((3, 4, 5), int)), "2 of shape"),
        (lambda: metrics.v_info(np.zeros((1, 4, 5, 2)), np.zeros((1, 4, 5), int)), r"\(4, 5, 2\)"),
        (lambda: metrics.warping_error(np.full((4, 5), 255), np.zeros((4, 5), int)), "255"),
        (lambda: metrics.rand_error(np.full((4, 5), np.nan), np.zeros((4, 5), int)), "nan"),
        (lambda: metrics.pixel_error(np.zeros((4, 5)), np.full((4, 5), 0.5)), "float64"),
        (lambda: metrics.iou(np.zeros((4, 5)), np.zeros((4, 6))), r"\(4, 6\)"),
        (lambda: metrics.seg(np.zeros((4, 5)), np.zeros((4, 5), int)), "float64"),
        (lambda: metrics.seg(np.zeros((2, 4, 5), int), np.zeros((1, 4, 5), int)), "2 sections"),
    ],
)
def test_bad_input_is_named(call, found):
    with pytest.raises(InputError, match=found) as error:
        call()
    assert "\n" not in str(error.value) and "expected" in str(error.value)


@pytest.mark.shared_data
def test_real_sections():
    """The annotators' own labels score perfectly; a blurred raw section, taken as probability, does not."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "isbi2012"
    if not (folder / "train-labels.tif").exists():
        pytest.skip("no ISBI sections in ../shared/data/isbi2012")
    import tifffile

    labels = tifffile.imread(folder / "train-labels.tif", key=0)
    raw = ndimage.gaussian_filter(tifffile.imread(folder / "train-volume.tif", key=0) / 255, 2)
    for name in SWEPT:
        assert getattr(metrics, name)(labels / 255, labels)[0] == pytest.approx(PERFECT[name], abs=1e-12)
        assert abs(getattr(metrics, name)(raw, labels)[0] - PERFECT[name]) > 1e-3


@pytest.mark.parametrize("stack", [[], [np.zeros((0, 3))], [np.zeros((3, 3, 1))], np.zeros((2, 3, 3, 1)), np.zeros(3)])
def test_sections_are_pictures_without_channels(stack):
    with pytest.raises(InputError, match="masks are .*expected one or more sections"):
        threshold_sweep.sections(stack, "masks")


def test_isbi_thresholds_are_tenths():
    np.testing.assert_allclose(threshold_sweep.THRESHOLDS, np.linspace(0, 1, 11), atol=1e-15)
