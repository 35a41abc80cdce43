"""Overlaps: of pixels, of masks, and of each single cell with its match (§4: Table 1's pixel error, Table 2's IoU)."""

import numpy as np

from npunet.errors import InputError
from npunet.machine.backend import to_cpu
from npunet.metrics.clustering import contingency_table
from npunet.metrics.threshold_sweep import Sections, measure, sections


def pixel_accuracy(labels: np.ndarray, truth: np.ndarray) -> float:
    """The share of pixels whose label is the true one; arrays of one shape, any integers or booleans."""
    labels, truth = _pair(labels, truth)
    return float(np.mean(labels == truth))


@measure(larger_is_better=False)
def pixel_error(interior: np.ndarray, truth: np.ndarray) -> float:
    """1 - F-score of the interior pixels -> (error, threshold). 0 is perfect. Table 1's "pixel error".

    Called as pixel_error(prob, truth), both (S, H, W): see `threshold_sweep.sweep`. The challenge defined it as 1 - the
    maximal F-score of pixel similarity over the thresholds. (The share of wrong pixels, which others call pixel error,
    is 1 - pixel_accuracy.)
    """
    return 1 - pixel_f_score(interior, truth > 0)


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two masks (Jaccard 1912, https://doi.org/10.1111/j.1469-8137.1912.tb05611.x); Table 2.

    mask, truth    arrays of one shape, nonzero = object. 1 is perfect, and is the answer where both are empty.
    """
    mask, truth = _pair(mask, truth)
    union = np.count_nonzero((mask != 0) | (truth != 0))
    return np.count_nonzero((mask != 0) & (truth != 0)) / union if union else 1.0


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Twice the intersection over the sum of the areas (Dice 1945, https://doi.org/10.2307/1932409) = the F-score of
    the pixels.

    mask, truth    arrays of one shape, nonzero = object. 1 is perfect, and is the answer where both are empty.
    """
    mask, truth = _pair(mask, truth)
    areas = np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * np.count_nonzero((mask != 0) & (truth != 0)) / areas if areas else 1.0


pixel_f_score = dice


def seg(instances: Sections, truth: Sections) -> float:
    """SEG of the cell tracking challenge: the mean over the true cells of their IoU with the cell found in their place.

    A found cell S is the match of a true cell R if it covers more than half of it, |R and S| > |R| / 2 (there is at
    most one); without a match the cell counts 0. Found cells without a true one cost nothing by themselves. Maska et
    al. 2014, https://doi.org/10.1093/bioinformatics/btu080.

    instances, truth    cell numbers 0..n, (H, W), or (S, H, W) or a list of (H, W): then over the cells of all frames
                        together
    Returns a float, 1 is perfect; NaN if the truth has no cell.
    """
    scores = np.concatenate(
        [cell_ious(found, true)[1] for found, true in zip(*_same_sections(instances, truth), strict=True)]
    )
    return float(scores.mean()) if scores.size else float("nan")


def cell_ious(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The terms of `seg`: (numbers of the true cells, (n,) int64;
    IoU of each with its match, (n,) float64, 0 without one).

    found, truth    (H, W) cell numbers, 0 = background
    """
    shared = contingency_table(found, truth)[0].tocoo()
    true_sizes, found_sizes = np.bincount(truth.ravel()), np.bincount(found.ravel())
    rows, columns = shared.coords
    iou_of_pair = shared.data / (true_sizes[rows] + found_sizes[columns] - shared.data)
    match = shared.data > true_sizes[rows] / 2
    scores = np.zeros(len(true_sizes))
    scores[rows[match]] = iou_of_pair[match]
    numbers = 1 + np.flatnonzero(true_sizes[1:])  # those that occur, without the background
    return numbers, scores[numbers]


def _pair(labels, truth):
    labels, truth = to_cpu(labels), to_cpu(truth)
    if labels.shape != truth.shape or labels.size == 0:
        raise InputError(
            f"shapes {labels.shape} and {truth.shape} cannot be compared; expected two arrays of one shape"
        )
    return labels, truth


def _same_sections(instances, truth):
    instances, truth = sections(instances, "instances"), sections(truth, "truth")
    for found, true in zip(instances, truth):
        _pair(found, true)
        if found.dtype.kind not in "iu" or true.dtype.kind not in "iu" or min(found.min(), true.min()) < 0:
            raise InputError(
                f"instances are {found.dtype}, truth is {true.dtype}; expected cell numbers 0..n in both "
                "(npunet.instances.components makes them from probabilities)"
            )
    if len(instances) != len(truth):
        raise InputError(f"{len(instances)} sections of instances, {len(truth)} of truth; expected as many")
    return instances, truth
