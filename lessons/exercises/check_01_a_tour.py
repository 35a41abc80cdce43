"""Checks of exercise 1, run as: pytest lessons/exercises/check_01_a_tour.py"""

import numpy as np
from exercise import load

from npunet.datasets import synthetic

answer = load("01_a_tour")


def test_accuracy_by_hand():
    accuracy = answer.pixel_accuracy(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]))
    assert accuracy == 0.75 and isinstance(accuracy, float)


def test_best_threshold_by_hand():
    image, labels = np.array([[0.1, 0.3], [0.6, 0.9]]), np.array([[0, 0], [1, 1]])
    assert answer.best_threshold(image, labels, [0.0, 0.2, 0.4, 0.5, 0.7]) == (0.4, 1.0)


def test_on_a_section():
    """A threshold beats the guess "everything is cell interior", but not by much: 0.8 is not 0.9."""
    sample = synthetic(n_sections=1, size=128, seed=5).samples[0]
    threshold, accuracy = answer.best_threshold(sample.image[..., 0], sample.labels, np.linspace(0, 1, 51))
    assert 0 < threshold < 1
    assert sample.labels.mean() < accuracy < 0.95
