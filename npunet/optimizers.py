"""Optimisers (§3): stochastic gradient descent with momentum 0.99; RMSprop and Adam beside it.

"Accordingly we use a high momentum (0.99) such that a large number of the previously seen training samples determine
the update in the current optimization step" (§3).

Notation: p a parameter, g its gradient, eta the learning rate; all operations element by element.

    SGD       v <- momentum * v + g               p <- p - eta * v
    RMSprop   s <- alpha * s + (1 - alpha) g^2     p <- p - eta * g / (sqrt(s) + eps)
              with momentum    v <- momentum * v + g / (sqrt(s) + eps)     p <- p - eta * v
    Adam      m <- b1 m + (1 - b1) g    s <- b2 s + (1 - b2) g^2
              p <- p - eta * (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + eps)

Weight decay adds decay * p to g before anything else, which pulls parameters towards 0; it is 0 unless given. All
formulas are PyTorch's.

With momentum 0.99 a constant gradient moves p by eta * g / (1 - 0.99) = 100 eta g each step in the end.
"""

from collections.abc import Sequence

import numpy as np

from npunet.errors import InputError
from npunet.gpu import by_device
from npunet.gpu import optimizers as gpu_optimizers
from npunet.machine.backend import Array, array_module, to_cpu
from npunet.machine.threads import parallel

BLOCK = 1 << 17  # elements: some caches hold value, gradient and slots, and threads seldom wait for Python's lock


def _zeros(value):
    return array_module(value).zeros(value.shape, dtype=value.dtype)  # C order, whatever the order of value


def gradient_norm(parameters: dict) -> float:
    """Euclidean norm of all gradients together."""
    squares = [array_module(p.grad).vdot(p.grad, p.grad) for p in parameters.values()]
    return float(sum(squares[1:], squares[0])) ** 0.5


