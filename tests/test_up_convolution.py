"""2x2 up-convolution: its adjoint, a worked example, bad shapes. Definition, gradient and contract:
test_ops_contract.py.
"""

import numpy as np
import pytest
from scipy import signal

from npunet.machine.backend import to_cpu
from npunet.ops import up_conv2d, up_conv2d_backward, up_convolution


def strided_convolution(z, weight):
    """The 2x2 convolution with stride 2, (N, 2H, 2W, K) -> (N, H, W, C), by einsum over blocks."""
    n, height, width, k = z.shape
    blocks = z.reshape(n, height // 2, 2, width // 2, 2, k)  # (N, H, a, W, b, K)
    return np.einsum("niajbk,abck->nijc", blocks, weight)


def test_one_pixel_by_hand(xp):
    """One pixel with the value 10 and a kernel 1 2 / 3 4 gives the block 10 20 / 30 40;
    the bias is added everywhere.
    """
    weight = xp.asarray(np.array([[1.0, 2], [3, 4]])[:, :, None, None])
    y, _ = up_conv2d(xp.asarray(np.full((1, 1, 1, 1), 10.0)), weight, xp.asarray([0.5]))
    np.testing.assert_array_equal(to_cpu(y)[0, :, :, 0], [[10.5, 20.5], [30.5, 40.5]])


def test_is_scipys_convolution_of_the_picture_with_gaps(xp, rng):
    """Zeros between the pixels, then an ordinary full convolution: the textbook's way to say it."""
    x, weight = rng.standard_normal((1, 3, 5, 1)), rng.standard_normal((2, 2, 1, 1))
    gaps = np.zeros((6, 10))
    gaps[::2, ::2] = x[0, :, :, 0]
    expected = signal.convolve2d(gaps, weight[:, :, 0, 0])[:6, :10]
    y, _ = up_conv2d(xp.asarray(x), xp.asarray(weight))
    np.testing.assert_allclose(to_cpu(y)[0, :, :, 0], expected, rtol=1e-12, atol=1e-14)


def test_is_the_adjoint_of_the_strided_convolution(xp, rng):
    """<A x, z> = <x, A^T z>, and the backward pass is that A^T."""
    x, weight = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 2, 5, 3))
    z = rng.standard_normal((2, 6, 8, 3))
    y, ctx = up_conv2d(xp.asarray(x), xp.asarray(weight))
    back = strided_convolution(z, weight)
    assert np.sum(to_cpu(y) * z) == pytest.approx(np.sum(x * back), rel=1e-12)
    dx, dweight, dbias = up_conv2d_backward(xp.asarray(z), ctx)
    np.testing.assert_allclose(to_cpu(dx), back, rtol=1e-12, atol=1e-13)
    # linear in the weight as well
    assert np.sum(to_cpu(dweight) * weight) == pytest.approx(np.sum(to_cpu(y) * z), rel=1e-12)
    assert dbias is None


@pytest.mark.parametrize("weight_shape", [(3, 3, 2, 4), (2, 2, 4, 2), (2, 1, 2, 4)])
def test_weights_that_do_not_fit_are_refused(weight_shape):
    with pytest.raises(ValueError, match=r"up_conv2d: weight .* does not fit x"):
        up_conv2d(np.zeros((1, 3, 3, 2)), np.zeros(weight_shape))


@pytest.mark.parametrize("height, width, alone", [(1, 512, True), (19, 27, False)])  # 513 pixels
def test_up_to_which_size_an_up_convolution_goes_back_tap_by_tap(height, width, alone, monkeypatch):
    called, by_taps = [], up_convolution._backward_by_taps
    monkeypatch.setattr(up_convolution, "_backward_by_taps", lambda *arrays: called.append(1) or by_taps(*arrays))
    y, ctx = up_convolution.up_conv2d(np.zeros((1, height, width, 1)), np.zeros((2, 2, 1, 1)))
    up_convolution.up_conv2d_backward(y, ctx)
    assert bool(called) == alone
