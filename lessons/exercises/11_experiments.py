"""Exercise of lesson 11: is A better than B, or was it luck?

A and B were scored on the same n sections. If there were no difference between them, the sign of each section's
difference a - b would be a coin's. There are 2^n ways in which the coins can fall, each as likely as the others:

    p = share of them whose mean difference is at least as large as the one that was found

Check yourself with: pytest lessons/exercises -k 11
"""

import itertools

import numpy as np


def chance(a, b):
    """The probability p above for the scores a and b (n,) of the same sections, n up to about 15: a float, never 0.

    Count sums that are equal but for rounding as equal: "at least as large" must hold for the signs as they were found.
    """
    raise NotImplementedError("write chance: itertools.product of signs, a sum for each, and count")
