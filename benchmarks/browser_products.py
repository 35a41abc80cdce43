"""A browser's matrix products: NumPy's, which is built without BLAS there, against SciPy's, in turns in one process.

    node docs/site/run_in_node.mjs benchmarks/browser_products.py FOLDER_OF_PYODIDE build/packages

Medians, with the tenth and ninetieth of a hundred in parentheses. benchmarks/results/browser.md keeps what was found.
"""

import itertools
import sys
import time

import numpy as np

from npunet import UNet, training
from npunet.machine import products
from npunet.optimizers import Adam
from npunet.style import VGG, Generator, Objective, generator_step

SHAPES = [(16, 16, 16), (64, 16, 16), (32, 32, 32), (144, 16, 16), (4096, 9, 8), (2000, 72, 8), (2000, 288, 32),
          (400, 1152, 128), (256, 256, 256)]  # fmt: skip
STACK = (36, 200, 32, 32)  # Winograd's


def in_turns(what, by_numpy, by_scipy, times):
    """Prints how long both take; each goes first every other time."""
    spent = {by_numpy: [], by_scipy: []}
    for turn in range(times + 1):
        for one in (by_numpy, by_scipy) if turn % 2 else (by_scipy, by_numpy):
            start = time.perf_counter()
            one()
            spent[one].append(time.perf_counter() - start)
    low, middle, high = (
        [1e3 * np.quantile(spent[one][1:], part) for one in (by_numpy, by_scipy)] for part in (0.1, 0.5, 0.9)
    )
    told = [f"{m:8.3g} ms ({a:.3g} to {b:.3g})" for a, m, b in zip(low, middle, high)]
    print(f"{what:58} NumPy {told[0]:26} SciPy {told[1]:26} ratio {middle[0] / middle[1]:.2f}", flush=True)


def products_in_turns(rng):
    for dtype, (*stack, m, k, n), turned in itertools.product(("float32", "float64"), (*SHAPES, STACK), (False, True)):
        a = rng.random((*stack, k, m) if turned else (*stack, m, k)).astype(dtype)
        a = a.swapaxes(-1, -2) if turned else a
        b, out = rng.random((*stack, k, n)).astype(dtype), np.empty((*stack, m, n), dtype)
        repeats = max(1, 2_000_000 // (np.prod(stack, dtype=int) * m * k * n))

        def by_numpy(a=a, b=b, out=out, repeats=repeats):
            for _ in range(repeats):
                np.matmul(a, b, out=out)

        def by_scipy(a=a, b=b, out=out, repeats=repeats):
            for _ in range(repeats):
                products.by_scipy(a, b, out)

        title = f"{dtype} {' '.join(f'{count} x' for count in stack)} ({m}, {k}){'^T' if turned else ''} @ ({k}, {n})"
        in_turns(f"{title}, {repeats} times", by_numpy, by_scipy, 9)


def with_products(by_scipy, step):
    """`step` with the products of NumPy, or of SciPy."""

    def one():
        products.scipy_multiplies = lambda: by_scipy
        step()

    return one


def step_in_turns(what, step, times):
    in_turns(what, with_products(False, step), with_products(True, step), times)


def training_step(rng, base, depth, tile, dtype="float32"):
    net = UNet(base_channels=base, depth=depth, dropout=0.0, seed=0, dtype=dtype)
    output, optimizer = net.output_size(tile), Adam(net.parameters, 1e-4)
    image, weights = rng.random((1, tile, tile, 1)).astype(dtype), np.ones((1, output, output), dtype)
    labels = rng.integers(0, 2, (1, output, output))
    return lambda: training.training_step(net, optimizer, image, labels, weights, clip=1.0)


def painting_step(rng):
    content, style = (rng.random((1, 96, 96, 3), dtype=np.float32) for _ in range(2))
    eye = VGG.random("vgg19", seed=1)
    objective = Objective(eye, ("conv3_1",), ("conv1_2", "conv2_2"), style_weight=2e4).set_style(style)
    generator, targets = Generator(8, instance_norm=False), objective.content_targets(content)
    optimizer = Adam(generator.net.parameters, 1e-4)
    return lambda: generator_step(generator, objective, optimizer, content, targets)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    print(f"{sys.platform}, NumPy {np.__version__}; npunet takes SciPy's products: {products.scipy_multiplies()}")
    step_in_turns("lesson 1's step: 8 channels, tile 204", training_step(rng, 8, 3, 204), 15)
    step_in_turns("lesson 4's step: 8 channels, tile 108", training_step(rng, 8, 2, 108), 25)
    step_in_turns("lesson 6's step: 8 channels, tile 92", training_step(rng, 8, 2, 92), 25)
    step_in_turns("16 channels, depth 4, tile 188", training_step(rng, 16, 4, 188), 9)
    step_in_turns("float64, 8 channels, tile 108", training_step(rng, 8, 2, 108, "float64"), 15)
    step_in_turns("lesson 13's step of a generator", painting_step(rng), 9)
    products_in_turns(rng)
