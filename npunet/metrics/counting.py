"""Counting cells (§1: "the separation of touching objects"): which are merged, split, missed or invented.

Let R be a true cell and F a found one. F *covers* R if it holds more than half of R's pixels, and R covers F alike;
each cell is covered by at most one other. Then

    merged      for each found cell that covers m >= 2 true ones, m - 1: the walls that are missing
    split       for each true cell that covers m >= 2 found ones, m - 1: the walls that are too many
    missed      true cells that no found one covers: those that count 0 in SEG
    invented    found cells that neither cover a true one nor are covered by one

All of them 0 is a perfect count. SEG says how well outlines agree; these say what kind of mistakes there are, in cells.
"""

from collections import Counter

import numpy as np

from npunet.instances.numbers import touching
from npunet.metrics.clustering import contingency_table


def count_errors(found: np.ndarray, truth: np.ndarray) -> Counter[str]:
    """{"true", "found", "merged", "split", "missed", "invented"} -> Counter of ints. found, truth:
    (H, W) cell numbers, 0 = background.
    """
    shared = contingency_table(found, truth)[0].tocoo()
    true_sizes, found_sizes = np.bincount(truth.ravel()), np.bincount(found.ravel())
    rows, columns = shared.coords
    found_covers = shared.data > true_sizes[rows] / 2
    true_covers = shared.data > found_sizes[columns] / 2
    # of each found cell: true cells it covers
    covered_by_found = np.bincount(columns[found_covers], minlength=len(found_sizes))
    covered_by_true = np.bincount(rows[true_covers], minlength=len(true_sizes))
    true_cells, found_cells = np.flatnonzero(true_sizes[1:]) + 1, np.flatnonzero(found_sizes[1:]) + 1
    known = np.union1d(columns[found_covers], columns[true_covers])
    return Counter(
        {
            "true": len(true_cells),
            "found": len(found_cells),
            "merged": int(np.maximum(covered_by_found - 1, 0).sum()),
            "split": int(np.maximum(covered_by_true - 1, 0).sum()),
            "missed": len(np.setdiff1d(true_cells, rows[found_covers])),
            "invented": len(np.setdiff1d(found_cells, known)),
        }
    )


def touching_cells(truth: np.ndarray, reach: int = 2) -> np.ndarray:
    """Numbers of the cells that have a pixel of another cell within `reach` pixels (of a square window);
    truth (H, W), 0 = background.
    """
    return np.unique(truth[touching(truth, reach)])
