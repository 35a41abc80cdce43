"""Hyperbolic tangent: the last operation of a network that paints pictures, whose values then lie between -1 and 1.

y = tanh(x)            dL/dx = dL/dy (1 - y^2),   as tanh' = 1 - tanh^2
"""

import math
from typing import NamedTuple

from npunet.machine.backend import Array, array_module
from npunet.machine.shapes import check_arrays, check_gradient


class TanhContext(NamedTuple):
    """The output is all that tanh_backward needs."""

    y: Array


def tanh_definition(x: Array) -> Array:
    """The formula as loops, by exponentials."""
    y = x.copy()
    for index in array_module(x).ndindex(x.shape):
        plus, minus = math.exp(float(x[index])), math.exp(-float(x[index]))
        y[index] = (plus - minus) / (plus + minus)
    return y


def tanh(x: Array) -> tuple[Array, TanhContext]:
    """x of any shape -> y of the same shape and dtype, ctx. Raises InputError if x is no array."""
    check_arrays("tanh", x=x)
    y = array_module(x).tanh(x)
    return y, TanhContext(y)


def tanh_backward(dy: Array, ctx: TanhContext) -> Array:
    """dy like y -> dx like x."""
    check_gradient("tanh_backward", dy, ctx.y.shape, ctx.y.dtype)
    return dy * (1 - ctx.y * ctx.y)
