"""Rectified linear unit (§2): y = max(0, x), element by element.

    y = x where x > 0, else 0            dL/dx = dL/dy where x > 0, else 0

x > 0 holds exactly where y > 0, so the context is the output itself: the input need not be kept.
At x = 0, where the function has a kink, the gradient is taken to be 0.
"""

from typing import NamedTuple

from npunet.machine.backend import Array, array_module
from npunet.machine.shapes import check_arrays, check_gradient


class ReLUContext(NamedTuple):
    """The output is all that relu_backward needs."""

    y: Array


def relu_definition(x: Array) -> Array:
    """The formula as loops over (N, H, W, C)."""
    y = x.copy()
    for index in array_module(x).ndindex(x.shape):
        y[index] = max(x[index], 0)
    return y


def relu(x: Array) -> tuple[Array, ReLUContext]:
    """x of any shape -> y of the same shape and dtype, ctx. NaN stays NaN. Raises InputError if x is no array."""
    check_arrays("relu", x=x)
    y = array_module(x).maximum(x, 0)
    return y, ReLUContext(y)


def relu_backward(dy: Array, ctx: ReLUContext) -> Array:
    """dy like y -> dx like x."""
    check_gradient("relu_backward", dy, ctx.y.shape, ctx.y.dtype)
    return dy * (ctx.y > 0)
