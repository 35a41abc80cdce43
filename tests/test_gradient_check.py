"""The gradient check itself: right gradients pass with room to spare, planted errors do not."""

import numpy as np
import pytest

from npunet.gradient_check import (
    check_gradients,
    directional_derivative,
    numerical_gradient,
    random_directions,
    relative_error,
)


def square_matrix_product():
    rng = np.random.default_rng(4)
    return [rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), rng.standard_normal(3)]


def forward(x, weight, bias):
    """A dense layer beside a skip connection: y = x + x @ weight + bias."""
    return x + x @ weight + bias, (x, weight)


def backward(dy, ctx):
    x, weight = ctx
    return dy + dy @ weight.T, x.T @ dy, dy.sum(axis=0)


PLANTED = {
    "wrong sign": lambda dy, x, weight: (dy - dy @ weight.T, x.T @ dy, dy.sum(axis=0)),
    "forgotten skip": lambda dy, x, weight: (dy @ weight.T, x.T @ dy, dy.sum(axis=0)),
    "weight not transposed": lambda dy, x, weight: (dy + dy @ weight, x.T @ dy, dy.sum(axis=0)),
    "gradient transposed": lambda dy, x, weight: (dy + dy @ weight.T, dy.T @ x, dy.sum(axis=0)),
    "mean for sum": lambda dy, x, weight: (dy + dy @ weight.T, x.T @ dy, dy.mean(axis=0)),
    "a thousandth off": lambda dy, x, weight: (dy + dy @ weight.T, 1.001 * (x.T @ dy), dy.sum(axis=0)),
    "one element forgotten": lambda dy, x, weight: (dy + dy @ weight.T, x.T @ dy, dy.sum(axis=0) * [1, 0, 1]),
    "bias reversed": lambda dy, x, weight: (dy + dy @ weight.T, x.T @ dy, dy.sum(axis=0)[::-1]),
    "not a number": lambda dy, x, weight: (dy + dy @ weight.T, x.T @ dy * np.nan, dy.sum(axis=0)),
    "wrong shape": lambda dy, x, weight: (dy + dy @ weight.T, x.T @ dy, dy.sum(axis=0, keepdims=True)),
    "one gradient missing": lambda dy, x, weight: (dy + dy @ weight.T, x.T @ dy),
}


def test_a_right_backward_passes(rng):
    assert check_gradients(forward, backward, square_matrix_product(), rng) < 1e-9


@pytest.mark.parametrize("error", PLANTED)
def test_a_planted_error_is_caught(error, rng):
    with pytest.raises((AssertionError, ValueError)):
        check_gradients(forward, lambda dy, ctx: PLANTED[error](dy, *ctx), square_matrix_product(), rng)


@pytest.mark.parametrize(
    "error",
    [
        "wrong sign",
        "forgotten skip",
        "weight not transposed",
        "gradient transposed",
        "mean for sum",
        "a thousandth off",
        "one element forgotten",
        "bias reversed",
    ],
)
def test_one_random_direction_catches_it_too(error, rng):
    arrays = square_matrix_product()
    dy = rng.standard_normal((3, 3))
    directions = random_directions(arrays, rng)
    numerical = directional_derivative(lambda: np.sum(forward(*arrays)[0] * dy), arrays, directions)
    _, ctx = forward(*arrays)
    right = sum(np.sum(g * v) for g, v in zip(backward(dy, ctx), directions))
    wrong = sum(np.sum(g * v) for g, v in zip(PLANTED[error](dy, *ctx), directions))
    assert relative_error(right, numerical) < 1e-9
    assert relative_error(wrong, numerical) > 1e-5


def test_the_message_says_where(rng):
    with pytest.raises(
        AssertionError, match=r"gradient 2 at \(1,\): backward says -?0, finite differences .* \(relative error"
    ):
        check_gradients(
            forward, lambda dy, ctx: PLANTED["one element forgotten"](dy, *ctx), square_matrix_product(), rng
        )


def test_numerical_gradient_by_hand_leaves_the_array_as_it_was():
    array = np.array([[1.0, 2.0], [3.0, -4.0]])
    kept = array.copy()
    np.testing.assert_allclose(numerical_gradient(lambda: np.sum(array**3), array), 3 * kept**2, rtol=1e-8)
    np.testing.assert_array_equal(array, kept)


def test_directional_derivative_by_hand_leaves_the_arrays_as_they_were():
    a, b = np.array([1.0, 2.0]), np.array(3.0)
    derivative = directional_derivative(lambda: a[0] * a[1] * b, [a, b], [np.array([1.0, -1.0]), np.array(2.0)])
    assert derivative == pytest.approx(2 * 3 * 1 - 1 * 3 * 1 + 2 * 2, rel=1e-8)
    np.testing.assert_array_equal(a, [1, 2])
    assert b == 3


def test_random_directions_hide_no_component(rng):
    directions = random_directions([np.zeros((50, 20)), np.zeros(3)], rng)
    assert [d.shape for d in directions] == [(50, 20), (3,)]
    assert np.abs(directions[0]).min() >= 0.5 and np.abs(directions[0]).max() <= 1.5
    assert abs(np.mean(directions[0] > 0) - 0.5) < 0.1


def test_relative_error():
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.array([1.0, 100.0]), np.array([1.0, 101.0])) == pytest.approx(1 / 101)
    assert relative_error(np.array([0.0]), np.array([1e-300])) == 1
    assert np.isnan(relative_error(np.array([np.nan]), np.array([1.0])))
