"""Optimisers: the formulas by hand, in place, dtypes, state. Ten steps beside PyTorch's: test_against_pytorch.py."""

import numpy as np
import pytest

from npunet import InputError, UNet, optimizers
from npunet.layers import Parameter
from npunet.machine.backend import to_cpu
from npunet.optimizers import SGD, Adam, RMSprop


def one_parameter(xp, value, grad, dtype="float64"):
    parameter = Parameter(xp.asarray(np.asarray(value, dtype)))
    parameter.grad = xp.asarray(np.asarray(grad, dtype))
    return parameter


def test_sgd_by_hand(xp):
    """eta 0.1, momentum 0.5, gradient 1: velocities 1, 1.5, 1.75."""
    parameter = one_parameter(xp, [1.0], [1.0])
    optimizer = SGD({"p": parameter}, 0.1, momentum=0.5)
    for expected in (0.9, 0.75, 0.575):
        optimizer.step()
        assert float(to_cpu(parameter.value)[0]) == pytest.approx(expected, rel=1e-14)


def test_momentum_makes_a_constant_gradient_a_hundred_times_as_effective():
    parameter = one_parameter(np, [0.0], [1.0])
    optimizer = SGD({"p": parameter}, 1e-3)
    for _ in range(2000):
        before = parameter.value[0]
        optimizer.step()
    assert before - parameter.value[0] == pytest.approx(100 * 1e-3, rel=1e-6)


def test_rmsprop_by_hand(xp):
    parameter = one_parameter(xp, [1.0], [2.0])
    RMSprop({"p": parameter}, 0.1, alpha=0.75, eps=0.5).step()  # s = 0.25 * 4 = 1
    assert float(to_cpu(parameter.value)[0]) == pytest.approx(1 - 0.1 * 2 / (1 + 0.5), rel=1e-14)


def test_rmsprop_with_momentum_and_weight_decay_by_hand(xp):
    """Gradient 1 + 0.5 * 2 = 2; s = 1, direction 2 / 1.5;
    then gradient 0, so 0.5 * p, s = 0.75 + 0.25 g^2, velocity halves and adds.
    """
    parameter = one_parameter(xp, [2.0], [1.0])
    optimizer = RMSprop({"p": parameter}, 0.1, alpha=0.75, eps=0.5, momentum=0.5, weight_decay=0.5)
    optimizer.step()
    p = 2 - 0.1 * 2 / 1.5
    assert float(to_cpu(parameter.value)[0]) == pytest.approx(p, rel=1e-14)
    parameter.grad = 0 * parameter.grad
    optimizer.step()
    g = 0.5 * p
    velocity = 0.5 * 2 / 1.5 + g / ((0.75 + 0.25 * g * g) ** 0.5 + 0.5)
    assert float(to_cpu(parameter.value)[0]) == pytest.approx(p - 0.1 * velocity, rel=1e-14)
    assert set(optimizer.state()[0]) == {"square/p", "velocity/p"}


def test_adam_moves_by_the_learning_rate_at_first_whatever_the_gradient(xp):
    """Bias correction: in step 1, m / (1 - b1) = g and s / (1 - b2) = g^2, so the step is eta g / |g|."""
    parameter = one_parameter(xp, [1.0, 1.0, 1.0], [1e-3, -5.0, 1e4])
    Adam({"p": parameter}, 0.01, eps=0).step()
    np.testing.assert_allclose(to_cpu(parameter.value), [0.99, 1.01, 0.99], rtol=1e-12)


@pytest.mark.parametrize("kind", [SGD, RMSprop, Adam])
class TestEach:
    def test_works_in_place_keeps_dtype_and_gradient(self, xp, kind):
        parameter = one_parameter(xp, [[1.0, 2.0]], [[0.5, -0.5]], "float32")
        value, grad = parameter.value, to_cpu(parameter.grad).copy()
        optimizer = kind({"p": parameter}, np.float64(0.1))  # a schedule computed with NumPy hands over such a number
        for _ in range(3):
            optimizer.step()
        assert parameter.value is value and value.dtype == "float32"
        np.testing.assert_array_equal(to_cpu(parameter.grad), grad)
        state, steps = optimizer.state()
        assert steps == 3 and all(array.dtype == "float32" for array in state.values())

    def test_numpy_scalars_as_learning_rate_change_no_bit(self, kind):
        results = []
        for rate in (0.1, np.float64(0.1)):
            parameter = one_parameter(np, np.linspace(-1, 1, 7), np.linspace(0.3, -2, 7), "float32")
            optimizer = kind({"p": parameter}, 1.0)
            optimizer.learning_rate = rate
            optimizer.step()
            results.append(parameter.value)
        np.testing.assert_array_equal(*results)

    def test_goes_downhill(self, kind):
        parameter = one_parameter(np, [3.0, -2.0], [0, 0])
        optimizer = kind({"p": parameter}, 0.01)
        for _ in range(1500):
            parameter.grad = parameter.value * [1.0, 10.0]  # of (x^2 + 10 y^2) / 2
            optimizer.step()
        assert np.abs(parameter.value).max() < 0.05

    def test_restored_state_goes_on_to_the_same_bits(self, kind, rng):
        def fresh():
            parameters = {
                name: one_parameter(np, np.ones(4), np.zeros(4), "float32") for name in ("a.weight", "b.bias")
            }
            return parameters, kind(parameters, 0.05)

        def walk(parameters, optimizer, gradients):
            for gradient in gradients:
                for parameter in parameters.values():
                    parameter.grad = gradient
                optimizer.step()

        gradients = rng.standard_normal((10, 4)).astype("float32")
        straight, optimizer = fresh()
        walk(straight, optimizer, gradients)
        first, optimizer = fresh()
        walk(first, optimizer, gradients[:4])
        state, steps = optimizer.state()
        state = {name: array.copy() for name, array in state.items()}
        second, optimizer = fresh()
        for name, parameter in second.items():
            parameter.value[...] = first[name].value
        optimizer.restore(state, steps)
        walk(second, optimizer, gradients[4:])
        for name in straight:
            np.testing.assert_array_equal(second[name].value, straight[name].value)

    def test_state_of_other_parameters_is_refused(self, kind):
        optimizer = kind({"p": one_parameter(np, [1.0], [1.0])}, 0.1)
        with pytest.raises((KeyError, ValueError)):
            optimizer.restore({}, 1)
        with pytest.raises(ValueError):
            optimizer.restore({name: np.zeros(3) for name in optimizer.state()[0]}, 1)


