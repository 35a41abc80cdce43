"""Checks of exercise 12, run as: pytest lessons/exercises/check_12_from_paper_to_practice.py"""

import numpy as np
from exercise import load

from npunet.ops import batch_norm, conv2d

answer = load("12_from_paper_to_practice")


def layer(rng, channels=2, outputs=3):
    weight = rng.standard_normal((3, 3, channels, outputs))
    scale, shift, mean = rng.standard_normal((3, outputs))
    return weight, scale, shift, mean, rng.uniform(0.1, 4, outputs)


def test_by_hand():
    """Weight 1, scale 6, shift 5, mean 2, variance 9: y = 6 (x - 2) / 3 + 5 = 2 x + 1."""
    weight = np.zeros((3, 3, 1, 1))
    weight[1, 1] = 1
    folded, bias = answer.fold(weight, *(np.array([value], float) for value in (6, 5, 2, 9)), eps=0.0)
    assert np.allclose(folded, 2 * weight) and np.allclose(bias, [1])


def test_one_convolution_does_both():
    rng = np.random.default_rng(0)
    weight, scale, shift, mean, variance = layer(rng)
    x = rng.standard_normal((1, 7, 8, 2))
    y, _ = batch_norm(conv2d(x, weight, padding=1)[0], scale, shift, mean, variance, relu=True)
    folded, bias = answer.fold(weight, scale, shift, mean, variance)
    assert np.allclose(conv2d(x, folded, bias, padding=1, relu=True)[0], y, rtol=1e-10, atol=1e-12)


def test_arguments_stay_as_they_were():
    arrays = layer(np.random.default_rng(1))
    before = [array.copy() for array in arrays]
    answer.fold(*arrays)
    assert all(np.array_equal(array, kept) for array, kept in zip(arrays, before))
