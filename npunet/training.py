"""Training (§3): tiles are drawn and augmented ahead of time; each step is forward, energy, backward, update.

"To minimize the overhead and make maximum use of the GPU memory, we favor large input tiles over a large batch size and
hence reduce the batch to a single image" (§3): a batch is one tile unless a recipe says otherwise.

Every step has random numbers of its own, made from the seed and the step's number, so that a run that is
stopped and resumed draws the same tiles as one that was never stopped.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from npunet import augmentation, loss, optimizers, parallel
from npunet.augmentation import Settings
from npunet.datasets.dataset import Sample
from npunet.errors import InputError
from npunet.gpu import augmentation as gpu_augmentation
from npunet.gpu import cuda
from npunet.gpu.graph import RecordedStep
from npunet.layers import Parameter
from npunet.machine import ranks
from npunet.machine.backend import Array, array_module, to_cpu, to_device
from npunet.machine.threads import can_start_threads
from npunet.optimizers import Optimizer
from npunet.unet import UNet
from npunet.weight_map import border_reach


@dataclass(frozen=True)
class Recipe:
    """What a training run does; the paper gives tile, batch and momentum, the rest is in docs/training.md."""

    steps: int = 1000
    tile: int = 572  # side of the input tile in pixels
    batch: int = 1  # tiles a step
    learning_rate: float = 1e-3  # the peak of the schedule below
    momentum: float = 0.99
    warmup: int = 20  # steps until the peak is reached
    clip: float = 1.0  # gradients with a larger norm are scaled down to it; 0 for no limit
    optimizer: str = "adam"  # one of OPTIMIZERS; "sgd" with momentum is the paper's
    weight_decay: float = 0.0
    loss: str = "cross-entropy"  # one of LOSSES
    schedule: str = "cosine"  # one of SCHEDULES
    seed: int = 0


OPTIMIZERS, LOSSES, SCHEDULES = (
    ("sgd", "rmsprop", "adam"),
    ("cross-entropy", "cross-entropy+dice"),
    ("cosine", "plateau", "constant"),
)


def make_optimizer(recipe: Recipe, parameters: dict[str, Parameter]) -> Optimizer:
    """The optimiser that the recipe names; Adam has its own two momenta."""
    if recipe.optimizer == "adam":
        return optimizers.Adam(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)
    kind = {"sgd": optimizers.SGD, "rmsprop": optimizers.RMSprop}[recipe.optimizer]
    return kind(parameters, recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


class NotFinite(ArithmeticError):
    """The loss or a gradient is infinite or not a number; the message says where and what helps."""


def learning_rate(recipe: Recipe, step: int) -> float:
    """Rises linearly over `warmup` steps, then falls along half a cosine to zero at the last step (schedule "cosine")
    or stays.

    Momentum 0.99 remembers a hundred gradients, and those of an untrained network are the largest: hence the warm-up.
    """
    rise = min(1.0, (step + 1) / max(recipe.warmup, 1))
    fall = 0.5 * (1 + np.cos(np.pi * (step / recipe.steps))) if recipe.schedule == "cosine" else 1.0
    return recipe.learning_rate * rise * fall


@dataclass
class Plateau:
    """Schedule "plateau": a tenth of the learning rate when no score has grown for more than `patience` evaluations.

    PyTorch's ReduceLROnPlateau(mode="max", patience=5), as milesial/Pytorch-UNet uses it. `factor` multiplies the
    learning rate.
    """

    factor: float = 1.0
    best: float = -1.0
    waited: int = 0

    def report(self, score: float, patience: int = 5, threshold: float = 1e-4) -> None:
        """Take note of a score, higher is better. Growth of less than a ten-thousandth does not count."""
        if score > self.best + threshold * abs(self.best):
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        if self.waited > patience:
            self.factor, self.waited = 0.1 * self.factor, 0


def draw_tile(
    sample: Sample, tile: int, output: int, rng: np.random.Generator, settings: Settings
) -> tuple[Array, Array, Array]:
    """`augmentation.draw_tile`, by the GPU where the sample lies there: the same tile."""
    if not cuda.on_gpu(sample.image):
        return augmentation.draw_tile(sample, tile, output, rng, settings)
    augmentation.check_output(tile, output)
    drawn = augmentation.draw(sample.labels.shape, tile, rng, settings)
    coefficients = augmentation.spline_coefficients(sample.image)
    reach = border_reach(settings.w0, settings.sigma)
    return gpu_augmentation.make_tile(sample, coefficients, drawn, output, settings, reach)


def moved(sample: Sample, device: str) -> Sample:
    """The sample with its arrays on `device`; the spline coefficients of its image go along."""
    arrays = {name: value for name, value in vars(sample).items() if isinstance(value, np.ndarray)}
    there = dataclasses.replace(sample, **{name: to_device(value, device) for name, value in arrays.items()})
    coefficients = np.ascontiguousarray(augmentation.spline_coefficients(sample.image))
    augmentation.keep_coefficients(there.image, to_device(coefficients, device))
    return there


def draw_batch(samples: list[Sample], recipe: Recipe, output: int, step: int, settings: Settings) -> tuple[Array, ...]:
    """The tiles of one step: images (N, tile, tile, C) float32, labels (N, output, output), weights alike.

    Tile i of step s is drawn from (seed, s, i). Of several ranks, each draws its own N of the big batch.
    """
    first = ranks.rank() * recipe.batch
    tiles = []
    for i in range(first, first + recipe.batch):
        rng = np.random.default_rng([recipe.seed, step, i])
        tiles.append(draw_tile(samples[rng.integers(len(samples))], recipe.tile, output, rng, settings))
    return tuple(array_module(parts[0]).stack(parts) for parts in zip(*tiles))


def batches(
    samples: list[Sample], recipe: Recipe, output: int, first_step: int, settings: Settings
) -> Iterator[tuple[Array, ...]]:
    """Yields the batch of every step from `first_step` on; another thread draws the next one meanwhile.

    A step's random numbers are its own, so the batches do not depend on the thread.
    """
    draw = functools.partial(draw_batch, samples, recipe, output, settings=settings)
    if not can_start_threads():
        yield from map(draw, range(first_step, recipe.steps))
        return
    with ThreadPoolExecutor(1, thread_name_prefix="augmentation") as thread:
        coming = thread.submit(draw, first_step)
        for step in range(first_step, recipe.steps):
            batch = coming.result()
            if step + 1 < recipe.steps:
                coming = thread.submit(draw, step + 1)
            yield batch


def placed(samples: list[Sample], device: str) -> list[Sample]:
    """The samples where their tiles are drawn: a GPU draws its own."""
    return samples if device == "cpu" else [moved(sample, device) for sample in samples]


def energy_of(kind: str, logits: Array, labels: Array, weights: Array) -> tuple[Array, Array]:
    """Loss and gradient of one of LOSSES; Eq. 1 is binary cross-entropy where there is one logit."""
    cross_entropy = loss.weighted_cross_entropy if logits.shape[-1] > 1 else loss.binary_cross_entropy
    energy, dlogits = cross_entropy(logits, labels, weights)
    if kind == "cross-entropy+dice":
        dice, ddice = loss.dice_loss(logits, labels, weights)
        energy, dlogits = energy + dice, dlogits + ddice
    return energy, dlogits


def training_step(
    net: UNet,
    optimizer: Optimizer,
    images: Array,
    labels: Array,
    weights: Array,
    clip: float = 0.0,
    loss: str = "cross-entropy",
    wait: bool = True,
) -> tuple[float, float] | Array:
    """One step of gradient descent on one batch. Returns the loss and the norm of the gradient.

    The batch may lie on the CPU or on the network's device. Raises NotFinite, with the parameters as they were, if loss
    or norm is not finite. With wait=False the host does not wait for a GPU: both numbers are returned as an array (2,)
    on the device, see `read_back`, finite or not. After a step with one that is not finite no step changes anything, so
    it is enough to look at them now and then.
    """
    images, labels, weights = (to_device(array, net.device) for array in (images, labels, weights))
    optimizer.forget_gradients()  # their memory serves the forward pass
    logits = net.forward(images, train=True)
    energy, dlogits = energy_of(loss, logits, labels, weights)
    net.backward(dlogits, need_dx=False)
    energy = parallel.average(net.parameters, energy)  # of all ranks, where several processes train together
    report = optimizer.step(energy, clip)
    if not wait:
        return report  # type: ignore[return-value]    # an energy was given, so there is one
    energy, norm = to_cpu(report).tolist()
    if not np.isfinite(energy + norm):
        optimizer.take_back()
        raise NotFinite(diagnosis(net, images, energy, norm))
    return energy, norm


def recorded_step(
    net: UNet, optimizer: Optimizer, clip: float = 0.0, loss: str = "cross-entropy"
) -> Callable[[Array, Array, Array], Array]:
    """training_step(..., wait=False) as a function of images, labels and weights on a GPU, recorded and replayed as one
    CUDA graph (gpu/graph.py).

    Raises InputError where that cannot be: on a CPU, with batch normalisation, whose averages the host keeps, and where
    several processes train together.
    """
    refused = {
        "needs --device gpu": net.device == "cpu",
        "cannot be used with batch normalisation": bool(net.statistics),
        "cannot be used in several processes": ranks.size() > 1,
    }
    for reason, true in refused.items():
        if true:
            raise InputError(f"--graph {reason}; leave it out")

    def step(images, labels, weights):
        return training_step(net, optimizer, images, labels, weights, clip, loss, wait=False)

    def count(steps):
        optimizer.steps += steps

    recorded = RecordedStep(step, counted=lambda: count(1), forget=lambda: count(-1))
    return lambda *batch: recorded(*(to_device(array, net.device) for array in batch))


def read_back(reports: Sequence[Array]) -> list[list[float]]:
    """[(loss, norm), ...] as floats from what some steps with wait=False returned: one transfer, after the last."""
    return to_cpu(array_module(reports[0]).stack(reports)).tolist()


def diagnosis(net: UNet, images: Array, energy: float, norm: float) -> str:
    """Which feature map is largest for these images, and what helps: one line.

    Parameters must be those before the step that went wrong.
    """
    images = to_device(images, net.device)
    maps = net.feature_maps(images)
    largest = {name: float(abs(feature_map).max()) for name, feature_map in maps.items()}
    worst = max(largest, key=lambda name: largest[name] if np.isfinite(largest[name]) else np.inf)
    return (
        f"loss {energy:g}, gradient norm {norm:g}; largest activation {largest[worst]:g} in {worst}, "
        f"largest input {float(abs(images).max()):g}; try a tenth of the learning rate or a longer warm-up"
    )
