"""Lesson 1's training, and a gradient check, as a program: it runs in CPython for WebAssembly as it runs here.

python tests/wasm_lesson.py STEPS      prints one line of JSON
"""

import json
import sys

import numpy as np

from npunet import UNet, datasets, gradient_check, loss, training
from npunet.augmentation import Settings
from npunet.machine import products
from npunet.optimizers import Adam
from npunet.weight_map import class_balance


def train(steps, kept=None):
    """Energies of the first `steps` steps of lesson 1. kept: the file in which the network is kept after each step."""
    dataset = datasets.synthetic(n_sections=4, size=256, seed=0)
    learning, _ = dataset.split(held_out=1)
    net = UNet(base_channels=8, depth=3, dropout=0.0, seed=0)
    balance = class_balance([sample.labels for sample in learning.samples], n_classes=2)
    settings = Settings(class_weights=tuple(balance.tolist()))
    recipe = training.Recipe(steps=240, tile=204, learning_rate=0.0025, warmup=10, seed=0)
    optimizer, energies = Adam(net.parameters, recipe.learning_rate), []
    batches = training.batches(learning.samples, recipe, net.output_size(recipe.tile), 0, settings)
    for step, batch in zip(range(steps), batches):
        optimizer.learning_rate = training.learning_rate(recipe, step)
        energies.append(float(training.training_step(net, optimizer, *batch, clip=1.0)[0]))
        if kept:
            net.save(kept)
    return energies


def gradient_error():
    """Relative error of a whole network's gradient along a random direction, in float64."""
    rng = np.random.default_rng(1)
    net = UNet(base_channels=2, depth=1, dropout=0.0, dtype="float64", seed=3)
    x, labels = rng.standard_normal((1, 20, 20, 1)), rng.integers(0, 2, (1, 4, 4))
    _, dlogits = loss.weighted_cross_entropy(net.forward(x, train=True), labels)
    net.backward(dlogits)
    values = [parameter.value for parameter in net.parameters.values()]
    direction = gradient_check.random_directions(values, rng)
    numerical = gradient_check.directional_derivative(
        lambda: loss.weighted_cross_entropy(net.forward(x), labels)[0], values, direction, eps=1e-7
    )
    expected = sum(np.sum(d * p.grad) for d, p in zip(direction, net.parameters.values()))
    return float(gradient_check.relative_error(expected, numerical))


def product_error():
    """Largest error of SciPy's products, which a browser takes, in parts of the largest value; and whether npunet takes
    them here.
    """
    rng, worst = np.random.default_rng(2), 0.0
    for dtype in ("float32", "float64"):
        a, b = rng.standard_normal((3, 50, 40)).astype(dtype), rng.standard_normal((3, 60, 40)).astype(dtype)
        exact = np.matmul(a.astype("float64"), b.astype("float64").swapaxes(1, 2))
        worst = max(worst, np.abs(products.by_scipy(a, b.swapaxes(1, 2)) - exact).max() / np.abs(exact).max())
    return float(worst), products.scipy_multiplies()


if __name__ == "__main__":
    found = {"platform": sys.platform, "gradient": gradient_error(), "products": product_error()}
    print(json.dumps(found | {"energies": train(int(sys.argv[1]))}))
