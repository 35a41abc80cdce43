"""Checks of exercise 5, run as: pytest lessons/exercises/check_05_energy_and_weight_map.py"""

import math

import numpy as np
import pytest
from exercise import load

from npunet.gradient_check import numerical_gradient, relative_error
from npunet.loss import weighted_cross_entropy

answer = load("05_energy_and_weight_map")


def case(seed, shape=(2, 3, 4), classes=3):
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((*shape, classes)), rng.integers(0, classes, shape)


def test_without_smoothing_it_is_eq_1():
    logits, labels = case(1)
    energy, dlogits = answer.smoothed_cross_entropy(logits, labels, smoothing=0.0)
    expected, dexpected = weighted_cross_entropy(logits, labels)
    assert energy == pytest.approx(float(expected), rel=1e-12)
    np.testing.assert_allclose(dlogits, dexpected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_the_loss_is_the_formula(smoothing):
    logits, labels = case(2)
    classes, total = logits.shape[-1], 0.0
    for pixel in np.ndindex(labels.shape):
        exponentials = [math.exp(a) for a in logits[pixel]]
        for k in range(classes):
            target = (1 - smoothing) * (k == labels[pixel]) + smoothing / classes
            total -= target * math.log(exponentials[k] / sum(exponentials))
    assert answer.smoothed_cross_entropy(logits, labels, smoothing)[0] == pytest.approx(total / labels.size, rel=1e-12)


def test_the_gradient():
    logits, labels = case(3)
    _, dlogits = answer.smoothed_cross_entropy(logits, labels, 0.2)
    numerical = numerical_gradient(lambda: answer.smoothed_cross_entropy(logits, labels, 0.2)[0], logits)
    assert relative_error(dlogits, numerical) < 1e-8  # expect about 1e-10


def test_large_scores_stay_finite():
    energy, dlogits = answer.smoothed_cross_entropy(np.array([[[[1000.0, 0.0]]]]), np.array([[[0]]]), 0.1)
    assert energy == pytest.approx(50.0) and np.isfinite(dlogits).all()  # 0.05 for class 1 costs 1000 each
