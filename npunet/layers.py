"""Layers: an operation together with its parameters and the context of its last forward pass.

    y  = layer.forward(x, train)      keeps the context if train is true
    dx = layer.backward(dy)           uses it once, and fills the .grad of the layer's parameters

The mathematics is in `npunet.ops`; nothing is computed here.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from npunet import initialization, ops
from npunet.errors import InputError
from npunet.machine import ranks
from npunet.machine.backend import Array
from npunet.machine.philox import Mask


class Parameter:
    """A weight or bias: `value`, and after a backward pass `grad`, arrays of the same shape, dtype and device."""

    def __init__(self, value: Array) -> None:
        self.value = value
        self.grad: Array | None = None


class Statistic:
    """An array that belongs to a network and is saved with it, but comes from averaging and not from gradients."""

    def __init__(self, value: Array) -> None:
        self.value = value


class Layer:
    """Holds one context between forward and backward."""

    context: Any = None
    forward: Callable[..., Array]  # (x, train) -> y
    backward: Callable[..., Any]  # dy -> dx

    def keep(self, ctx: Any, train: bool) -> None:
        self.context = ctx if train else None

    def forget(self) -> None:
        """Drop the context, which frees its memory; `forward_again` computes it a second time."""
        self.context = None

    def forward_again(self, x: Array) -> Array:
        """What forward(x, train=True) did before `forget`, to the same bits."""
        return self.forward(x, True)

    def go_back(self, backward: Callable, dy: Array, *others: Any) -> Any:
        """backward(dy, context, *others). The context serves once, but is kept if the operation refuses dy."""
        if self.context is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: no forward pass to go back through; "
                "call forward(x, train=True) once before each backward"
            )
        gradients = backward(dy, self.context, *others)
        self.context = None
        return gradients

    @property
    def parameters(self) -> dict[str, Parameter]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Parameter)}

    @property
    def statistics(self) -> dict[str, Statistic]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Statistic)}


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


class BatchNorm(Layer):
    """Batch normalisation and the ReLU that follows it: (N, H, W, C) -> the same. Keeps running averages.

    Training normalises by mean and variance of the batch; otherwise the running averages are used, which start at 0 and
    1 and move a tenth of the way towards each batch's mean and its unbiased variance (sum of squares / (M - 1)), as in
    PyTorch.
    """

    momentum, eps = 0.1, 1e-5

    def __init__(self, channels: int, *, relu: bool = True, dtype: DTypeLike) -> None:
        self.scale = Parameter(initialization.ones(channels, dtype))
        self.shift = Parameter(initialization.zeros(channels, dtype))
        self.running_mean = Statistic(initialization.zeros(channels, dtype))
        self.running_variance = Statistic(initialization.ones(channels, dtype))
        self.batches = Statistic(initialization.zeros((), "int64"))
        self.relu = relu

    def forward(self, x: Array, train: bool) -> Array:
        if not train:
            self.keep(None, train)
            return self._normalise(x, self.running_mean.value, self.running_variance.value)[0]
        pixels = x.size // x.shape[3] * ranks.size()
        if pixels == 1:
            raise InputError(
                "batch normalisation met a feature map of one pixel, whose variance says nothing; give a larger tile "
                "or batch"
            )
        y, ctx = self._normalise(x)
        self._average(self.running_mean, ctx.mean)
        self._average(self.running_variance, ctx.variance * (pixels / (pixels - 1)))
        self.batches.value = self.batches.value + 1
        self.keep(ctx, train)
        return y

    def forget(self) -> None:
        self.of_batch = self.context.mean, self.context.variance  # two short vectors, worth keeping
        super().forget()

    def forward_again(self, x: Array) -> Array:
        """As the first time, but the statistics are known already and do not enter the running averages twice."""
        y, self.context = self._normalise(x, *self.of_batch)
        return y

    def backward(self, dy: Array) -> Array:
        dx, self.scale.grad, self.shift.grad = self.go_back(ops.batch_norm_backward, dy)
        return dx

    def _normalise(self, x, mean=None, variance=None):
        return ops.batch_norm(x, self.scale.value, self.shift.value, mean, variance, eps=self.eps, relu=self.relu)

    def _average(self, running, of_batch):
        running.value = ((1 - self.momentum) * running.value + self.momentum * of_batch).astype(running.value.dtype)


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


@contextlib.contextmanager
def watched(layers: dict[str, Layer], around: Callable[[str, str, Callable], Callable]) -> Iterator[None]:
    """Within, each layer's forward and backward are what around(name, direction, method) makes of them.

    layers: {name: Layer}; direction: "forward" or "backward". For looking inside a network that is at work.
    """
    for name, layer in layers.items():
        layer.forward = around(name, "forward", layer.forward)
        layer.backward = around(name, "backward", layer.backward)
    try:
        yield
    finally:
        for layer in layers.values():
            del layer.forward, layer.backward  # the methods of the class are seen again
