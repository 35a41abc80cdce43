"""Solution of lesson 11's exercise: all signs as rows of a matrix;
its product with the differences gives all sums at once.
"""

import itertools

import numpy as np


def chance(a, b):
    """The probability p above for the scores a and b (n,) of the same sections, n up to about 15: a float, never 0."""
    differences = np.asarray(a, float) - np.asarray(b, float)
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))  # (2^n, n)
    sums = signs @ np.abs(differences)  # signs of differences that are coins already
    rounding = 1e-12 * np.abs(differences).sum()
    return float(np.mean(sums >= differences.sum() - rounding))
