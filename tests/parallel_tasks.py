"""What the ranks of tests/test_parallel.py do; a process of its own imports this file and calls one function."""

import numpy as np

from npunet import UNet, datasets, training
from npunet.augmentation import Settings
from npunet.machine import ranks, threads

SAMPLES = dict(n_sections=2, size=120, seed=3)
TASKS = {  # network, recipe, batch of the one process that takes the same steps as all ranks
    "paper": (dict(base_channels=2, depth=2, dropout=0.5), dict(tile=60, optimizer="sgd", learning_rate=1e-3)),
    "pytorch-unet": (dict(variant="pytorch-unet", base_channels=2, depth=2), dict(tile=32, learning_rate=1e-3)),
}


def summed(ring, size, dtype):
    """The sum over all ranks of numbers that each draws for itself."""
    array = np.random.default_rng(ring.rank).standard_normal(size).astype(dtype)
    ring.sum_(array)
    return array


def handed(ring):
    return ring.from_first({"rank": ring.rank})


def train(name, batch, steps):
    """Energies, and all parameters and running statistics, after so many steps."""
    options, how = TASKS[name]
    net = UNet(seed=1, dtype="float64", **options)
    recipe = training.Recipe(steps=steps, batch=batch, warmup=2, seed=5, **how)
    optimizer = training.make_optimizer(recipe, net.parameters)
    samples, energies = datasets.synthetic(**SAMPLES).samples, []
    for step in range(steps):
        drawn = training.draw_batch(samples, recipe, net.output_size(recipe.tile), step, Settings(w0=10.0))
        drawn = [part.astype("float64") if part.dtype == "float32" else part for part in drawn]
        optimizer.learning_rate = training.learning_rate(recipe, step)
        energies.append(training.training_step(net, optimizer, *drawn, clip=1.0)[0])
    values = {key: parameter.value.copy() for key, parameter in net.parameters.items()}
    values |= {key: np.array(statistic.value) for key, statistic in net.statistics.items()}
    return energies, values


def train_as_rank(ring, name, steps):
    ranks.use(ring)
    threads.set_num_threads(1)
    return train(name, 1, steps)


def die(ring):
    if ring.rank == 1:
        raise SystemExit(9)
    ring.sum_(np.zeros(3))
