"""Batch and instance normalisation beyond the contract of all operations:
batches, large means, bands and what its gradient cannot contain.
"""

import numpy as np
import pytest

from npunet import ops
from npunet.gradient_check import check_gradients, relative_error
from npunet.machine import bands
from npunet.machine.backend import to_cpu
from npunet.ops.batch_norm import batch_norm_definition
from npunet.ops.instance_norm import instance_norm_definition


@pytest.fixture(params=[1 << 20, 200])
def band_bytes(request, monkeypatch):
    """Whole images, and bands of few rows, the last of them shorter."""
    monkeypatch.setattr(bands, "BAND_BYTES", request.param)


@pytest.mark.parametrize("relu", [False, True])
def test_several_images_in_bands(band_bytes, relu, rng):
    x, scale, shift = rng.standard_normal((3, 5, 2, 2)), rng.uniform(0.5, 2, 2), rng.standard_normal(2)
    y, ctx = ops.batch_norm(x, scale, shift, relu=relu)
    expected = batch_norm_definition(x, scale, shift)
    np.testing.assert_allclose(y, np.maximum(expected, 0) if relu else expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(ctx.mean, x.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(ctx.variance, x.var(axis=(0, 1, 2)), rtol=1e-12)
    check_gradients(lambda *arrays: ops.batch_norm(*arrays, relu=relu), ops.batch_norm_backward, [x, scale, shift], rng)


def test_given_statistics_are_used(xp, rng):
    x, scale, shift, mean, variance = rng.standard_normal((2, 3, 4, 2)), *rng.uniform(0.5, 2, (4, 2))
    y, _ = ops.batch_norm(*map(xp.asarray, (x, scale, shift, mean, variance)), eps=0.1)
    np.testing.assert_allclose(to_cpu(y), scale * (x - mean) / np.sqrt(variance + 0.1) + shift, rtol=1e-12)


def test_a_large_mean_costs_no_precision(band_bytes, rng):
    """Sums of squares would lose all digits of the variance here: mean^2 is 1e6 times as large."""
    x = (1000 + rng.standard_normal((2, 40, 30, 3))).astype("float32")
    _, ctx = ops.batch_norm(x, np.ones(3, "float32"), np.zeros(3, "float32"))
    exact = x.astype("float64")
    np.testing.assert_allclose(ctx.mean, exact.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(ctx.variance, exact.var(axis=(0, 1, 2)), rtol=1e-4)


def test_the_gradient_neither_shifts_nor_stretches_a_channel(rng):
    x = rng.standard_normal((2, 6, 7, 3))
    y, ctx = ops.batch_norm(x, rng.uniform(0.5, 2, 3), rng.standard_normal(3), eps=0.0)
    dx, _, _ = ops.batch_norm_backward(rng.standard_normal(y.shape), ctx)
    np.testing.assert_allclose(dx.sum(axis=(0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose((dx * x).sum(axis=(0, 1, 2)), 0, atol=1e-12)


def test_same_bits_each_time(rng):
    x = rng.standard_normal((1, 300, 100, 16)).astype("float32")
    first, second = (ops.batch_norm(x, np.ones(16, "float32"), np.zeros(16, "float32"), relu=True)[1] for _ in range(2))
    assert first.mean.tobytes() == second.mean.tobytes() and first.variance.tobytes() == second.variance.tobytes()
    gradients = [ops.batch_norm_backward(x, first) for _ in range(2)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*gradients))
    assert relative_error(first.mean, x.mean(axis=(0, 1, 2), dtype="float64")) < 1e-5


@pytest.mark.parametrize("norm", [instance_norm_definition, lambda *arrays: ops.instance_norm(*arrays)[0]])
def test_instance_normalisation_of_faint_pictures(norm, rng):
    """Where the variance is as small as eps, 1e-5."""
    x = 3e-3 * rng.standard_normal((2, 4, 5, 3)) + 7
    expected = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(x, np.ones(3), np.zeros(3)), expected, rtol=1e-9, atol=1e-9)