class Optimizer:
    """parameters: the dict of `UNet.parameters`. `learning_rate` may be changed between steps."""

    slots: tuple[str, ...] = ()  # names of the running arrays kept for each parameter

    def __init__(self, parameters: dict, learning_rate: float, weight_decay: float = 0.0) -> None:
        self.parameters, self.learning_rate, self.weight_decay, self.steps = parameters, learning_rate, weight_decay, 0
        self.scale = 1.0  # factor for gradients: less than 1 where they are clipped, 0 after one that was not finite
        self.arrays = {
            slot: {name: _zeros(parameter.value) for name, parameter in parameters.items()} for slot in self.slots
        }

    def step(self, energy: Array | None = None, clip: float = 0.0) -> Array | None:
        """Update every parameter in place from its .grad.

        energy: the loss, a 0-d array. With it the step returns a report, (2,) float64 on the parameters' device: the
        loss and the norm of the gradient. Gradients with a norm above `clip` (0: any norm) are then scaled down to
        it, and if loss or norm is not finite, this step and all later ones like it change nothing, until `take_back`.
        On a GPU the host does not wait for any of it.
        """
        self.steps += 1
        self.learning_rate = float(self.learning_rate)  # a NumPy float64 would promote float32 arrays
        return update([parameter.grad for parameter in self.parameters.values()], self, energy, clip)

    def take_back(self) -> None:
        """Forget the last step, which was not finite and changed nothing; the next one counts again."""
        self.steps -= 1
        self.scale = 1.0

    def forget_gradients(self) -> None:
        """Lets go of all gradients, which the next backward pass fills again:
        their memory serves for feature maps meanwhile.
        """
        for parameter in self.parameters.values():
            parameter.grad = None

    def step_numbers(self) -> tuple[float, ...]:
        """What a GPU's kernel must be told anew in each step."""
        return (self.learning_rate,)

    def _in_blocks(self, *arrays):
        """`update` on a few thousand elements at a time, so that all its arithmetic finds them in the cache."""
        if not all(array.flags.c_contiguous for array in arrays):
            self._decay_and_update(*arrays)
            return
        flat = [array.reshape(-1) for array in arrays]
        blocks = -(-flat[0].size // BLOCK)
        parallel(
            lambda block: self._decay_and_update(*(array[block * BLOCK : (block + 1) * BLOCK] for array in flat)),
            blocks,
        )

    def _decay_and_update(self, value, grad, *slots):
        if self.weight_decay:
            grad = grad + self.weight_decay * value
        self.update(value, grad, *slots)

    def state(self) -> tuple[dict[str, np.ndarray], int]:
        """All that must be saved to go on: {"slot/parameter": NumPy array}, and the number of steps.

        On the CPU these are the live arrays, not copies: write them out, or copy them, before the next step.
        """
        return {
            f"{slot}/{name}": to_cpu(array) for slot, arrays in self.arrays.items() for name, array in arrays.items()
        }, self.steps

    def restore(self, state: dict[str, np.ndarray], steps: int) -> None:
        """Go on from what `state` returned. Raises InputError, with nothing changed, if it is of other parameters."""
        own = {f"{slot}/{name}": array for slot, arrays in self.arrays.items() for name, array in arrays.items()}
        for key, array in own.items():
            found = state[key].shape if key in state else "nothing"
            if found != array.shape:
                raise InputError(f"the optimiser's state has {found} as {key}; expected an array {array.shape}")
        for key, array in own.items():
            array[...] = array_module(array).asarray(state[key])
        self.steps = steps


def update(gradients: Sequence[Array], optimizer: Optimizer, energy: Array | None, clip: float) -> Array | None:
    """The body of `Optimizer.step`: norm, clipping, and the update of each parameter."""
    report, scale = None, 1.0
    if energy is not None:
        norm = gradient_norm(optimizer.parameters)
        scale = optimizer.scale = _scale(optimizer.scale, float(energy), norm, clip)
        report = np.array([float(energy), norm])
    if scale == 0:
        return report
    for (name, parameter), gradient in zip(optimizer.parameters.items(), gradients):
        if scale != 1:
            gradient *= scale
        optimizer._in_blocks(parameter.value, gradient, *(optimizer.arrays[slot][name] for slot in optimizer.slots))
    return report


def _scale(before, energy, norm, clip):
    """The factor for all gradients: 0 stays 0; see `Optimizer.scale`."""
    if before == 0 or not np.isfinite(energy + norm):
        return 0.0
    return clip / max(norm, clip) if clip else 1.0


update = by_device(update, gpu_optimizers.update)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (§3)."""

    slots = ("velocity",)

    def __init__(
        self, parameters: dict, learning_rate: float, momentum: float = 0.99, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, learning_rate, weight_decay)
        self.momentum = momentum

    def update(self, value: Array, grad: Array, velocity: Array) -> None:
        velocity *= self.momentum
        velocity += grad
        value -= self.learning_rate * velocity

    def kernel(self) -> tuple[str, tuple]:
        return "sgd", (self.momentum,)


class RMSprop(Optimizer):
    """Divides by a running root mean square of the gradient (Tieleman and Hinton 2012)."""

    def __init__(
        self,
        parameters: dict,
        learning_rate: float,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        self.slots = ("square", "velocity") if momentum else ("square",)
        super().__init__(parameters, learning_rate, weight_decay)
        self.alpha, self.eps, self.momentum = alpha, eps, momentum

    def update(self, value: Array, grad: Array, square: Array, velocity: Array | None = None) -> None:
        square *= self.alpha
        square += (1 - self.alpha) * grad * grad
        direction = grad / (array_module(value).sqrt(square) + self.eps)
        if velocity is not None:
            velocity *= self.momentum
            velocity += direction
            direction = velocity
        value -= self.learning_rate * direction

    def kernel(self) -> tuple[str, tuple]:
        return "rmsprop", (self.alpha, self.eps, self.momentum)


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba 2015, arXiv 1412.6980)."""

    slots = ("mean", "square")

    def __init__(
        self,
        parameters: dict,
        learning_rate: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate, weight_decay)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def update(self, value: Array, grad: Array, mean: Array, square: Array) -> None:
        mean *= self.beta1
        mean += (1 - self.beta1) * grad
        square *= self.beta2
        square += (1 - self.beta2) * grad * grad
        mean_scale, square_scale = 1 / (1 - self.beta1**self.steps), 1 / (1 - self.beta2**self.steps)
        value -= self.learning_rate * mean_scale * mean / (array_module(value).sqrt(square_scale * square) + self.eps)

    def kernel(self) -> tuple[str, tuple]:
        return "adam", (self.beta1, self.beta2, self.eps)

    def step_numbers(self) -> tuple[float, ...]:
        mean_scale, square_scale = 1 / (1 - self.beta1**self.steps), 1 / (1 - self.beta2**self.steps)
        return self.learning_rate * mean_scale, square_scale
