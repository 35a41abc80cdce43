"""npunet/plain.py, the first page, and the real network are one network: the same numbers in float64."""

import inspect
import math
import types

import numpy as np
import pytest

from npunet import UNet, plain, training
from npunet.gradient_check import relative_error
from npunet.optimizers import SGD
from npunet.training import training_step

CLOSE = 1e-12  # of the largest element, in float64


@pytest.fixture
def network():
    """Fig. 1 with two channels where the paper has 64, without drop-out, and with biases that are not 0."""
    net = UNet(base_channels=2, dropout=0.0, dtype="float64", seed=4)
    rng = np.random.default_rng(12)
    for name, parameter in net.parameters.items():
        if name.endswith("bias"):
            parameter.value = 0.1 * rng.standard_normal(parameter.value.shape)
    return net


@pytest.fixture
def tile(rng):
    """An image of 204 x 220 pixels, and labels and weights for the 20 x 36 that come out."""
    return rng.standard_normal((204, 220, 1)), rng.integers(0, 2, (20, 36)), rng.uniform(0.5, 11, (20, 36))


def values(net):
    return {name: parameter.value.copy() for name, parameter in net.parameters.items()}


def assert_close(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        assert found[name].shape == expected[name].shape, name
        assert relative_error(found[name], expected[name]) < CLOSE, name


def test_initial_parameters_are_those_of_the_network():
    assert_close(plain.initial_parameters(seed=3, channels=2), values(UNet(base_channels=2, dtype="float64", seed=3)))


class Undrawn:
    """Stands for random numbers of a shape, of which none is needed."""

    __array_ufunc__ = None

    def __init__(self, shape):
        self.shape = shape

    def __rmul__(self, deviation):
        return self


def test_the_paper_s_network_begins_with_64_channels(monkeypatch):
    """Fig. 1: 31,030,658 parameters, counted without drawing them."""
    monkeypatch.setattr(np.random, "default_rng", lambda seed: types.SimpleNamespace(standard_normal=Undrawn))
    sizes = {name: array.shape for name, array in plain.initial_parameters().items()}
    assert sizes["contracting.0.conv1.weight"] == (3, 3, 1, 64) and sizes["output.weight"] == (1, 1, 64, 2)
    assert sum(map(math.prod, sizes.values())) == 31_030_658


def test_logits_and_every_gradient_agree(network, tile):
    image, labels, weights = tile
    parameters = values(network)
    logits, saved = plain.forward(image, parameters)
    assert relative_error(network.forward(image[None], train=True)[0], logits) < CLOSE
    _, dlogits = plain.energy(logits, labels, weights)
    gradients, dimage = plain.backward(dlogits, parameters, saved)
    assert saved == []
    assert relative_error(network.backward(dlogits[None])[0], dimage) < CLOSE
    assert_close(
        {name: parameter.grad for name, parameter in network.parameters.items()}, {n: gradients[n] for n in parameters}
    )


def test_training_steps_agree(network, tile):
    image, labels, weights = tile
    parameters, velocity = values(network), {}
    optimizer = SGD(network.parameters, learning_rate=1e-3, momentum=0.99)
    for _ in range(3):
        expected = plain.training_step(image, labels, weights, parameters, velocity, learning_rate=1e-3)
        found, _ = training_step(network, optimizer, image[None], labels[None], weights[None])
        assert found == pytest.approx(expected, rel=CLOSE)
    assert_close(values(network), parameters)


def test_max_pooling_gives_a_tie_to_the_first(rng):
    x = np.zeros((4, 4, 3))
    dy = rng.standard_normal((2, 2, 3))
    dx = plain.max_pooling_backward(dy, x)
    np.testing.assert_array_equal(dx[::2, ::2], dy)
    assert np.count_nonzero(dx) == dy.size


def test_plain_imports_numpy_alone():
    source = inspect.getsource(plain)
    assert [line for line in source.splitlines() if "import" in line.split()] == ["import numpy as np"]
    assert len(source.splitlines()) < 200


def test_the_momentum_of_plain_is_the_papers():
    """ "we use a high momentum (0.99)" (§3)"""
    assert inspect.signature(plain.training_step).parameters["momentum"].default == 0.99 == training.Recipe().momentum
