"""Checks of exercise 2, run as: pytest lessons/exercises/check_02_convolution.py"""

import numpy as np
import pytest
from exercise import load

from npunet.gradient_check import check_gradients

answer = load("02_convolution")


@pytest.mark.parametrize("height, width", [(7, 9), (8, 6)])
def test_forward_is_the_formula(height, width):
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((2, height, width, 3)), rng.standard_normal((3, 3, 3, 2))
    y, _ = answer.strided_conv2d(x, weight)
    assert y.shape == (2, (height - 1) // 2, (width - 1) // 2, 2)
    for n, i, j, k in np.ndindex(y.shape):
        assert np.isclose(y[n, i, j, k], (x[n, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * weight[..., k]).sum())


@pytest.mark.parametrize("height, width", [(7, 9), (8, 6)])
def test_both_gradients(height, width):
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal((2, height, width, 2)), rng.standard_normal((3, 3, 2, 3))]
    worst = check_gradients(answer.strided_conv2d, answer.strided_conv2d_backward, arrays, rng)
    assert worst < 1e-7  # expect about 1e-9


def test_arguments_stay_as_they_were():
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((1, 7, 7, 1)), rng.standard_normal((3, 3, 1, 1))
    copies = x.copy(), weight.copy()
    y, ctx = answer.strided_conv2d(x, weight)
    answer.strided_conv2d_backward(np.ones_like(y), ctx)
    assert (x == copies[0]).all() and (weight == copies[1]).all()
