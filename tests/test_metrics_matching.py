"""Average precision and the confusion matrix: by hand, over all pairs with scikit-image, and with an assignment."""

import numpy as np
import pytest
from scipy import ndimage, optimize
from skimage.measure import regionprops
from skimage.metrics import contingency_table as skimage_table

from npunet import metrics
from npunet.errors import InputError
from npunet.metrics.matching import precision_of_counts


def random_cells(seed, shape=(60, 70)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    return ndimage.label(noise > 0.05)[0]


def nearly(truth, seed):
    """`truth` with cells lost, moved by a pixel, eroded and joined."""
    rng = np.random.default_rng(seed)
    found = np.zeros_like(truth)
    for number in range(1, truth.max() + 1):
        mask, kind = truth == number, rng.integers(4)
        mask = {0: mask, 1: ndimage.binary_erosion(mask), 2: np.roll(mask, 1, 0), 3: mask & False}[int(kind)]
        found[mask] = number + 10 if rng.random() < 0.8 else 5
    return found


def test_average_precision_by_hand():
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 3, 3]])
    found = np.array([[7, 7, 7, 0, 0, 4, 4, 4, 4, 4, 0, 0]])  # IoU 3/4, 4/5, and one missed
    np.testing.assert_array_equal(
        metrics.match_counts(found, truth, (0.5, 0.75, 0.8)), [[2, 0, 1], [1, 1, 2], [0, 2, 3]]
    )
    np.testing.assert_allclose(metrics.average_precision(found, truth, (0.5, 0.75)), [2 / 3, 1 / 4])
    empty = np.zeros((3, 4), int)
    assert np.isnan(metrics.average_precision(empty, empty)).all()
    np.testing.assert_array_equal(metrics.average_precision(empty, np.eye(3, 4, dtype=int)), 0)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_all_pairs(seed):
    """Every pair of regions that scikit-image lists; then the best assignment of found to true cells."""
    truth = random_cells(seed)
    found = nearly(truth, seed)
    for thresholds in [metrics.IOU_THRESHOLDS]:
        ours = metrics.match_counts(found, truth, thresholds)
        true_cells = [set(map(tuple, region.coords)) for region in regionprops(truth)]
        found_cells = [set(map(tuple, region.coords)) for region in regionprops(found)]
        ious = np.array([[len(t & f) / len(t | f) for f in found_cells] for t in true_cells])
        for (tp, fp, fn), threshold in zip(ours, thresholds, strict=True):
            good = ious > threshold
            rows, columns = optimize.linear_sum_assignment(good, maximize=True)
            assert tp == good[rows, columns].sum() and fp == len(found_cells) - tp and fn == len(true_cells) - tp
    assert 0 < ours[0, 0] < truth.max()


def test_images_are_counted_together():
    one, two = random_cells(1), random_cells(2)
    truth, found = [one, two], [nearly(one, 5), nearly(two, 6)]
    counts = metrics.match_counts(found[0], one) + metrics.match_counts(found[1], two)
    np.testing.assert_array_equal(metrics.average_precision(found, truth), counts[:, 0] / counts.sum(axis=1))


@pytest.mark.parametrize("seed", range(2))
def test_confusion_matrix_against_scikit_image(seed):
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 4, (20, 30)), rng.integers(0, 4, (20, 30))
    ours = metrics.confusion_matrix(found, truth, 4)
    np.testing.assert_array_equal(ours, skimage_table(truth, found).toarray())
    scores = metrics.class_scores(ours)
    for k in range(4):
        both, f, t = np.sum((found == k) & (truth == k)), np.sum(found == k), np.sum(truth == k)
        assert scores["precision"][k] == both / f and scores["recall"][k] == both / t
        assert scores["dice"][k] == pytest.approx(metrics.dice(found == k, truth == k))
        assert scores["iou"][k] == pytest.approx(metrics.iou(found == k, truth == k))
    ignore = rng.random((20, 30)) < 0.3
    np.testing.assert_array_equal(
        metrics.confusion_matrix(found, truth, 4, ignore), skimage_table(truth[~ignore], found[~ignore]).toarray()
    )


def test_a_class_that_does_not_occur_has_no_score():
    scores = metrics.class_scores(np.array([[5, 0], [0, 0]]))
    assert scores["iou"][0] == 1 and all(np.isnan(values[1]) for values in scores.values())


@pytest.mark.parametrize(
    "call, found",
    [
        (lambda a: metrics.match_counts(a, a, (0.4,)), "0.4"),
        (lambda a: metrics.match_counts(a, a[:2]), r"\(2, 3\)"),
        (lambda a: metrics.confusion_matrix(a, a, 1), "classes 2 to 2; expected 0 to 0"),
        (lambda a: metrics.confusion_matrix(a - 3, a, 3), "classes -1 to -1; expected 0 to 2"),
        (lambda a: metrics.confusion_matrix(a, a[:2], 3), r"\(2, 3\)"),
    ],
)
def test_bad_input_is_named(call, found):
    with pytest.raises(InputError, match=found) as error:
        call(np.full((3, 3), 2))
    assert "\n" not in str(error.value) and "expected" in str(error.value)


@pytest.mark.parametrize(
    "counts", [[3, 1, 2], [[3, 1, 2], [0, 0, 0]], [[[3, 1, 2], [1, 0, 0]], [[0, 5, 0], [0, 0, 0]]]]
)
def test_average_precision_of_counts_of_any_shape(counts):
    counts = np.array(counts)
    found = precision_of_counts(counts)
    assert found.shape == counts.shape[:-1]
    for place in np.ndindex(found.shape):
        hit, false, missed = counts[place]
        both = hit + false + missed
        np.testing.assert_equal(found[place], hit / both if both else np.nan)
