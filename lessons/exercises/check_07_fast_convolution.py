"""Checks of exercise 7, run as: pytest lessons/exercises/check_07_fast_convolution.py"""

import numpy as np
import pytest
from exercise import load

answer = load("07_fast_convolution")


class Counted:
    """A number that counts how often one of its kind is multiplied with another; constants are free."""

    products = 0

    def __init__(self, value):
        self.value = float(value)

    def __add__(self, other):
        return Counted(self.value + getattr(other, "value", other))

    def __sub__(self, other):
        return Counted(self.value - getattr(other, "value", other))

    def __rsub__(self, other):
        return Counted(other - self.value)

    def __neg__(self):
        return Counted(-self.value)

    def __mul__(self, other):
        Counted.products += isinstance(other, Counted)
        return Counted(self.value * getattr(other, "value", other))

    def __truediv__(self, constant):
        if isinstance(constant, Counted):
            pytest.fail("dividing by an input is dearer than multiplying")
        return Counted(self.value / constant)

    __radd__, __rmul__ = __add__, __mul__


def run(function, *arrays):
    """The result as floats, and how many multiplications it took."""
    Counted.products = 0
    result = function(*([Counted(value) for value in array] for array in arrays))
    return [number.value for number in result], Counted.products


@pytest.mark.parametrize("seed", range(3))
def test_two_results_with_four_multiplications(seed):
    rng = np.random.default_rng(seed)
    d, g = rng.standard_normal(4), rng.standard_normal(3)
    y, products = run(answer.f23, d, g)
    assert np.allclose(y, [d[0:3] @ g, d[1:4] @ g], rtol=0, atol=1e-13)
    assert products <= 4, f"{products} multiplications; the definition has 6, F(2, 3) has 4"


@pytest.mark.parametrize("seed", range(3))
def test_weight_gradient_with_four_multiplications(seed):
    rng = np.random.default_rng(seed)
    d, dy = rng.standard_normal(4), rng.standard_normal(2)
    dg, products = run(answer.f23_weight_gradient, d, dy)
    assert np.allclose(dg, [d[j : j + 2] @ dy for j in range(3)], rtol=0, atol=1e-13)
    assert products <= 4, f"{products} multiplications; it can be done with 4"
