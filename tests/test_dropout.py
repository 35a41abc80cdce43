"""Dropout: statistics, seeds, and the same mask on the way back. Definition, gradient and contract: test_ops_contract.py."""

import numpy as np
import pytest

from npunet.backend import to_cpu
from npunet.ops import dropout, dropout_backward


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
def test_statistics(xp, rate):
    """100,000 ones: each value is 0 or 1 / (1 - rate); share of zeros and mean within five standard deviations."""
    y, _ = dropout(xp.asarray(np.ones((10, 100, 100, 1))), rate, np.random.default_rng(3))
    y = to_cpu(y)
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-12)
    deviation = np.sqrt(rate * (1 - rate) / y.size)
    assert abs(np.mean(y == 0) - rate) < 5 * deviation
    assert abs(y.mean() - 1) < 5 * deviation / (1 - rate)


def test_the_mask_is_independent_of_device_and_dtype(xp):
    ones = np.ones((2, 5, 5, 3))
    reference = dropout(ones, 0.5, np.random.default_rng(1))[0] != 0
    for dtype in ("float32", "float64"):
        y, _ = dropout(xp.asarray(ones.astype(dtype)), 0.5, np.random.default_rng(1))
        np.testing.assert_array_equal(to_cpu(y) != 0, reference)


def test_every_call_draws_anew_and_uses_only_its_generator():
    generator, x = np.random.default_rng(0), np.ones((1, 8, 8, 4))
    state = np.random.get_state()[1].copy()
    first, second = dropout(x, 0.5, generator)[0], dropout(x, 0.5, generator)[0]
    assert (first != second).any()
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_backward_uses_the_mask_of_forward(xp):
    y, ctx = dropout(xp.asarray(np.ones((1, 6, 6, 2))), 0.5, np.random.default_rng(2))
    np.testing.assert_array_equal(to_cpu(dropout_backward(xp.asarray(np.ones((1, 6, 6, 2))), ctx)), to_cpu(y))


def test_rate_zero_keeps_everything(rng):
    x = rng.standard_normal((1, 4, 4, 2))
    np.testing.assert_array_equal(dropout(x, 0.0, rng)[0], x)
