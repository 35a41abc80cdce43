"""Matrix products through SciPy's BLAS, as in a browser, against NumPy's; and where they are taken."""

import numpy as np
import pytest
from scipy.linalg import blas

from npunet.gradient_check import numerical_gradient
from npunet.machine import products
from npunet.ops import conv2d, conv2d_backward, up_conv2d, up_conv2d_backward
from npunet.ops.conv_algorithms import ALGORITHMS

SHAPES = [((5, 7), (7, 3)), ((1, 7), (7, 1)), ((9, 1), (1, 4)), ((4, 5, 7), (4, 7, 3)), ((2, 3, 5, 7), (2, 1, 7, 4)),
          ((5, 7), (4, 7, 3))]  # fmt: skip


@pytest.fixture
def as_in_a_browser(monkeypatch):
    """All products of one real type go through SciPy; the list holds the shapes of those that did."""
    seen, multiply = [], products.multiply

    def noted(gemm, a, b, out):
        seen.append((a.shape, b.shape))
        multiply(gemm, a, b, out)

    monkeypatch.setattr(products, "scipy_multiplies", lambda: True)
    monkeypatch.setattr(products, "LEAST", 1)
    monkeypatch.setattr(products, "multiply", noted)
    return seen


def laid(shape, order, dtype, rng):
    """A matrix, or a stack, that lies row by row, column by column, or in every second place of a row."""
    if order == "columns":
        return np.swapaxes(laid((*shape[:-2], shape[-1], shape[-2]), "rows", dtype, rng), -1, -2)
    if order == "gaps":
        return rng.standard_normal((*shape[:-1], 2 * shape[-1])).astype(dtype)[..., ::2]
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype, rtol", [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("order", ["rows", "columns", "gaps"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_is_numpys_product(shapes, order, dtype, rtol, rng):
    for other in ("rows", "columns", "gaps"):
        a, b = laid(shapes[0], order, dtype, rng), laid(shapes[1], other, dtype, rng)
        exact = np.matmul(a.astype("float64"), b.astype("float64"))
        for out in (None, np.full(exact.shape, np.nan, dtype), laid(exact.shape, "columns", dtype, rng),
                    laid(exact.shape, "gaps", dtype, rng)):  # fmt: skip
            found = products.by_scipy(a, b, out)
            assert found.dtype == dtype and (out is None or found is out)
            np.testing.assert_allclose(found, exact, rtol=rtol, atol=10 * rtol)


def test_copies_no_matrix_that_lies_in_rows_or_columns(rng):
    """BLAS is given the memory of the arrays themselves, and writes into `out`."""
    a, b, out = rng.standard_normal((6, 4)), rng.standard_normal((5, 4)).T, np.empty((6, 5))
    given = []

    def gemm(alpha, first, second, beta, c, *flags):
        given.extend([first, second, c])
        return blas.dgemm(alpha, first, second, beta, c, *flags)

    products.multiply(gemm, a, b, out)
    for ours, taken in zip((b, a, out), given):
        assert np.shares_memory(ours, taken) and taken.flags.f_contiguous
    np.testing.assert_allclose(out, a @ b, rtol=1e-13)


def test_small_products_and_other_types_stay_with_numpy(as_in_a_browser, monkeypatch, rng):
    monkeypatch.setattr(products, "LEAST", 4 * 4 * 4)
    matrix = rng.standard_normal((4, 4))
    others = [
        (matrix[:3], matrix),
        (matrix[:0], matrix),
        (matrix, matrix.astype("float32")),
        (matrix + 1j, matrix + 1j),
        (matrix, matrix[0]),
    ]
    for a, b in [*others, ((10 * matrix).astype(int), (10 * matrix).astype(int))]:
        np.testing.assert_array_equal(products.matmul(a, b), np.matmul(a, b))
    assert not as_in_a_browser
    products.matmul(matrix, matrix)
    assert as_in_a_browser == [((4, 4), (4, 4))]


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "naive"])
def test_convolutions_and_their_gradients(algorithm, as_in_a_browser, rng):
    x, weight = rng.standard_normal((2, 9, 11, 3)), rng.standard_normal((3, 3, 3, 5))
    bias, dy = rng.standard_normal(5), rng.standard_normal((2, 7, 9, 5))
    found, ctx = conv2d(x, weight, bias, algorithm=algorithm)
    expected, naive = conv2d(x, weight, bias, algorithm="naive")
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    for ours, exact in zip(conv2d_backward(dy, ctx), conv2d_backward(dy, naive)):
        np.testing.assert_allclose(ours, exact, rtol=1e-9, atol=1e-9)
    assert as_in_a_browser


@pytest.mark.parametrize("side", [4, 24])  # few pixels are multiplied tap by tap
def test_up_convolution_and_its_gradients(side, as_in_a_browser, rng):
    x, weight = rng.standard_normal((1, side, side, 4)), rng.standard_normal((2, 2, 4, 3))
    y, ctx = up_conv2d(x, weight)
    cotangent = rng.standard_normal(y.shape)
    dx, dweight, _ = up_conv2d_backward(cotangent, ctx)
    assert as_in_a_browser
    np.testing.assert_allclose(y[:, 1::2, ::2], x @ weight[1, 0], rtol=1e-12, atol=1e-12)
    expected = numerical_gradient(lambda: np.sum(up_conv2d(x, weight)[0] * cotangent), weight)
    np.testing.assert_allclose(dweight, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.sum(dx * x), np.sum(y * cotangent), rtol=1e-10)  # y is linear in x


@pytest.mark.parametrize(
    "said, threads, expected",
    [
        ({"name": "auto"}, False, True),
        ({"name": "auto"}, True, False),
        ({"name": "openblas", "found": True}, False, False),
    ],
)
def test_only_a_numpy_without_blas_and_without_threads_asks_scipy(said, threads, expected, monkeypatch):
    """What Pyodide 0.27, a NumPy built without BLAS for a desktop, and CPython for WASI say."""
    monkeypatch.setattr(np, "show_config", lambda mode: {"Build Dependencies": {"blas": said}})
    monkeypatch.setattr(products, "can_start_threads", lambda: threads)
    assert products.scipy_multiplies.__wrapped__() is expected
