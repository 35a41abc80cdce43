"""Layers: one context, used once; gradients land in the parameters; layers equal their operations."""

import numpy as np
import pytest

from npunet import ops
from npunet.errors import InputError
from npunet.layers import (
    BatchNorm,
    Convolution,
    CropConcat,
    Dropout,
    InstanceNorm,
    MaxPooling,
    PadConcat,
    Parameter,
    Statistic,
    Tanh,
    UpConvolution,
    Upsampling,
)


def layers_and_inputs():
    rng = np.random.default_rng(0)
    make = dict(rng=rng, dtype="float64")
    return {
        "Convolution": (Convolution(2, 3, 3, **make), [rng.standard_normal((1, 5, 6, 2))]),
        "Convolution without bias": (Convolution(2, 3, 3, bias=False, **make), [rng.standard_normal((1, 5, 6, 2))]),
        "BatchNorm": (BatchNorm(2, dtype="float64"), [rng.standard_normal((1, 5, 6, 2))]),
        "InstanceNorm": (InstanceNorm(2, dtype="float64"), [rng.standard_normal((2, 5, 6, 2))]),
        "Upsampling": (Upsampling(), [rng.standard_normal((1, 3, 4, 2))]),
        "PadConcat": (PadConcat(), [rng.standard_normal((1, 2, 3, 2)), rng.standard_normal((1, 6, 7, 3))]),
        "Tanh": (Tanh(), [rng.standard_normal((1, 3, 4, 2))]),
        "UpConvolution": (UpConvolution(2, 3, **make), [rng.standard_normal((1, 3, 4, 2))]),
        "UpConvolution with ReLU": (UpConvolution(2, 3, relu=True, **make), [rng.standard_normal((1, 3, 4, 2))]),
        "MaxPooling": (MaxPooling(), [rng.standard_normal((1, 4, 6, 2))]),
        "CropConcat": (CropConcat(), [rng.standard_normal((1, 2, 3, 2)), rng.standard_normal((1, 6, 7, 3))]),
        "Dropout": (Dropout(0.5, rng), [rng.standard_normal((1, 4, 6, 2))]),
        "Dropout with rate 0": (Dropout(0.0, rng), [rng.standard_normal((1, 4, 6, 2))]),
    }


@pytest.fixture(params=layers_and_inputs())
def layer_and_inputs(request):
    return layers_and_inputs()[request.param]


def test_a_context_is_used_once(layer_and_inputs):
    layer, inputs = layer_and_inputs
    with pytest.raises(RuntimeError, match=f"{type(layer).__name__}.backward: no forward pass"):
        layer.backward(np.zeros(1))
    y = layer.forward(*inputs, True)
    layer.backward(np.ones_like(y))
    assert layer.context is None  # and its memory can be used again
    with pytest.raises(RuntimeError, match="no forward pass"):
        layer.backward(np.ones_like(y))


def test_a_gradient_of_the_wrong_shape_does_not_use_up_the_context(layer_and_inputs):
    layer, inputs = layer_and_inputs
    if isinstance(layer, Dropout):
        pytest.skip("dropout takes any shape")
    dy = np.ones_like(layer.forward(*inputs, True))
    with pytest.raises(InputError, match="as y was"):
        layer.backward(dy[..., :-1])
    layer.backward(dy)


def test_without_training_no_context_is_kept_not_even_an_old_one(layer_and_inputs):
    layer, inputs = layer_and_inputs
    layer.forward(*inputs, True)
    y = layer.forward(*inputs, False)
    assert layer.context is None
    with pytest.raises(RuntimeError, match="no forward pass"):
        layer.backward(np.ones_like(y))


def test_gradients_are_replaced_and_not_added_up(layer_and_inputs):
    layer, inputs = layer_and_inputs
    dy = np.random.default_rng(1).standard_normal(layer.forward(*inputs, True).shape)
    layer.backward(dy)
    first = {name: parameter.grad.copy() for name, parameter in layer.parameters.items()}
    layer.forward(*inputs, True)
    layer.backward(dy)
    for name, parameter in layer.parameters.items():
        np.testing.assert_array_equal(parameter.grad, first[name])
        assert parameter.grad.shape == parameter.value.shape


