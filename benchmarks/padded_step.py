"""A training step of milesial/Pytorch-UNet's network beside PyTorch, in turns in one process: medians and their ratio.

    python -m benchmarks.padded_step [--size 512] [--channels 3] [--rounds 5] [--base-channels 64] [--bilinear]
    [--recompute] [--out FILE]

One image, float32, the whole recipe on both sides: forward, cross-entropy and Dice loss, backward, gradient clipped to
norm 1, RMSprop with momentum. Each side rests for a moment after the other, whose threads would otherwise still be
spinning. Give PyTorch the tuned allocator by MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483648 in the
environment.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from npunet import UNet
from npunet.commands import cli
from npunet.machine import threads
from npunet.training import Recipe, make_optimizer, training_step

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
PAUSE = 0.3  # seconds
RECIPE = Recipe(optimizer="rmsprop", learning_rate=1e-5, momentum=0.999, weight_decay=1e-8, loss="cross-entropy+dice")


def our_step(options):
    net = UNet(
        options.channels,
        2,
        options.base_channels,
        variant="pytorch-unet",
        bilinear=options.bilinear,
        recompute=options.recompute,
    )
    optimizer = make_optimizer(RECIPE, net.parameters)
    images, labels = problem(options)
    return lambda: training_step(
        net, optimizer, images, labels, np.ones(labels.shape, np.float32), clip=1.0, loss=RECIPE.loss
    )[0]


def their_step(options, channels_last=False):
    import torch
    from milesial_unet import TheirUNet
    from torch.nn import functional

    torch.set_num_threads(threads.get_num_threads())
    form = torch.channels_last if channels_last else torch.contiguous_format
    net = TheirUNet(options.channels, 2, options.bilinear, options.base_channels).train().to(memory_format=form)
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.999, foreach=True)
    images, labels = problem(options)
    images, labels = torch.tensor(images).permute(0, 3, 1, 2).contiguous(memory_format=form), torch.tensor(labels)

    def step():
        logits = net(images)
        p, q = torch.softmax(logits, dim=1), functional.one_hot(labels, 2).permute(0, 3, 1, 2).float()
        dice = (2 * (p * q).sum() + 1e-6) / (p.sum() + q.sum() + 1e-6)
        energy = functional.cross_entropy(logits, labels) + 1 - dice
        optimizer.zero_grad(set_to_none=True)
        energy.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return energy.item()

    return step


def problem(options):
    rng = np.random.default_rng(0)
    return (
        rng.uniform(0, 1, (1, options.size, options.size, options.channels)).astype(np.float32),
        rng.integers(0, 2, (1, options.size, options.size)),
    )


def main(arguments=None):
    options = parser().parse_args(arguments)
    sides = {"npunet": our_step(options), "PyTorch": their_step(options)}
    times = {name: [] for name in sides}
    for turn in range(options.rounds + 1):  # the first turn warms up and does not count
        for name, step in sides.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            step()
            times[name] += [time.perf_counter() - start] if turn else []
            print(f"turn {turn}: {name} {time.perf_counter() - start:.2f} s", flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["npunet"] / medians["PyTorch"]
    print(
        f"{options.size} x {options.size} x {options.channels}, {options.base_channels} base channels, "
        f"{threads.get_num_threads()} threads: "
        + ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
        + f"; ratio {ratio:.2f}"
    )
    if options.out:
        Path(options.out).write_text(
            json.dumps(vars(options) | {"seconds": times, "medians": medians, "ratio": ratio}, indent=2) + "\n"
        )


def parser():
    parse = argparse.ArgumentParser(prog="python -m benchmarks.padded_step", description=__doc__.splitlines()[0])
    parse.add_argument("--size", type=int, default=512, help="side of the image in pixels (default 512)")
    parse.add_argument("--channels", type=int, default=3, help="of the image (default 3)")
    parse.add_argument("--base-channels", type=int, default=64, help="of the first level (default 64)")
    parse.add_argument("--rounds", type=int, default=5, help="counted turns (default 5)")
    parse.add_argument("--bilinear", action="store_true", help="bilinear upsampling on both sides")
    parse.add_argument("--recompute", action="store_true", help="npunet with recomputation")
    parse.add_argument("--out", help="also write all times to this JSON file", metavar="FILE")
    return parse


if __name__ == "__main__":
    cli.run(main)
