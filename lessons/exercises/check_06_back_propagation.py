"""Checks of exercise 6, run as: pytest lessons/exercises/check_06_back_propagation.py"""

import numpy as np
import pytest
from exercise import load

from npunet.gradient_check import check_gradients

answer = load("06_back_propagation")

SIZES = [
    ((2, 4, 4, 3), (2, 8, 10, 3)),
    ((1, 3, 5, 2), (1, 6, 5, 2)),
]  # the second has an odd rest, and one without crop


@pytest.mark.parametrize("small, large", SIZES)
def test_forward_is_the_formula(small, large):
    rng = np.random.default_rng(1)
    upsampled, skip = rng.standard_normal(small), rng.standard_normal(large)
    y, _ = answer.crop_add(upsampled, skip)
    top, left = (large[1] - small[1]) // 2, (large[2] - small[2]) // 2
    assert y.shape == small
    for n, i, j, c in np.ndindex(y.shape):
        assert y[n, i, j, c] == upsampled[n, i, j, c] + skip[n, top + i, left + j, c]


@pytest.mark.parametrize("small, large", SIZES)
def test_both_gradients(small, large):
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(small), rng.standard_normal(large)]
    worst = check_gradients(answer.crop_add, answer.crop_add_backward, arrays, rng)
    assert worst < 1e-7  # expect about 1e-9


def test_the_gradients_do_not_share_memory():
    rng = np.random.default_rng(3)
    upsampled, skip, dy = (
        rng.standard_normal((1, 4, 4, 2)),
        rng.standard_normal((1, 8, 8, 2)),
        rng.standard_normal((1, 4, 4, 2)),
    )
    for large in (skip, upsampled):  # also where nothing is cropped
        _, ctx = answer.crop_add(upsampled, large)
        dupsampled, dskip = answer.crop_add_backward(dy, ctx)
        assert not np.shares_memory(dupsampled, dskip)
        assert not np.shares_memory(dupsampled, dy) and not np.shares_memory(dskip, dy)


def test_arguments_stay_as_they_were():
    rng = np.random.default_rng(4)
    upsampled, skip = rng.standard_normal((1, 4, 4, 1)), rng.standard_normal((1, 6, 6, 1))
    copies = upsampled.copy(), skip.copy()
    y, ctx = answer.crop_add(upsampled, skip)
    answer.crop_add_backward(np.ones_like(y), ctx)
    assert (upsampled == copies[0]).all() and (skip == copies[1]).all()
