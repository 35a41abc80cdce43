"""Check of exercise 11, run as: pytest lessons/exercises -k 11"""

import itertools

import numpy as np
from exercise import check_of

READ = 'lesson 11, "How much is a difference worth?"'
B = np.array([0.90, 0.85, 0.93, 0.88])
CASES = {
    "always better: only one of the 2^n ways is as good": (B + [0.01, 0.02, 0.03, 0.01], B),
    "one section cannot say more than 1/2": (B[:1] + 0.01, B[:1]),
    "differences 3, 2, -1: two of eight": (np.array([3.0, 2, 0]), np.array([0.0, 0, 1])),
    "always worse: all of them": (B - [0.01, 0.02, 0.03, 0.01], B),
    "no difference is no evidence: 1": (np.array([0.5, 0.6, 0.7]), np.array([0.5, 0.6, 0.7])),
    "0.1 + 0.2 is not quite 0.3: sums that tie must all be counted, five of eight": (
        np.array([0.1, 0.2, 0.0]),
        np.array([0.0, 0.0, 0.3]),
    ),
    "eight random sections": tuple(np.random.default_rng(11).normal(0.9, 0.03, (2, 8))),
}


def ways(differences):
    return [
        sum(s * d for s, d in zip(signs, differences)) for signs in itertools.product((1, -1), repeat=len(differences))
    ]


def test_chance():
    check = check_of("11_experiments", "chance", READ)
    for case, (a, b) in CASES.items():
        differences = [float(x) - float(y) for x, y in zip(a, b)]
        found, sums = sum(differences), ways(differences)
        rounding = 1e-9 * (sum(map(abs, differences)) or 1)
        p = np.mean([s >= found - rounding for s in sums])
        exact = np.array([abs(d) for d in differences])
        signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
        mistakes = {
            "ways that tie with the one that was found do not count: at least as large": np.mean(
                [s > found + rounding for s in sums]
            ),
            "ties are lost to rounding: compare with a little less than the sum that was found": np.mean(
                signs @ exact >= found
            ),
            "ties are lost to rounding: compare with a little less than the sum that was found ": np.mean(
                [s >= found for s in sums]
            ),
            "ties are lost to rounding: compare with a little less than the mean that was found": np.mean(
                (signs * np.array(differences)).mean(axis=1) >= np.mean(differences)
            ),
            "both directions count: a large difference of either sign; at least as large is asked": np.mean(
                [abs(s) >= abs(found) - rounding for s in sums]
            ),
            "the wrong direction: at most as large": np.mean([s <= found + rounding for s in sums]),
            "1 - p": 1 - p,
            "a number of ways; their share is wanted": p * len(sums),
            "b - a, not a - b": np.mean([s >= -found - rounding for s in sums]),
            "the share of sections where A is better": np.mean(np.array(differences) > 0),
        }
        check(case, {"a": a, "b": b}, p, mistakes, outputs=("p",))
    check.verdict()
    p = check.call("lists, not arrays", {"a": [3.0, 2.0, 0.0], "b": [0.0, 0.0, 1.0]})
    if not isinstance(p, float):
        check.fail(f"chance returns {type(p).__name__}", "a float is wanted: float(...)")
