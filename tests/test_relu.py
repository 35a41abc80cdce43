"""ReLU: where it bends, and what is not a number. Definition, gradient and contract: test_ops_contract.py."""

import numpy as np

from npunet.machine.backend import to_cpu
from npunet.ops import relu, relu_backward
from npunet.ops.relu import relu_definition


def test_by_hand(xp):
    x = xp.asarray([-2.0, -0.0, 0.0, 1e-300, 3.0])
    y, ctx = relu(x)
    np.testing.assert_array_equal(to_cpu(y), [0, 0, 0, 1e-300, 3])
    dx = relu_backward(xp.asarray([1.0, 2.0, 4.0, 8.0, 16.0]), ctx)
    np.testing.assert_array_equal(to_cpu(dx), [0, 0, 0, 8, 16])  # no gradient at the kink


def test_not_a_number_is_not_hidden(xp):
    """max(0, NaN) = 0 would let a broken run look healthy."""
    x = xp.asarray([np.nan, np.inf, -np.inf])
    for y in (relu(x)[0], relu_definition(x)):
        np.testing.assert_array_equal(to_cpu(y), [np.nan, np.inf, 0])
