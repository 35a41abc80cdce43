"""Bilinear upsampling: SciPy's interpolation, straight lines, corners, the adjoint, and bands."""

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from npunet import ops
from npunet.machine.backend import to_cpu
from npunet.ops import upsampling


@pytest.mark.parametrize("height, width", [(2, 3), (5, 4), (33, 70)])
@pytest.mark.parametrize("band_bytes", [1 << 20, 3000])
def test_is_what_scipy_interpolates(height, width, band_bytes, monkeypatch, rng):
    monkeypatch.setattr(upsampling, "BAND_BYTES", band_bytes)
    x = rng.standard_normal((2, height, width, 3))
    y, _ = ops.upsample2d(x)
    rows, columns = np.linspace(0, height - 1, 2 * height), np.linspace(0, width - 1, 2 * width)
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    for image in range(2):
        expected = RegularGridInterpolator((np.arange(height), np.arange(width)), x[image])(places)
        np.testing.assert_allclose(y[image], expected, rtol=1e-10, atol=1e-12)


def test_corners_and_straight_lines_are_kept(xp):
    ramp = np.add.outer(3.0 * np.arange(6), np.arange(9))[None, :, :, None]
    y = to_cpu(ops.upsample2d(xp.asarray(ramp))[0])[0, :, :, 0]
    np.testing.assert_allclose(
        y, np.add.outer(3 * np.linspace(0, 5, 12), np.linspace(0, 8, 18)), rtol=1e-12, atol=1e-12
    )
    assert y[0, 0] == ramp[0, 0, 0, 0] and y[-1, -1] == pytest.approx(ramp[0, -1, -1, 0])


@pytest.mark.parametrize("height, width", [(1, 1), (1, 5), (7, 40), (65, 66)])
def test_backward_is_the_adjoint(height, width, rng):
    """<upsample(x), z> = <x, backward(z)> for all x and z."""
    x, z = rng.standard_normal((2, height, width, 3)), rng.standard_normal((2, 2 * height, 2 * width, 3))
    y, ctx = ops.upsample2d(x)
    assert np.sum(y * z) == pytest.approx(np.sum(x * ops.upsample2d_backward(z, ctx)), rel=1e-10)


@pytest.mark.parametrize("size", [1, 2, 3, 32, 500])
def test_rows_of_the_matrix_are_means_of_two_neighbours(size):
    matrix = upsampling.interpolation_matrix(size)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)
    assert ((matrix > 1e-12).sum(axis=1) <= 2).all() and (matrix >= 0).all()
