"""Check of exercise 15, run as: pytest lessons/exercises -k 15"""

from collections import Counter

import numpy as np
from exercise import check_of

READ = 'lesson 15, "Scoring cells: AP"'


def cells(*row):
    return np.repeat([row], 2, axis=0)


TRUTH = cells(1, 1, 1, 1, 0, 2, 2, 2, 2)
CASES = {
    "the truth is perfect": (TRUTH, TRUTH, 0.5),
    "two cells found as one": (cells(7, 7, 7, 7, 7, 7, 7, 7, 7), TRUTH, 0.5),
    "a merger that matches the larger one": (cells(1, 1, 1, 1, 1, 1, 1, 1, 0), cells(1, 1, 1, 1, 1, 1, 0, 2, 0), 0.5),
    "one cell is split": (cells(1, 1, 1, 1, 0, 2, 2, 3, 3), TRUTH, 0.5),
    "an IoU of exactly 3/4 is not above 3/4": (cells(1, 1, 1, 0, 0, 2, 2, 2, 2), TRUTH, 0.75),
    "numbers that are left out are no cells": (cells(2, 2, 2, 2, 0, 9, 9, 9, 9), cells(3, 3, 3, 3, 0, 4, 4, 4, 4), 0.5),
    "nothing was found": (0 * TRUTH, TRUTH, 0.5),
    "a cell that is far too small, and one that is not there": (cells(1, 0, 0, 0, 3, 2, 2, 2, 2), TRUTH, 0.5),
    "a cell that is too large": (cells(1, 1, 1, 0, 2, 2, 2, 2, 0), cells(1, 1, 1, 0, 2, 2, 0, 0, 0), 0.6),
}


def pixels(image, background=False):
    """{number: the set of its pixels}"""
    found = {}
    for place, number in np.ndenumerate(image):
        if number or background:
            found.setdefault(int(number), set()).add(place)
    return found


def count(found, truth, threshold, share=lambda a, b: len(a & b) / len(a | b), background=False, least=False):
    """(TP, FP, FN), pair by pair, with sets of pixels."""
    ours, theirs = pixels(found, background), pixels(truth, background)
    shares = [share(a, b) for a in ours.values() for b in theirs.values()]
    matches = sum(s >= threshold if least else s > threshold for s in shares)
    return Counter(tp=matches, fp=len(ours) - matches, fn=len(theirs) - matches)


def score(n):
    return n["tp"] / max(1, n["tp"] + n["fp"] + n["fn"])


def test_average_precision():
    check = check_of("15_cells", "average_precision", READ)
    for case, (found, truth, threshold) in CASES.items():
        n = count(found, truth, threshold)
        largest = n["tp"] / (int(found.max()) + int(truth.max()) - n["tp"])
        mistakes = {
            "a match needs an IoU above the threshold; this counts at least": score(
                count(found, truth, threshold, least=True)
            ),
            "the background, number 0, is counted as a cell": score(count(found, truth, threshold, background=True)),
            "the largest number is taken for the number of cells; numbers may be left out": largest,
            "TP / (TP + FN), the recall: found cells without a match are forgotten": n["tp"]
            / max(1, n["tp"] + n["fn"]),
            "TP / (TP + FP), the precision: true cells without a match are forgotten": n["tp"]
            / max(1, n["tp"] + n["fp"]),
            "2 TP / (2 TP + FP + FN), the F-score; AP counts a match once": 2
            * n["tp"]
            / (2 * n["tp"] + n["fp"] + n["fn"]),
            "the share of the true cell that is covered, not the IoU": score(
                count(found, truth, threshold, lambda a, b: len(a & b) / len(b))
            ),
            "the share of the found cell that is right, not the IoU": score(
                count(found, truth, threshold, lambda a, b: len(a & b) / len(a))
            ),
            "Dice, twice the intersection over the sum of the sizes, not the IoU": score(
                count(found, truth, threshold, lambda a, b: 2 * len(a & b) / (len(a) + len(b)))
            ),
            "the threshold is 1/2 whatever is asked": score(count(found, truth, 0.5)),
            "the IoU of the two masks, which counts pixels; AP counts cells": np.sum((found > 0) & (truth > 0))
            / np.sum((found > 0) | (truth > 0)),
            "all cells of both are counted in the denominator: a match is there twice": n["tp"]
            / (2 * n["tp"] + n["fp"] + n["fn"]),
        }
        arguments = {"found": found, "truth": truth, "threshold": threshold}
        check(case, arguments, np.float64(score(n)), mistakes, outputs=("AP",))
    check.verdict()
    value = check.call("the type", {"found": TRUTH, "truth": TRUTH, "threshold": 0.5})
    if not isinstance(value, float):
        check.fail(f"average_precision returns {type(value).__name__}", "a float is wanted: float(...)")