def test_convolution_is_its_operation(rng):
    layer, x = Convolution(2, 3, 3, padding=1, rng=rng, dtype="float64"), rng.standard_normal((1, 4, 5, 2))
    layer.bias.value += rng.standard_normal(3)
    y, ctx = ops.conv2d(x, layer.weight.value, layer.bias.value, padding=1, relu=True)
    np.testing.assert_array_equal(layer.forward(x, True), y)
    assert y.min() == 0 < y.max()
    dy = rng.standard_normal(y.shape)
    expected = ops.conv2d_backward(dy, ctx)
    for mine, theirs in zip((layer.backward(dy), layer.weight.grad, layer.bias.grad), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    layer.forward(x, True)
    assert layer.backward(dy, need_dx=False) is None
    np.testing.assert_array_equal(layer.weight.grad, expected[1])


def test_up_convolution_with_relu_is_both_operations(rng):
    layer, x = UpConvolution(2, 3, relu=True, rng=rng, dtype="float64"), rng.standard_normal((1, 3, 4, 2))
    linear, ctx = ops.up_conv2d(x, layer.weight.value, layer.bias.value)
    np.testing.assert_array_equal(layer.forward(x, True), np.maximum(linear, 0))
    dy = rng.standard_normal(linear.shape)
    dx, dweight, dbias = ops.up_conv2d_backward(dy * (linear > 0), ctx)
    for mine, theirs in zip((layer.backward(dy), layer.weight.grad, layer.bias.grad), (dx, dweight, dbias)):
        np.testing.assert_array_equal(mine, theirs)


def test_dropout_works_in_training_only(rng):
    x = np.ones((1, 8, 8, 4))
    layer = Dropout(0.5, rng)
    np.testing.assert_array_equal(layer.forward(x, False), x)
    assert set(np.unique(layer.forward(x, True))) == {0, 2}


def test_parameters_are_named_by_the_layer():
    layer = Convolution(1, 2, 3, rng=np.random.default_rng(0), dtype="float32")
    assert list(layer.parameters) == ["weight", "bias"] and all(
        isinstance(p, Parameter) for p in layer.parameters.values()
    )
    assert MaxPooling().parameters == {}


def test_running_statistics_by_hand():
    """One channel, values 1, 2, 3, 6: mean 3, variance 3.5, unbiased 14 / 3; a tenth of the way from 0 and 1."""
    layer = BatchNorm(1, dtype="float64")
    y = layer.forward(np.array([1.0, 2, 3, 6]).reshape(1, 2, 2, 1), True)
    np.testing.assert_allclose(
        y.ravel(), np.maximum((np.array([1.0, 2, 3, 6]) - 3) / np.sqrt(3.5 + 1e-5), 0), rtol=1e-12
    )
    np.testing.assert_allclose(
        [layer.running_mean.value[0], layer.running_variance.value[0]], [0.3, 0.9 + 1.4 / 3], rtol=1e-12
    )
    assert layer.batches.value == 1 and set(layer.statistics) == {"running_mean", "running_variance", "batches"}
    assert set(layer.parameters) == {"scale", "shift"} and all(
        isinstance(one, Statistic) for one in layer.statistics.values()
    )
    np.testing.assert_allclose(
        layer.forward(np.full((1, 1, 1, 1), 5.0), False), (5 - 0.3) / np.sqrt(0.9 + 1.4 / 3 + 1e-5), rtol=1e-12
    )
    assert layer.batches.value == 1  # applying it moves nothing
    with pytest.raises(InputError, match="one pixel"):
        layer.forward(np.ones((1, 1, 1, 1)), True)


def test_batch_norm_goes_on_from_where_it_forgot(rng):
    layer, x, dy = BatchNorm(3, dtype="float64"), rng.standard_normal((2, 4, 5, 3)), rng.standard_normal((2, 4, 5, 3))
    y = layer.forward(x, True)
    expected, running = layer.backward(dy), {name: one.value for name, one in layer.statistics.items()}
    again = BatchNorm(3, dtype="float64")
    again.forward(x, True)
    again.forget()
    with pytest.raises(RuntimeError, match="no forward pass"):
        again.backward(dy)
    np.testing.assert_array_equal(again.forward_again(x), y)
    np.testing.assert_array_equal(again.backward(dy), expected)
    for name, value in running.items():
        np.testing.assert_array_equal(again.statistics[name].value, value)


def test_instance_norm_takes_statistics_of_a_whole_picture(rng):
    """Tiles normalised by what the whole picture had are parts of the whole picture's result."""
    layer, x = InstanceNorm(3, dtype="float64"), rng.standard_normal((1, 6, 8, 3))
    whole = layer.forward(x, False)
    layer.fixed = layer.seen
    np.testing.assert_allclose(layer.forward(x[:, :, :5], False), whole[:, :, :5], rtol=1e-12, atol=1e-14)
    layer.fixed = None
    assert np.abs(layer.forward(x[:, :, :5], False) - whole[:, :, :5]).max() > 0.01
