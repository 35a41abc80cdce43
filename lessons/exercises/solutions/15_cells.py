"""Solution of lesson 15's exercise: a cell has one match at most, so FP and FN follow from the number of matches."""

import numpy as np


def average_precision(found, truth, threshold):
    """AP of one image, a float. found, truth (H, W) integers, 0 = background; one of them has at least one cell."""
    found_numbers, true_numbers = np.unique(found[found > 0]), np.unique(truth[truth > 0])
    matches = 0
    for number in found_numbers:
        mine = found == number
        for other in true_numbers:
            theirs = truth == other
            iou = np.sum(mine & theirs) / np.sum(mine | theirs)
            matches += iou > threshold
    wrongly_found, missed = len(found_numbers) - matches, len(true_numbers) - matches
    return float(matches / (matches + wrongly_found + missed))
