"""Checks of exercise 13, run as: pytest lessons/exercises/check_13_style_transfer.py"""

import numpy as np
from exercise import load

from npunet.gradient_check import numerical_gradient, relative_error

answer = load("13_style_transfer")


def test_by_hand():
    """One channel with pixels 1 and 3: mean 2, deviation 1. Against mean 0 and deviation 4: 2^2 + 3^2."""
    loss, gradient = answer.statistics_loss(np.array([[[[1.0], [3.0]]]]), np.array([0.0]), np.array([4.0]), eps=0.0)
    assert np.isclose(loss, 13)
    assert np.allclose(gradient.ravel(), [(4 + 6) / 2, (4 - 6) / 2])  # dm = 4, ds = -6, centred -1 and 1, two pixels


def test_gradient():
    rng = np.random.default_rng(0)
    features, means, deviations = rng.standard_normal((1, 3, 4, 5)), rng.standard_normal(5), rng.uniform(0.5, 2, 5)
    _, gradient = answer.statistics_loss(features, means, deviations)
    numerical = numerical_gradient(lambda: answer.statistics_loss(features, means, deviations)[0], features)
    assert gradient.shape == features.shape and relative_error(gradient, numerical) < 1e-6


def test_its_own_statistics_cost_nothing():
    features = np.random.default_rng(1).standard_normal((1, 6, 7, 3))
    means, deviations = features.mean(axis=(0, 1, 2)), np.sqrt(features.var(axis=(0, 1, 2)) + 1e-5)
    loss, gradient = answer.statistics_loss(features, means, deviations)
    assert loss < 1e-20 and np.abs(gradient).max() < 1e-10


def test_arguments_stay_as_they_were():
    rng = np.random.default_rng(2)
    arrays = rng.standard_normal((1, 3, 4, 2)), rng.standard_normal(2), rng.uniform(1, 2, 2)
    before = [array.copy() for array in arrays]
    answer.statistics_loss(*arrays)
    assert all(np.array_equal(array, kept) for array, kept in zip(arrays, before))
