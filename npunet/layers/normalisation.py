"""Layers that normalise: over the batch, or each picture alone."""

from numpy.typing import DTypeLike

from npunet import initialization, ops
from npunet.errors import InputError
from npunet.layers.base import Layer, Parameter, Statistic
from npunet.machine import ranks
from npunet.machine.backend import Array


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


class InstanceNorm(Layer):
    """Instance normalisation and the ReLU that follows it: (N, H, W, C) -> the same.

    Each picture is normalised by its own mean and variance, in training and later alike. `fixed` = (mean, variance),
    (C,) each, replaces them: so the tiles of a large picture share the statistics of the whole
    (npunet.style.generator). `seen` are those of the last forward pass, for this purpose.
    """

    eps = 1e-5
    fixed: tuple[Array, Array] | None = None
    seen: tuple[Array, Array] | None = None

    def __init__(self, channels: int, *, relu: bool = True, dtype: DTypeLike) -> None:
        self.scale = Parameter(initialization.ones(channels, dtype))
        self.shift = Parameter(initialization.zeros(channels, dtype))
        self.relu = relu

    def forward(self, x: Array, train: bool) -> Array:
        given = self.fixed or (None, None)
        y, ctx = ops.instance_norm(x, self.scale.value, self.shift.value, *given, eps=self.eps, relu=self.relu)
        self.seen = ctx[0].mean, ctx[0].variance
        self.keep(ctx, train)
        return y

    def backward(self, dy: Array) -> Array:
        dx, self.scale.grad, self.shift.grad = self.go_back(ops.instance_norm_backward, dy)
        return dx


NORMS = {"batch": BatchNorm, "instance": InstanceNorm}
