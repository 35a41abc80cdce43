"""Layers: an operation together with its parameters and the context of its last forward pass.

    y  = layer.forward(x, train)      keeps the context if train is true
    dx = layer.backward(dy)           uses it once, and fills the .grad of the layer's parameters

The mathematics is in `npunet.ops`; nothing is computed here. base.py has what all layers share, normalisation.py the
layers that normalise.
"""

import numpy as np
from numpy.typing import DTypeLike

from npunet import initialization, ops
from npunet.layers.base import Layer, Parameter, Statistic, watched
from npunet.layers.normalisation import NORMS, BatchNorm, InstanceNorm
from npunet.machine.backend import Array
from npunet.machine.philox import Mask

__all__ = [
    "NORMS",
    "BatchNorm",
    "Convolution",
    "CropConcat",
    "Dropout",
    "InstanceNorm",
    "Layer",
    "MaxPooling",
    "PadConcat",
    "Parameter",
    "Statistic",
    "Tanh",
    "UpConvolution",
    "Upsampling",
    "watched",
]


class Convolution(Layer):
    """k x k convolution, with bias unless switched off, and the ReLU that follows it:
    (N, H, W, C) -> (N, H', W', K).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        padding: int = 0,
        bias: bool = True,
        relu: bool = True,
        algorithm: str = "auto",
        rng: np.random.Generator,
        dtype: DTypeLike,
    ) -> None:
        shape = (kernel_size, kernel_size, in_channels, out_channels)
        incoming_nodes = kernel_size * kernel_size * in_channels
        self.weight = Parameter(initialization.gaussian(shape, incoming_nodes, rng, dtype, relu))
        self.bias = Parameter(initialization.zeros(out_channels, dtype)) if bias else None
        self.padding, self.relu, self.algorithm = padding, relu, algorithm

    def forward(self, x: Array, train: bool) -> Array:
        y, ctx = ops.conv2d(
            x,
            self.weight.value,
            self.bias.value if self.bias else None,
            padding=self.padding,
            relu=self.relu,
            algorithm=self.algorithm,
        )
        self.keep(ctx, train)
        return y

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        """Returns dx, or None if it is not needed (the first layer of a network)."""
        dx, self.weight.grad, dbias = self.go_back(ops.conv2d_backward, dy, need_dx)
        if self.bias:
            self.bias.grad = dbias
        return dx


class UpConvolution(Layer):
    """2x2 up-convolution with bias, optionally followed by ReLU: (N, H, W, C) -> (N, 2H, 2W, K)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, relu: bool = False, rng: np.random.Generator, dtype: DTypeLike
    ) -> None:
        self.weight = Parameter(
            initialization.gaussian((2, 2, in_channels, out_channels), in_channels, rng, dtype, relu)
        )
        self.bias = Parameter(initialization.zeros(out_channels, dtype))
        self.relu = relu

    def forward(self, x: Array, train: bool) -> Array:
        y, ctx = ops.up_conv2d(x, self.weight.value, self.bias.value)
        relu_ctx = None
        if self.relu:
            y, relu_ctx = ops.relu(y)
        self.keep((ctx, relu_ctx), train)
        return y

    def backward(self, dy: Array) -> Array:
        def both(dy, contexts):
            return ops.up_conv2d_backward(ops.relu_backward(dy, contexts[1]) if self.relu else dy, contexts[0])

        dx, self.weight.grad, self.bias.grad = self.go_back(both, dy)
        return dx


class Upsampling(Layer):
    """Bilinear upsampling with aligned corners: (N, H, W, C) -> (N, 2H, 2W, C). Nothing to learn."""

    def forward(self, x: Array, train: bool) -> Array:
        y, ctx = ops.upsample2d(x)
        self.keep(ctx, train)
        return y

    def backward(self, dy: Array) -> Array:
        return self.go_back(ops.upsample2d_backward, dy)


class MaxPooling(Layer):
    """2x2 max-pooling with stride 2: (N, H, W, C) -> (N, H/2, W/2, C)."""

    def forward(self, x: Array, train: bool) -> Array:
        y, ctx = ops.max_pool2d(x)
        self.keep(ctx, train)
        return y

    def backward(self, dy: Array, dskip: Array | None = None) -> Array:
        """dskip: the gradient by the same x from the skip connection, which is added."""
        return self.go_back(ops.max_pool2d_backward, dy, dskip)


class CropConcat(Layer):
    """[upsampled, central crop of the skip connection] along the channels."""

    def forward(self, upsampled: Array, skip: Array, train: bool) -> Array:
        y, ctx = ops.crop_concat(upsampled, skip)
        self.keep(ctx, train)
        return y

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """Returns dupsampled, dskip."""
        return self.go_back(ops.crop_concat_backward, dy)


class PadConcat(Layer):
    """[skip connection, upsampled with zeros around up to the same size] along the channels."""

    def forward(self, upsampled: Array, skip: Array, train: bool) -> Array:
        y, ctx = ops.pad_concat(upsampled, skip)
        self.keep(ctx, train)
        return y

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """Returns dupsampled, dskip."""
        return self.go_back(ops.pad_concat_backward, dy)


class Tanh(Layer):
    """Hyperbolic tangent: any shape -> the same, values between -1 and 1."""

    def forward(self, x: Array, train: bool) -> Array:
        y, ctx = ops.tanh(x)
        self.keep(ctx, train)
        return y

    def backward(self, dy: Array) -> Array:
        return self.go_back(ops.tanh_backward, dy)


class Dropout(Layer):
    """Dropout; does nothing outside training or with rate 0. `rng` is the network's, so that it can be saved."""

    nothing_dropped = Mask(key=0, rate=0.0)

    def __init__(self, rate: float, rng: np.random.Generator) -> None:
        self.rate, self.rng = rate, rng

    def forward(self, x: Array, train: bool) -> Array:
        if not train or self.rate == 0:
            self.keep(self.nothing_dropped, train)
            return x
        y, ctx = ops.dropout(x, self.rate, self.rng)
        self.keep(ctx, train)
        return y

    def backward(self, dy: Array) -> Array:
        return self.go_back(lambda dy, ctx: dy if ctx is self.nothing_dropped else ops.dropout_backward(dy, ctx), dy)
