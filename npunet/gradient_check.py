"""Gradient checks: is a hand-written backward the derivative of its forward?

For a function y = f(a, b, ...) and a fixed random cotangent g, the scalar L = sum(g * y) has the gradients
that the backward returns for dy = g. Central differences give the same numbers without it:

    dL/da_i  ~  (L(a + eps e_i) - L(a - eps e_i)) / (2 eps)           one element at a time, for tiny arrays
    dL/dv    ~  (L(a + eps v)   - L(a - eps v))   / (2 eps)           along one random direction, for large ones

In float64 with eps = 1e-5 the error of the difference is about 1e-10 relative, so agreement to 1e-6 is a
pass and a wrong formula misses by orders of magnitude. The cotangent is random, never all ones: ones would
hide permuted or transposed gradients. Keep inputs away from kinks (|x| >> eps for ReLU, distinct values for
max-pooling).
"""

from collections.abc import Callable, Sequence

import numpy as np

EPS = 1e-5
RTOL = 1e-6


def numerical_gradient(function: Callable[[], float], array: np.ndarray, eps: float = EPS) -> np.ndarray:
    """dL/d(array) of the scalar `function()`, one central difference an element.

    `array` is a contiguous float64 array that `function` reads; it is changed and put back.
    """
    gradient = np.empty_like(array)
    flat, flat_gradient = array.reshape(-1), gradient.reshape(-1)
    for i in range(flat.size):
        kept = flat[i]
        flat[i] = kept + eps
        above = function()
        flat[i] = kept - eps
        below = function()
        flat[i] = kept
        flat_gradient[i] = (above - below) / (2 * eps)
    return gradient


def directional_derivative(
    function: Callable[[], float], arrays: Sequence[np.ndarray], directions: Sequence[np.ndarray], eps: float = EPS
) -> float:
    """Derivative of the scalar `function()` when all `arrays` move along `directions` together."""
    kept = [array.copy() for array in arrays]
    values = []
    for sign in (1, -1):
        for array, start, direction in zip(arrays, kept, directions):
            array[...] = start + sign * eps * direction
        values.append(function())
    for array, start in zip(arrays, kept):
        array[...] = start
    return (values[0] - values[1]) / (2 * eps)


def random_directions(arrays: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """One random direction over all arrays; components stay away from 0 so that none can hide."""
    return [rng.choice([-1.0, 1.0], array.shape) * rng.uniform(0.5, 1.5, array.shape) for array in arrays]


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """max |a - b| / max(|a|, |b|) over all elements, with the largest magnitude in the denominator; 0 if both are 0."""
    scale = max(float(np.max(np.abs(a), initial=0)), float(np.max(np.abs(b), initial=0)))
    return float(np.max(np.abs(a - b), initial=0)) / scale if scale else 0.0


def check_gradients(
    forward: Callable,
    backward: Callable,
    arrays: Sequence[np.ndarray],
    rng: np.random.Generator,
    rtol: float = RTOL,
    eps: float = EPS,
) -> float:
    """Compare a backward with finite differences, element by element, for every array.

    forward(*arrays) -> y, ctx; backward(dy, ctx) -> one gradient, or a tuple with one for each array.
    `arrays` are contiguous float64. Returns the largest relative error; raises AssertionError, naming
    the array and both values where they differ most, if it is above `rtol`.
    """
    y, ctx = forward(*arrays)
    cotangent = rng.standard_normal(y.shape)
    gradients = backward(cotangent, ctx)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    worst = 0.0
    for number, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        assert gradient.shape == array.shape, f"gradient {number} has shape {gradient.shape}, its array {array.shape}"
        numerical = numerical_gradient(lambda: np.sum(forward(*arrays)[0] * cotangent), array, eps)
        error = relative_error(gradient, numerical)
        where = np.unravel_index(np.argmax(np.abs(gradient - numerical)), array.shape)
        assert error <= rtol, (
            f"gradient {number} at {tuple(map(int, where))}: backward says {gradient[where]:.12g}, "
            f"finite differences {numerical[where]:.12g} (relative error {error:.2g})"
        )
        worst = max(worst, error)
    return worst
