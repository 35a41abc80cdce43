"""Checks of exercise 3, run as: pytest lessons/exercises/check_03_pooling_and_up_convolution.py"""

import numpy as np
from exercise import load

from npunet.gradient_check import check_gradients

answer = load("03_pooling_and_up_convolution")


def test_by_hand():
    x = np.array([[1.0, 3, 0, 0], [5, 7, 0, 8]]).reshape(1, 2, 4, 1)
    y, ctx = answer.average_pool2d(x)
    assert y.reshape(-1).tolist() == [4, 2]
    dx = answer.average_pool2d_backward(np.array([4.0, -8]).reshape(1, 1, 2, 1), ctx)
    assert dx.reshape(2, 4).tolist() == [[1, 1, -2, -2], [1, 1, -2, -2]]


def test_gradient():
    rng = np.random.default_rng(1)
    worst = check_gradients(
        answer.average_pool2d, answer.average_pool2d_backward, [rng.standard_normal((2, 4, 6, 3))], rng
    )
    assert worst < 1e-7  # expect about 1e-10: the mean is linear


def test_adjoint():
    """<pool x, z> = <x, pool backward z>: exactly, up to rounding, with no epsilon."""
    rng = np.random.default_rng(2)
    x, z = rng.standard_normal((2, 6, 4, 3)), rng.standard_normal((2, 3, 2, 3))
    y, ctx = answer.average_pool2d(x)
    assert np.isclose((y * z).sum(), (x * answer.average_pool2d_backward(z, ctx)).sum(), rtol=1e-12)


def test_dtype_is_kept_and_x_untouched():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    before = x.copy()
    y, ctx = answer.average_pool2d(x)
    dx = answer.average_pool2d_backward(y, ctx)
    assert y.dtype == dx.dtype == np.float32 and (x == before).all()
