"""What the convolution algorithms share: the input gradient, bias and ReLU of a band of rows."""

from npunet.gpu import by_device, kernels
from npunet.machine.backend import array_module
from npunet.machine.shapes import crop_or_pad, flipped


def input_gradient(forward, dy, weight, padding):
    """dx as a convolution:
    of dy, padded by kernel size - 1 - padding, with the flipped kernel (derivation in convolution.py).
    """
    kh, kw = weight.shape[:2]
    return forward(crop_or_pad(dy, kh - 1 - padding, kw - 1 - padding), flipped(weight), None, 0, False)


def add_bias_relu(band, bias, relu):
    """Adds bias (K,) and applies ReLU to band (..., K), in place, while the band is still in cache."""
    if bias is not None:
        band += bias
    if relu:
        array_module(band).maximum(band, 0, out=band)


add_bias_relu = by_device(add_bias_relu, kernels.bias_relu)


def masked(dy, y, relu):
    """dy masked by the ReLU: zero where y = max(0, .) is not positive. dy itself without ReLU."""
    return dy * (y > 0) if relu else dy
