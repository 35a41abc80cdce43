"""Average precision of cells: how many are found at all, if a found cell must overlap a true one by so much (§4).

A found cell and a true one are a match at the threshold t if their intersection over union is above t. From t = 1/2 on
a cell has one match at most: two cells that both shared more than half of the same union would overlap. So nothing has
to be assigned, and

    AP(t) = TP / (TP + FP + FN)     TP matches, FP found cells without a match, FN true cells without one

is what the 2018 Data Science Bowl and StarDist (Schmidt et al. 2018, https://doi.org/10.1007/978-3-030-00934-2_30,
Table 1) call average precision. It is no area under a curve: these networks do not rank their cells. Cells of all
images are counted together. Where an IoU equals t exactly the two programs differ ("greater" here and in the Data
Science Bowl, "at least" in StarDist's).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from npunet.errors import InputError
from npunet.metrics.clustering import contingency_table

IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)  # of Table 1 of the StarDist paper


def pair_ious(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of cells that overlap: (found numbers, true numbers, IoU), each (pairs,).

    found, truth    (H, W) cell numbers, 0 = background
    """
    shared = contingency_table(found, truth)[0].tocoo()
    true_sizes, found_sizes = np.bincount(truth.ravel()), np.bincount(found.ravel())
    true_numbers, found_numbers = shared.coords
    ious = shared.data / (true_sizes[true_numbers] + found_sizes[found_numbers] - shared.data)
    return found_numbers, true_numbers, ious


def match_counts(found: np.ndarray, truth: np.ndarray, thresholds: Sequence[float] = IOU_THRESHOLDS) -> np.ndarray:
    """(thresholds, 3) int64: matches TP, found cells without one FP, true cells without one FN.

    found, truth    (H, W) cell numbers, 0 = background. Raises InputError for a threshold below 1/2, where a cell may
                    have two matches.
    """
    if min(thresholds) < 0.5 or max(thresholds) >= 1:
        raise InputError(f"IoU thresholds {tuple(thresholds)}; expected at least 0.5 and below 1")
    if found.shape != truth.shape:
        raise InputError(f"found cells have shape {found.shape}, true ones {truth.shape}; expected one shape")
    ious = pair_ious(found, truth)[2]
    n_found, n_true = (np.count_nonzero(np.bincount(cells.ravel())[1:]) for cells in (found, truth))
    matches = np.array([np.count_nonzero(ious > threshold) for threshold in thresholds])
    return np.stack([matches, n_found - matches, n_true - matches], axis=1)


def precision_of_counts(counts: np.ndarray) -> np.ndarray:
    """AP from counts (..., 3) of TP, FP, FN: (...) float64; NaN where there is no cell at all."""
    total = counts.sum(axis=-1)
    return np.divide(counts[..., 0], total, out=np.full(total.shape, np.nan), where=total > 0)


def average_precision(
    found: np.ndarray | Sequence[np.ndarray],
    truth: np.ndarray | Sequence[np.ndarray],
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> np.ndarray:
    """AP at each threshold, cells of all images counted together: (thresholds,) float64. 1 is perfect.

    found, truth    (H, W) cell numbers, or lists of them. The mean over all thresholds is the array's mean.
    """
    one_image = isinstance(found, np.ndarray) and found.ndim == 2
    pairs: list[Any] = [(found, truth)] if one_image else list(zip(found, truth, strict=True))
    return precision_of_counts(np.sum([match_counts(f, t, thresholds) for f, t in pairs], axis=0))
