"""2x2 max-pooling: ties, windows of zeros, odd sizes. Definition, gradient and contract: test_ops_contract.py."""

import itertools

import numpy as np
import pytest

from npunet.machine.backend import to_cpu
from npunet.ops import max_pool2d, max_pool2d_backward, relu
from npunet.ops.max_pooling import max_pool2d_definition


def pool_both_ways(xp, x, dy):
    y, ctx = max_pool2d(xp.asarray(x))
    return to_cpu(y), to_cpu(max_pool2d_backward(xp.asarray(dy), ctx))


def test_by_hand(xp):
    x = np.array([[1.0, 5, 2, 0], [3.0, 4, 7, 6]])[None, :, :, None]
    y, dx = pool_both_ways(xp, x, np.array([10.0, 20])[None, None, :, None])
    np.testing.assert_array_equal(y[0, :, :, 0], [[5, 7]])
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 10, 0, 0], [0, 0, 20, 0]])


def test_every_pattern_of_ties_goes_to_the_first_maximum(xp):
    """All 3^4 windows of three values; the winner found by NumPy's argmax, which also takes the first."""
    windows = np.array(list(itertools.product([-1.0, 0.0, 2.0], repeat=4)))  # (81, 4)
    x = windows.reshape(81, 2, 2, 1)
    dy = np.arange(1.0, 82).reshape(81, 1, 1, 1)
    y, dx = pool_both_ways(xp, x, dy)
    np.testing.assert_array_equal(y.ravel(), windows.max(axis=1))
    expected = np.zeros((81, 4))
    expected[np.arange(81), windows.argmax(axis=1)] = dy.ravel()
    np.testing.assert_array_equal(dx.reshape(81, 4), expected)
    definition_y, winner = max_pool2d_definition(xp.asarray(x))
    np.testing.assert_array_equal(to_cpu(definition_y), y)
    np.testing.assert_array_equal(to_cpu(winner).ravel(), windows.argmax(axis=1))


def test_windows_of_zeros_behind_relu(xp, rng):
    """Where ReLU let nothing through, pooling still hands the gradient to one pixel, and only one."""
    x = -np.abs(rng.standard_normal((2, 4, 6, 3)))
    activation, _ = relu(xp.asarray(x))
    dy = rng.standard_normal((2, 2, 3, 3))
    y, dx = pool_both_ways(xp, to_cpu(activation), dy)
    assert not y.any()
    np.testing.assert_array_equal(dx[:, ::2, ::2], dy)
    dx[:, ::2, ::2] = 0
    assert not dx.any()


@pytest.mark.parametrize("shape", [(1, 5, 6, 2), (1, 6, 5, 2), (2, 7, 3, 1), (1, 1, 1, 1), (1, 1, 4, 2)])
def test_an_odd_last_row_or_column_has_no_window(xp, shape, rng):
    x = rng.standard_normal(shape)
    even = x[:, : shape[1] // 2 * 2, : shape[2] // 2 * 2]
    dy = rng.standard_normal((shape[0], shape[1] // 2, shape[2] // 2, shape[3]))
    y, dx = pool_both_ways(xp, x, dy)
    even_y, even_dx = pool_both_ways(xp, even, dy)
    assert y.shape == dy.shape and dx.shape == shape
    np.testing.assert_array_equal(y, even_y)
    np.testing.assert_array_equal(dx[:, : even.shape[1], : even.shape[2]], even_dx)
    assert not dx[:, even.shape[1] :].any() and not dx[:, :, even.shape[2] :].any()


def test_the_whole_gradient_arrives_once(xp, rng):
    x = rng.integers(0, 3, (3, 8, 6, 4)).astype("float64")  # many ties
    dy = rng.standard_normal((3, 4, 3, 4))
    _, dx = pool_both_ways(xp, x, dy)
    np.testing.assert_array_equal(dx.reshape(3, 4, 2, 3, 2, 4).sum(axis=(2, 4)), dy)
    assert np.count_nonzero(dx) == dy.size


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2)])
def test_gradient_of_the_skip_connection_is_added(xp, shape):
    """Also in an odd last row and column, which no window reads."""
    rng = np.random.default_rng(4)
    x, dskip = xp.asarray(rng.standard_normal(shape)), xp.asarray(rng.standard_normal(shape))
    y, ctx = max_pool2d(x)
    dy = xp.asarray(rng.standard_normal(y.shape))
    np.testing.assert_array_equal(
        to_cpu(max_pool2d_backward(dy, ctx, dskip)), to_cpu(max_pool2d_backward(dy, ctx)) + to_cpu(dskip)
    )
