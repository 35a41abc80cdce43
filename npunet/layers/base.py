"""What all layers are made of: parameters, statistics, and one context between forward and backward."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from npunet.machine.backend import Array


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
