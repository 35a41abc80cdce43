"""Layers: an operation together with its parameters and the context of its last forward pass.

    y  = layer.forward(x, train)      keeps the context if train is true
    dx = layer.backward(dy)           uses it once, and fills the .grad of the layer's parameters

The mathematics is in `npunet.ops`; nothing is computed here.
"""

from npunet import initialization, ops


class Parameter:
    """A weight or bias: `value`, and after a backward pass `grad`, arrays of the same shape, dtype and device."""

    def __init__(self, value):
        self.value = value
        self.grad = None


class Layer:
    """Holds one context between forward and backward."""

    context = None

    def keep(self, ctx, train):
        self.context = ctx if train else None

    def take(self):
        """The context of the last forward pass, which is forgotten: it can be used once."""
        ctx, self.context = self.context, None
        if ctx is None:
            raise RuntimeError(f"{type(self).__name__}.backward: no forward pass to go back through; "
                               "call forward(x, train=True) once before each backward")
        return ctx

    @property
    def parameters(self):
        return {name: value for name, value in vars(self).items() if isinstance(value, Parameter)}


class Convolution(Layer):
    """k x k convolution with bias, and the ReLU that follows it: (N, H, W, C) -> (N, H', W', K)."""

    def __init__(self, in_channels, out_channels, kernel_size, *, padding=0, relu=True, algorithm="auto", rng, dtype):
        shape = (kernel_size, kernel_size, in_channels, out_channels)
        incoming_nodes = kernel_size * kernel_size * in_channels
        self.weight = Parameter(initialization.gaussian(shape, incoming_nodes, rng, dtype))
        self.bias = Parameter(initialization.zeros(out_channels, dtype))
        self.padding, self.relu, self.algorithm = padding, relu, algorithm

    def forward(self, x, train):
        y, ctx = ops.conv2d(x, self.weight.value, self.bias.value,
                            padding=self.padding, relu=self.relu, algorithm=self.algorithm)
        self.keep(ctx, train)
        return y

    def backward(self, dy, need_dx=True):
        """Returns dx, or None if it is not needed (the first layer of a network)."""
        dx, self.weight.grad, self.bias.grad = ops.conv2d_backward(dy, self.take(), need_dx)
        return dx


class UpConvolution(Layer):
    """2x2 up-convolution with bias, optionally followed by ReLU: (N, H, W, C) -> (N, 2H, 2W, K)."""

    def __init__(self, in_channels, out_channels, *, relu=False, rng, dtype):
        self.weight = Parameter(initialization.gaussian((2, 2, in_channels, out_channels), in_channels, rng, dtype))
        self.bias = Parameter(initialization.zeros(out_channels, dtype))
        self.relu = relu

    def forward(self, x, train):
        y, ctx = ops.up_conv2d(x, self.weight.value, self.bias.value)
        relu_ctx = None
        if self.relu:
            y, relu_ctx = ops.relu(y)
        self.keep((ctx, relu_ctx), train)
        return y

    def backward(self, dy):
        ctx, relu_ctx = self.take()
        if self.relu:
            dy = ops.relu_backward(dy, relu_ctx)
        dx, self.weight.grad, self.bias.grad = ops.up_conv2d_backward(dy, ctx)
        return dx


class MaxPooling(Layer):
    """2x2 max-pooling with stride 2: (N, H, W, C) -> (N, H/2, W/2, C)."""

    def forward(self, x, train):
        y, ctx = ops.max_pool2d(x)
        self.keep(ctx, train)
        return y

    def backward(self, dy):
        return ops.max_pool2d_backward(dy, self.take())


class CropConcat(Layer):
    """[upsampled, central crop of the skip connection] along the channels."""

    def forward(self, upsampled, skip, train):
        y, ctx = ops.crop_concat(upsampled, skip)
        self.keep(ctx, train)
        return y

    def backward(self, dy):
        """Returns dupsampled, dskip."""
        return ops.crop_concat_backward(dy, self.take())


class Dropout(Layer):
    """Dropout; does nothing outside training or with rate 0. `rng` is the network's, so that it can be saved."""

    def __init__(self, rate, rng):
        self.rate, self.rng = rate, rng

    def forward(self, x, train):
        if not train or self.rate == 0:
            self.keep("nothing dropped", train)
            return x
        y, ctx = ops.dropout(x, self.rate, self.rng)
        self.keep(ctx, train)
        return y

    def backward(self, dy):
        ctx = self.take()
        return dy if isinstance(ctx, str) else ops.dropout_backward(dy, ctx)
