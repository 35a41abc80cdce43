"""What every operation promises, one table of operations for all:
definition, gradients, purity, dtypes, strides, batches, devices.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from npunet import ops
from npunet.errors import InputError
from npunet.gradient_check import check_gradients
from npunet.machine.backend import to_cpu
from npunet.ops.batch_norm import batch_norm_definition
from npunet.ops.convolution import conv2d_definition
from npunet.ops.crop_concat import crop_concat_definition
from npunet.ops.dropout import Mask, dropout_definition
from npunet.ops.instance_norm import instance_norm_definition
from npunet.ops.max_pooling import max_pool2d_definition
from npunet.ops.pad_concat import pad_concat_definition
from npunet.ops.relu import relu_definition
from npunet.ops.tanh import tanh_definition
from npunet.ops.up_convolution import up_conv2d_definition
from npunet.ops.upsampling import upsample2d_definition

RATE, SEED = 0.3, 5


def dropped(x):
    """Dropout's definition needs the mask:
    the same generator draws its key, test_dropout.py has the mask's own definition.
    """
    return dropout_definition(
        x, Mask(int(np.random.default_rng(SEED).integers(2**64, dtype="uint64")), RATE).keep(x.shape), RATE
    )


class Case(NamedTuple):
    forward: Callable  # (*arrays) -> y, ctx
    backward: Callable  # (dy, ctx) -> a gradient, or one for each array
    definition: Callable  # (*arrays) -> y
    shapes: list  # of the arrays; the first n_images of them start with the batch axis
    n_images: int = 1


CASES = {
    "relu": Case(ops.relu, ops.relu_backward, relu_definition, [(2, 3, 4, 2)]),
    "max_pool2d": Case(ops.max_pool2d, ops.max_pool2d_backward, lambda x: max_pool2d_definition(x)[0], [(2, 4, 6, 3)]),
    "max_pool2d odd": Case(
        ops.max_pool2d, ops.max_pool2d_backward, lambda x: max_pool2d_definition(x)[0], [(2, 5, 7, 2)]
    ),
    "up_conv2d": Case(ops.up_conv2d, ops.up_conv2d_backward, up_conv2d_definition, [(2, 3, 4, 3), (2, 2, 3, 2), (2,)]),
    "up_conv2d one pixel": Case(
        ops.up_conv2d, ops.up_conv2d_backward, up_conv2d_definition, [(2, 1, 1, 2), (2, 2, 2, 3), (3,)]
    ),
    "crop_concat": Case(
        ops.crop_concat, ops.crop_concat_backward, crop_concat_definition, [(2, 3, 4, 2), (2, 7, 6, 3)], 2
    ),
    "crop_concat same size": Case(
        ops.crop_concat, ops.crop_concat_backward, crop_concat_definition, [(2, 3, 4, 2), (2, 3, 4, 1)], 2
    ),
    "crop_concat one pixel": Case(
        ops.crop_concat, ops.crop_concat_backward, crop_concat_definition, [(1, 1, 1, 2), (1, 3, 3, 1)], 2
    ),
    "dropout": Case(
        lambda x: ops.dropout(x, RATE, np.random.default_rng(SEED)), ops.dropout_backward, dropped, [(2, 3, 4, 5)]
    ),
    "batch_norm": Case(ops.batch_norm, ops.batch_norm_backward, batch_norm_definition, [(1, 4, 5, 3), (3,), (3,)]),
    "batch_norm relu": Case(
        lambda x, scale, shift: ops.batch_norm(x, scale, shift, relu=True),
        ops.batch_norm_backward,
        lambda *arrays: relu_definition(batch_norm_definition(*arrays)),
        [(1, 6, 3, 2), (2,), (2,)],
    ),
    "instance_norm": Case(
        ops.instance_norm, ops.instance_norm_backward, instance_norm_definition, [(2, 4, 5, 3), (3,), (3,)]
    ),
    "instance_norm relu": Case(
        lambda x, scale, shift: ops.instance_norm(x, scale, shift, relu=True),
        ops.instance_norm_backward,
        lambda *arrays: relu_definition(instance_norm_definition(*arrays)),
        [(3, 6, 3, 2), (2,), (2,)],
    ),
    "pad_concat": Case(ops.pad_concat, ops.pad_concat_backward, pad_concat_definition, [(2, 4, 3, 2), (2, 9, 8, 3)], 2),
    "pad_concat same size": Case(
        ops.pad_concat, ops.pad_concat_backward, pad_concat_definition, [(2, 3, 4, 2), (2, 3, 4, 1)], 2
    ),
    "tanh": Case(ops.tanh, ops.tanh_backward, tanh_definition, [(2, 3, 4, 2)]),
    "upsample2d": Case(ops.upsample2d, ops.upsample2d_backward, upsample2d_definition, [(2, 3, 5, 2)]),
    "upsample2d one pixel": Case(ops.upsample2d, ops.upsample2d_backward, upsample2d_definition, [(2, 1, 2, 3)]),
    "conv2d 3x3": Case(
        ops.conv2d,
        ops.conv2d_backward,
        conv2d_definition,
        [(2, 5, 6, 2), (3, 3, 2, 3), (3,)],
    ),
    "conv2d 1x1": Case(
        ops.conv2d,
        ops.conv2d_backward,
        conv2d_definition,
        [(2, 3, 4, 3), (1, 1, 3, 2), (2,)],
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def draw(shapes, rng, dtype="float64"):
    """Random arrays whose values are distinct and at least 0.01 apart and from 0:
    no kinks within reach of a difference.
    """
    arrays = []
    for shape in shapes:
        size = int(np.prod(shape))
        values = (np.arange(size) + 0.5) * 0.02 - 0.01 * size
        values += np.where(values > 0, 0.01, -0.01)
        arrays.append(rng.permutation(values).reshape(shape).astype(dtype))
    return arrays


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


def strided(array):
    """The same values, as a view with gaps and a reversed axis."""
    host = np.zeros([2 * size for size in array.shape], array.dtype)
    view = host[tuple(slice(None, None, -2) if axis == 0 else slice(None, None, 2) for axis in range(array.ndim))]
    view[...] = array
    assert array.size == 1 or not view.flags.c_contiguous
    return view


def test_forward_is_the_definition(case, xp, rng):
    arrays = [xp.asarray(array) for array in draw(case.shapes, rng)]
    y, _ = case.forward(*arrays)
    np.testing.assert_allclose(to_cpu(y), to_cpu(case.definition(*arrays)), rtol=1e-12, atol=1e-13)


def test_backward_is_the_derivative(case, rng):
    assert check_gradients(case.forward, case.backward, draw(case.shapes, rng), rng) < 1e-6


def test_a_device_computes_what_numpy_computes(case, xp, rng):
    arrays = draw(case.shapes, rng)
    y, ctx = case.forward(*arrays)
    dy = rng.standard_normal(y.shape)
    there, there_ctx = case.forward(*(xp.asarray(array) for array in arrays))
    assert type(there) is type(xp.asarray(dy)) and there.shape == y.shape
    for mine, expected in zip(
        as_tuple(case.backward(xp.asarray(dy), there_ctx)), as_tuple(case.backward(dy, ctx)), strict=True
    ):
        np.testing.assert_allclose(to_cpu(mine), expected, rtol=1e-12, atol=1e-13)


def test_a_gradient_of_another_shape_or_dtype_is_refused(case, xp, rng):
    """One line says what was expected; and the context serves the next call."""
    if case is CASES["dropout"]:
        pytest.skip("dropout keeps a key and no shape")
    arrays = [xp.asarray(array) for array in draw(case.shapes, rng)]
    y, ctx = case.forward(*arrays)
    for shape, dtype in (((*y.shape[:3], y.shape[3] + 1), y.dtype), (y.shape[1:], y.dtype), (y.shape, "float32")):
        if shape == y.shape and case.forward is ops.max_pool2d:
            continue  # it moves numbers of any dtype
        with pytest.raises(InputError, match=r"_backward: dy is .*; expected float64 \(.*\), as y was$"):
            case.backward(xp.asarray(np.zeros(shape, dtype)), ctx)
    case.backward(xp.asarray(rng.standard_normal(y.shape)), ctx)


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_array_is_refused_with_one_line(name, xp, rng):
    """A list where an array belongs; and a feature map that is no batch, where the operation needs one."""
    case, operation = CASES[name], name.split()[0]
    arrays = [xp.asarray(array) for array in draw(case.shapes, rng)]
    for place, array in enumerate(arrays):
        given = [*arrays[:place], to_cpu(array).tolist(), *arrays[place + 1 :]]
        with pytest.raises(
            InputError, match=rf"^{operation}: \w+ is a list; expected an array of NumPy or CuPy, such as"
        ):
            case.forward(*given)
    if operation not in ("relu", "tanh", "dropout"):  # they take arrays of any shape
        with pytest.raises(InputError, match=rf"^{operation}: .* expected \(N, H, W, C\)"):
            case.forward(arrays[0][0], *arrays[1:])
    y, ctx = case.forward(*arrays)
    if operation != "dropout":  # it keeps a key alone
        with pytest.raises(
            InputError, match=rf"^{operation}_backward: dy is a list; expected an array of NumPy or CuPy"
        ):
            case.backward(to_cpu(y).tolist(), ctx)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("dropout")])
def test_kernels_refuse_with_the_same_lines(name, gpu, rng):
    """A feature map that is no batch; and a list for dy, which leads to the array expressions, although a GPU keeps
    something else for the gradient.
    """
    case, operation = CASES[name], name.split()[0]
    there = [gpu.asarray(array.astype("float32")) for array in draw(case.shapes, rng)]
    if operation not in ("relu", "tanh"):  # they take arrays of any shape
        with pytest.raises(InputError, match=rf"^{operation}: .* expected \(N, H, W, C\)"):
            case.forward(there[0][0], *there[1:])
    y, ctx = case.forward(*there)
    with pytest.raises(InputError, match=rf"^{operation}_backward: dy is a list; expected an array of NumPy or CuPy"):
        case.backward(to_cpu(y).tolist(), ctx)


def test_a_tensor_of_another_library_is_no_array():
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="^relu: x is a Tensor; expected an array of NumPy or CuPy"):
        ops.relu(torch.zeros(1, 2, 2, 1))


@pytest.mark.parametrize("shape, dtype, words", [
    ((2, 2), "float64", "weight (2, 2) does not fit x (1, 3, 3, 2); expected (2, 2, 2, C_out)"),
    ((2, 2, 3, 4), "float64", "weight (2, 2, 3, 4) does not fit x (1, 3, 3, 2); expected (2, 2, 2, C_out)"),
    ((2, 2, 2, 4), "float32", "x is float64 but weight float32; convert with astype"),
    ((2, 2, 2, 3), "float64", "bias has shape (4,); expected (3,)"),
])  # fmt: skip
def test_up_conv2d_refuses_what_does_not_fit(shape, dtype, words, xp):
    x, bias = np.zeros((1, 3, 3, 2)), np.zeros(4)
    with pytest.raises(InputError) as error:
        ops.up_conv2d(*(xp.asarray(array) for array in (x, np.zeros(shape, dtype), bias)))
    assert str(error.value) == f"up_conv2d: {words}"


def test_nothing_that_is_passed_in_is_written_to(case, rng):
    arrays = draw(case.shapes, rng)
    kept = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    y, ctx = case.forward(*arrays)
    dy = rng.standard_normal(y.shape)
    dy.setflags(write=False)
    kept_y = y.copy()
    first = as_tuple(case.backward(dy, ctx))
    first = [gradient.copy() for gradient in first]
    for a, b in zip(first, as_tuple(case.backward(dy, ctx))):  # the context is as it was, too
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(y, kept_y)
    for array, before in zip(arrays, kept):
        np.testing.assert_array_equal(array, before)


def test_results_are_new_arrays(case, rng):
    """A caller may add to a result or a gradient (UNet.backward does) without changing anything that another one
    reads.
    """
    arrays = draw(case.shapes, rng)
    y, ctx = case.forward(*arrays)
    assert not any(np.shares_memory(y, array) for array in arrays)
    dy = rng.standard_normal(y.shape)
    gradients = as_tuple(case.backward(dy, ctx))
    for number, gradient in enumerate(gradients):
        assert gradient.flags.writeable
        assert not any(np.shares_memory(gradient, other) for other in (dy, y, *arrays, *gradients[:number]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_in_is_dtype_out(case, xp, dtype, rng):
    arrays = [xp.asarray(array) for array in draw(case.shapes, rng, dtype)]
    y, ctx = case.forward(*arrays)
    assert y.dtype == dtype
    gradients = as_tuple(case.backward(xp.asarray(rng.standard_normal(y.shape).astype(dtype)), ctx))
    for gradient, array in zip(gradients, arrays, strict=True):
        assert gradient.dtype == dtype and gradient.shape == array.shape


def test_arrays_with_gaps_are_accepted(case, xp, rng):
    arrays = draw(case.shapes, rng)
    y, ctx = case.forward(*(xp.asarray(array) for array in arrays))
    dy = rng.standard_normal(y.shape)
    gradients = as_tuple(case.backward(xp.asarray(dy), ctx))
    gappy = [strided(array) for array in arrays] if xp is np else [xp.asarray(array).T.copy().T for array in arrays]
    y_gappy, ctx_gappy = case.forward(*gappy)
    np.testing.assert_allclose(to_cpu(y_gappy), to_cpu(y), rtol=1e-12, atol=1e-13)
    dy_gappy = strided(dy) if xp is np else xp.asarray(dy).T.copy().T
    for a, b in zip(as_tuple(case.backward(dy_gappy, ctx_gappy)), gradients):
        np.testing.assert_allclose(to_cpu(a), to_cpu(b), rtol=1e-12, atol=1e-13)


def test_a_batch_is_its_images_one_by_one(case, rng):
    if case is CASES["dropout"] or case.shapes[0][0] == 1:
        pytest.skip("dropout draws a new mask for each image; one image is no batch")
    arrays = draw(case.shapes, rng)
    images, others = arrays[: case.n_images], arrays[case.n_images :]
    y, ctx = case.forward(*arrays)
    dy = rng.standard_normal(y.shape)
    gradients = as_tuple(case.backward(dy, ctx))
    summed = [np.zeros_like(array) for array in others]
    for n in range(len(y)):
        one, one_ctx = case.forward(*(array[n : n + 1] for array in images), *others)
        np.testing.assert_allclose(one, y[n : n + 1], rtol=1e-12)
        one_gradients = as_tuple(case.backward(dy[n : n + 1], one_ctx))
        for mine, whole in zip(one_gradients, gradients[: case.n_images]):
            np.testing.assert_allclose(mine, whole[n : n + 1], rtol=1e-12, atol=1e-13)
        for total, mine in zip(summed, one_gradients[case.n_images :]):
            total += mine  # parameters: gradients of all images add up
    for total, whole in zip(summed, gradients[case.n_images :]):
        np.testing.assert_allclose(total, whole, rtol=1e-12, atol=1e-13)


def test_the_table_names_every_operation():
    forwards = {name.split()[0] for name in CASES}
    assert forwards == {name for name in ops.__all__ if not name.endswith("_backward")}


def test_an_empty_batch_is_refused():
    with pytest.raises(InputError, match="conv2d: x"):
        ops.conv2d(np.zeros((0, 5, 5, 1)), np.zeros((3, 3, 1, 1)))
