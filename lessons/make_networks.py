"""The trained network that lessons 1, 4, 9, 10 and 11 look at:  python -m lessons.make_networks

It trains a U-Net of depth 3 with 8 channels at the top (120,690 numbers) on twelve synthetic sections, with all that
the paper has: elastic deformation, Eq. 2, valid convolutions; Adam in the place of SGD, see README. Some four minutes
on two idle cores. The result is lessons/networks/sections.npz in half precision, 240 kB: an ordinary checkpoint, which
`npunet.UNet.load` reads. Everything in it comes from sections that npunet draws itself, so it has npunet's licence.

Lessons look at sections of other seeds than SEED, which the network has not seen.
"""

import argparse
from pathlib import Path

import numpy as np

from npunet import UNet, datasets, training
from npunet.augmentation import Settings
from npunet.files import checkpoint
from npunet.optimizers import Adam

PATH = Path(__file__).resolve().parent / "networks" / "sections.npz"
SEED = 2015  # of the sections it learns from
STEPS = 2000


def train(steps):
    """The network after so many steps; prints the mean energy now and then."""
    samples = datasets.synthetic(n_sections=12, size=400, seed=SEED).samples
    grey = np.stack([sample.image for sample in samples])
    net = UNet(
        base_channels=8, depth=3, dropout=0.0, seed=0, input_mean=float(grey.mean()), input_std=float(grey.std())
    )
    settings = Settings()  # the paper's; w_c = 1, for all membranes here are narrow and weighed by the border term
    recipe = training.Recipe(steps=steps, tile=220, learning_rate=3e-3, warmup=50, seed=0)
    optimizer, energies = Adam(net.parameters, recipe.learning_rate), []
    for step, batch in enumerate(training.batches(samples, recipe, net.output_size(recipe.tile), 0, settings)):
        optimizer.learning_rate = training.learning_rate(recipe, step)
        energies.append(training.training_step(net, optimizer, *batch, clip=1.0)[0])
        if step % 200 == 199:
            print(
                f"step {step + 1:5} of {steps}: mean energy of the last 200 steps {np.mean(energies[-200:]):.3f}",
                flush=True,
            )
    return net


def save_half(net, path):
    """An ordinary checkpoint whose parameters are float16; `UNet.load` makes them float32 again."""
    entries = checkpoint.network_entries(net)
    halves = {name: array.astype(np.float16) for name, array in entries.items() if name != "header"}
    path.parent.mkdir(exist_ok=True)
    checkpoint.save(path, halves | {"header": entries["header"]})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=PATH)
    options = parser.parse_args()
    save_half(train(options.steps), options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")
