"""One step of a style generator's training beside PyTorch, in turns in one process: medians and their ratio.

    python -m benchmarks.style_step [--size 256] [--base-channels 32] [--rounds 5] [--faithful] [--weights FILE]
    [--memory] [--out FILE]

The whole step on both sides, float32, one picture: U-Net forward, VGG19 to conv4_4, content and style losses with fixed
targets, back through VGG to the picture, back through the U-Net, Adam. PyTorch's VGG needs no gradients, so it skips
those of weights too. Weights are random unless given; time does not depend on them. Each side rests for a moment after
the other, whose threads would otherwise still be spinning. Give PyTorch the tuned allocator by
MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483648 in the environment. --memory runs npunet alone and
prints the peak of the process.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.peers import peak_bytes
from npunet.commands import cli
from npunet.machine import threads
from npunet.optimizers import Adam
from npunet.style import VGG, Generator, Objective, generator_step, losses

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
PAUSE = 0.3  # seconds
LAYERS = losses.DEMO


def problem(options):
    eye = VGG.load(options.weights) if options.weights else VGG.random()
    make = Generator.faithful if options.faithful else Generator
    rng = np.random.default_rng(0)
    content, style = rng.random((2, 1, options.size, options.size, 3), np.float32)
    return eye, make(options.base_channels), content, style


def our_step(options):
    eye, generator, content, style = problem(options)
    objective = Objective(eye, **LAYERS).set_style(style)
    targets, optimizer = objective.content_targets(content), Adam(generator.net.parameters, 1e-3)
    return lambda: generator_step(generator, objective, optimizer, content, targets)["total"]


def their_step(options, channels_last):
    import torch
    from style_twin import gram, torch_features, torch_generator

    torch.set_num_threads(threads.get_num_threads())
    form = torch.channels_last if channels_last else torch.contiguous_format
    eye, generator, *pictures = problem(options)
    content, style = (torch.tensor(picture).permute(0, 3, 1, 2).contiguous(memory_format=form) for picture in pictures)
    paint, parameters = torch_generator(generator, form)
    features = torch_features(eye, form)
    layers = [*LAYERS["content_layers"], *LAYERS["style_layers"]]
    with torch.no_grad():
        wanted, painted = features(content, layers), features(style, layers)
        grams = {name: gram(painted[name] / eye.unit) for name in LAYERS["style_layers"]}
    adam = torch.optim.Adam(parameters.values(), lr=1e-3, foreach=True)

    def step():
        adam.zero_grad(set_to_none=True)
        found = features(paint(content), layers)
        loss = sum(((found[name] - wanted[name]) / eye.unit).square().mean() for name in LAYERS["content_layers"])
        loss = loss + LAYERS["style_weight"] * sum(
            (gram(found[name] / eye.unit) - grams[name]).square().mean() for name in LAYERS["style_layers"]
        )
        loss.backward()
        adam.step()
        return loss.item()

    return step


def main(arguments=None):
    options = parser().parse_args(arguments)
    if options.faithful:
        options.base_channels = options.base_channels or 64
    options.base_channels = options.base_channels or 32
    kind = "up" if options.faithful else "resize"
    what = f"{options.size} x {options.size}, {options.base_channels} base channels, {kind}-convolutions"
    if options.memory:
        before, step = peak_bytes(), our_step(options)
        for _ in range(2):  # the second has Adam's arrays from the start
            step()
        print(
            f"{what}: peak of the process {peak_bytes() / 1e9:.2f} GB, {before / 1e9:.2f} GB of it before the first "
            f"array"
        )
        return
    sides = {
        "npunet": our_step(options),
        "PyTorch": their_step(options, False),
        "PyTorch channels-last": their_step(options, True),
    }
    times, values = ({name: [] for name in sides} for _ in range(2))
    for turn in range(options.rounds + 1):  # the first turn warms up and does not count
        for name, step in sides.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            values[name].append(step())
            seconds = time.perf_counter() - start
            times[name] += [seconds] if turn else []
            print(f"turn {turn}: {name} {seconds:.2f} s", flush=True)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    ratio = medians["npunet"] / min(seconds for name, seconds in medians.items() if name != "npunet")
    print(
        f"{what}, {threads.get_num_threads()} threads: "
        + ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
        + f"; ratio to PyTorch's faster layout {ratio:.2f}; first losses "
        f"{', '.join(f'{value[0]:.6g}' for value in values.values())}"
    )
    if options.out:
        Path(options.out).write_text(
            json.dumps(vars(options) | {"seconds": times, "medians": medians, "ratio": ratio}, indent=2) + "\n"
        )


def parser():
    parse = argparse.ArgumentParser(prog="python -m benchmarks.style_step", description=__doc__.splitlines()[0])
    parse.add_argument("--size", type=int, default=256, help="side of the picture in pixels (default 256)")
    parse.add_argument("--base-channels", type=int, help="of the generator (default 32, faithful 64)")
    parse.add_argument("--rounds", type=int, default=5, help="counted turns (default 5)")
    parse.add_argument("--faithful", action="store_true", help="the notes' demo's generator: up-convolutions")
    parse.add_argument("--weights", help="VGG19's; random ones take as long", metavar="FILE")
    parse.add_argument("--memory", action="store_true", help="npunet alone: print the peak of memory")
    parse.add_argument("--out", help="also write all times to this JSON file", metavar="FILE")
    return parse


if __name__ == "__main__":
    cli.run(main)
