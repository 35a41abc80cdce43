"""Checks of exercise 11, run as: pytest lessons/exercises/check_11_experiments.py"""

import numpy as np
import pytest
from exercise import load

answer = load("11_experiments")


def test_always_better():
    """Only one of the 2^n ways is as good: four sections cannot say more than 1 / 16."""
    b = np.array([0.90, 0.85, 0.93, 0.88])
    p = answer.chance(b + [0.01, 0.02, 0.03, 0.01], b)
    assert p == 1 / 16 and isinstance(p, float)
    assert answer.chance(b[:1] + 0.01, b[:1]) == 0.5


def test_by_hand():
    """Differences 3, 2, -1: sums of +-3 +-2 +-1 are 6 4 2 0 0 -2 -4 -6; found was 4, so two of eight."""
    assert answer.chance([3.0, 2.0, 0.0], [0.0, 0.0, 1.0]) == 2 / 8


def test_no_difference_is_no_evidence():
    assert answer.chance([0.5, 0.6, 0.7], [0.5, 0.6, 0.7]) == 1.0


def test_equal_but_for_rounding():
    """0.1 + 0.2 is not quite 0.3; ways that tie must all be counted:
    of +-0.1 +-0.2 +-0.3 those of at least 0 are five.
    """
    assert answer.chance([0.1, 0.2, 0.0], [0.0, 0.0, 0.3]) == 5 / 8


def test_it_is_seldom_fooled():
    """Where A and B are the same, p below 0.1 comes in a tenth of the experiments at most."""
    rng = np.random.default_rng(11)
    fooled = [answer.chance(*rng.normal(0.9, 0.03, (2, 8))) <= 0.1 for _ in range(200)]
    assert np.mean(fooled) < 0.16
    assert answer.chance(rng.normal(0.93, 0.01, 8), rng.normal(0.9, 0.01, 8)) == pytest.approx(1 / 256, abs=0.02)
