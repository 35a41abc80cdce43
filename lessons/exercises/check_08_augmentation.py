"""Checks of exercise 8, run as: pytest lessons/exercises/check_08_augmentation.py"""

import numpy as np
import pytest
from exercise import load

from npunet.augmentation import displacement_field

answer = load("08_augmentation")


def affine(matrix, shape=(7, 9)):
    """The displacement field (2, H, W) of the map t -> matrix t."""
    t = np.indices(shape).astype(float)
    return np.tensordot(np.asarray(matrix, float), t, 1) - t


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[1, 0], [0, 1]], 1),
        ([[2, 0], [0, 0.5]], 1),
        ([[1, 0.7], [0, 1]], 1),
        ([[0.6, -0.8], [0.8, 0.6]], 1),
        ([[3, 1], [1, 2]], 5),
        ([[-1, 0], [0, 1]], -1),
    ],
)
def test_area_of_linear_maps(matrix, expected):
    """Identity, squeezed and stretched, sheared, turned, larger, mirrored."""
    found = answer.area(affine(matrix))
    assert found.shape == (7, 9)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_fold_by_hand():
    """Rows 0 1 2 3 4 5 are read at 0 2 4 3 2 4 (whole columns alike):
    by central differences one row of six is folded.
    """
    field = np.zeros((2, 6, 3))
    field[0] = (np.array([0, 2, 4, 3, 2, 4]) - np.arange(6))[:, None]
    np.testing.assert_allclose(answer.area(field)[:, 0], [2, 2, 0.5, -1, 0.5, 2])
    share = answer.folded(field)
    assert share == pytest.approx(1 / 6) and isinstance(share, float)


def test_the_paper_does_not_fold_and_ten_times_its_sigma_does():
    rng = np.random.default_rng(8)
    vectors = rng.standard_normal((10, 2, 3, 3))
    assert (
        max(answer.folded(displacement_field(10 * v, 572)[:, ::4, ::4] / 4) for v in vectors) == 0
    )  # every fourth pixel
    assert min(answer.folded(displacement_field(100 * v, 188)) for v in vectors) > 0