def test_forgotten_gradients_are_gone_and_nothing_else_is():
    parameter = Parameter(np.ones(3))
    optimizer = SGD({"p": parameter}, 0.1)
    parameter.grad = np.ones(3)
    optimizer.step()
    optimizer.forget_gradients()
    assert (
        parameter.grad is None
        and np.allclose(parameter.value, 0.9)
        and np.allclose(optimizer.arrays["velocity"]["p"], 1)
    )


def gradient_of(step, size):
    return np.random.default_rng(step).standard_normal(size)


def by_formula(kind, p, steps, eta=0.03, decay=0.02, momentum=0.99, alpha=0.99, b1=0.9, b2=0.999, eps=1e-8):
    """The formulas at the top of optimizers.py, for some gradients; default constants."""
    v = m = s = 0
    for t in range(1, steps + 1):
        g = gradient_of(t, p.shape) + decay * p
        if kind is SGD:
            v = momentum * v + g
            p = p - eta * v
        elif kind is RMSprop:
            s = alpha * s + (1 - alpha) * g**2
            p = p - eta * g / (np.sqrt(s) + eps)
        else:
            m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
            p = p - eta * (m / (1 - b1**t)) / (np.sqrt(s / (1 - b2**t)) + eps)
    return p


@pytest.mark.parametrize("size", [5, optimizers.BLOCK + 1])  # one more than a thread takes at a time
@pytest.mark.parametrize("kind", [SGD, RMSprop, Adam])
def test_some_steps_by_the_formula(kind, size):
    start = gradient_of(0, size)
    parameter = Parameter(start.copy())
    optimizer = kind({"p": parameter}, 0.03, weight_decay=0.02)
    for step in (1, 2, 3):
        parameter.grad = gradient_of(step, size)
        assert optimizer.step() is None
        assert optimizer.scale == 1 and optimizer.steps == step
    np.testing.assert_allclose(parameter.value, by_formula(kind, start, 3), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", [SGD, RMSprop, Adam])
def test_the_numbers_that_a_gpu_is_told(kind):
    optimizer = kind({"p": Parameter(np.ones(3))}, 0.25)
    optimizer.steps = 2
    bias1, bias2 = 1 / (1 - 0.9**2), 1 / (1 - 0.999**2)
    told, kernel = {
        SGD: ((0.25,), ("sgd", (0.99,))),
        RMSprop: ((0.25,), ("rmsprop", (0.99, 1e-8, 0.0))),
        Adam: ((0.25 * bias1, bias2), ("adam", (0.9, 0.999, 1e-8))),
    }[kind]
    assert optimizer.step_numbers() == pytest.approx(told, rel=1e-14) and optimizer.kernel() == kernel


def test_a_report_a_clipped_step_and_steps_that_change_nothing():
    parameters = {name: Parameter(np.zeros(1)) for name in "ab"}
    optimizer = SGD(parameters, 1.0, momentum=0.0)

    def step(a, b, energy=7.0, clip=0.0):
        parameters["a"].grad, parameters["b"].grad = np.array([a]), np.array([b])
        report = optimizer.step(np.float32(energy), clip)
        assert report.shape == (2,) and report.dtype == np.float64
        return *report, parameters["a"].value[0], parameters["b"].value[0]

    assert step(3.0, 4.0) == (7, 5, -3, -4)  # no limit
    assert step(3.0, 4.0, clip=5.0) == (7, 5, -6, -8)
    assert step(3.0, 4.0, clip=2.5) == (7, 5, -7.5, -10)
    assert step(3.0, 4.0, energy=np.inf) == (np.inf, 5, -7.5, -10) and optimizer.scale == 0
    assert step(3.0, 4.0) == (7, 5, -7.5, -10) and optimizer.steps == 5
    optimizer.take_back()
    assert optimizer.steps == 4 and optimizer.scale == 1
    assert step(3.0, np.inf)[1:] == (np.inf, -7.5, -10)
    optimizer.take_back()
    assert step(3.0, 4.0) == (7, 5, -10.5, -14) and optimizer.steps == 5


def test_the_state_of_another_optimiser_changes_nothing():
    narrow, wide = UNet(1, 2, 2, 1).parameters, UNet(1, 2, 4, 1).parameters
    adam = optimizers.Adam(narrow, 1e-3)
    for values in adam.arrays["mean"].values():
        values[...] = 3
    for other in (optimizers.SGD(narrow, 1e-3), optimizers.Adam(wide, 1e-3)):
        with pytest.raises(InputError, match=r"the optimiser's state has .* as mean/contracting.0.conv1.weight"):
            adam.restore(*other.state())
    assert all((values == 3).all() for values in adam.arrays["mean"].values())
