"""python -m npunet.profile: where the time of one training step goes, by layer and direction, as a table and a picture.

Each layer's forward and backward are timed on their way through the live network, as UNet.feature_maps looks inside it.
GFLOP/s counts the operations of direct convolution, 2 for each multiply-add, and twice that for the two gradients; an
algorithm that multiplies less can show more than the machine can do.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from npunet import loss
from npunet.commands import cli, ranges, run_pictures
from npunet.commands import rows as fig_1
from npunet.errors import InputError
from npunet.figure_1 import COLOURS, INK
from npunet.layers import watched
from npunet.machine import kernels, threads
from npunet.optimizers import SGD
from npunet.unet import UNet
from npunet.variants import VARIANTS


@dataclass(frozen=True)
class Entry:
    """Median time of one layer in one direction. operations: of direct convolution; 0 for other layers."""

    name: str  # of the layer; "loss", "optimizer" and "between layers" for the rest of the step
    what: str  # the operation, as in Fig. 1
    direction: str  # "forward" or "backward"
    seconds: float
    operations: int


def measure(net, tile=572, steps=3, train=True):
    """One `Entry` for each layer and direction, in order of use, from `steps` training steps (or forward passes)
    after one to warm up.

    The network's parameters are not changed. Raises InputError for an invalid tile.
    """
    rows = {row.name: row for row in fig_1.rows(net, tile)}
    spent = {}  # {(name, direction): seconds of each call}

    def timed(name, direction, function):
        def run(*arguments, **options):
            start = time.perf_counter()
            result = function(*arguments, **options)
            spent.setdefault((name, direction), []).append(time.perf_counter() - start)
            return result

        return run

    step = timed("step", "both", _step(net, tile, train, timed))
    with watched(net.layers, timed):
        for _ in range(steps + 1):
            step()
    totals = spent.pop(("step", "both"))[1:]
    # With recomputation a layer runs forward twice a step: its times are added up.
    each = {key: median(np.reshape(times, (steps + 1, -1)).sum(axis=1)[1:]) for key, times in spent.items()}
    first = next(iter(net.layers))
    entries = []
    for (name, direction), seconds in each.items():
        row = rows.get(name)
        if row is None and name in net.layers:  # a dropout that drops nothing is no row
            continue
        products = 1 if direction == "forward" or name == first else 2  # the first layer needs no dx
        operations = 2 * row.multiply_adds * products if row else 0
        entries.append(Entry(name, row.operation if row else "", direction, seconds, operations))
    rest = max(0.0, median(totals) - sum(each.values()))
    return entries + [Entry("between layers", "", "forward", rest, 0)]


def _step(net, tile, train, timed):
    """A function that does one training step, or one forward pass, on noise."""
    image = np.random.default_rng(0).standard_normal((1, tile, tile, net.in_channels)).astype(net.dtype)
    energy = loss.weighted_cross_entropy if net.n_classes > 1 else loss.binary_cross_entropy
    optimizer = SGD(net.parameters, learning_rate=0.0) if train else None

    def step():
        logits = net.forward(image, train)
        if train:
            _, dlogits = timed("loss", "forward", energy)(logits, np.zeros(logits.shape[:3], int))
            net.backward(dlogits, need_dx=False)
            timed("optimizer", "backward", optimizer.step)()

    return step


def table(entries, title):
    """The entries as text: one line a layer."""
    total = sum(entry.seconds for entry in entries)
    columns = "{:<22} {:<18} {:>11} {:>12} {:>8} {:>14} {:>15}"
    lines = [
        title,
        "",
        columns.format("layer", "operation", "forward ms", "backward ms", "share", "forw. GFLOP/s", "backw. GFLOP/s"),
    ]
    for name, pair in by_layer(entries).items():
        known = [pair.get("forward"), pair.get("backward")]
        what = next(entry.what for entry in known if entry)
        speed = [
            f"{entry.operations / entry.seconds / 1e9:.0f}" if entry and entry.operations else "" for entry in known
        ]
        share = sum(entry.seconds for entry in known if entry) / total
        lines.append(
            columns.format(
                name,
                what,
                *(f"{1e3 * entry.seconds:.1f}" if entry else "" for entry in known),
                f"{100 * share:.1f} %",
                *speed,
            )
        )
    lines += ["-" * len(lines[2])]
    for kind, seconds in sorted(by_operation(entries).items(), key=lambda item: -item[1]):
        lines.append(columns.format("", kind, "", f"{1e3 * seconds:.1f}", f"{100 * seconds / total:.1f} %", "", ""))
    operations = sum(entry.operations for entry in entries)
    return "\n".join(
        lines + [columns.format("total", "", "", f"{1e3 * total:.1f}", "100 %", "", f"{operations / total / 1e9:.0f}")]
    )


def by_layer(entries):
    """{name: {direction: entry}}, in order of use."""
    found = {}
    for entry in entries:
        found.setdefault(entry.name, {})[entry.direction] = entry
    return found


def by_operation(entries):
    """{operation or name: seconds of both directions}."""
    found = {}
    for entry in entries:
        found[entry.what or entry.name] = found.get(entry.what or entry.name, 0) + entry.seconds
    return found


def draw(entries, title, path):
    """Bars: one a layer, forward full and backward pale, in the colour that the operation has in Fig. 1.

    Writes a PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    layers = by_layer(entries)
    figure = Figure(figsize=(9, 0.8 + 0.22 * len(layers)), dpi=110, layout="constrained")
    axes = figure.subplots()
    longest = max(sum(entry.seconds for entry in pair.values()) for pair in layers.values())
    for place, (name, pair) in enumerate(layers.items()):
        start = 0.0
        colour = _colour(next(iter(pair.values())).what)
        for direction, alpha in (("forward", 1.0), ("backward", 0.5)):
            if direction in pair:
                axes.barh(
                    place, 1e3 * pair[direction].seconds, left=1e3 * start, color=colour, alpha=alpha, height=0.75
                )
                start += pair[direction].seconds
        axes.text(
            1e3 * (start + 0.008 * longest),
            place,
            f"{1e3 * start:.0f}" if start > 2e-3 else f"{1e3 * start:.1f}",
            va="center",
            fontsize=7.5,
            color=INK,
        )
    axes.set_yticks(range(len(layers)), list(layers), fontsize=7.5)
    axes.set(
        ylim=(len(layers) - 0.4, -0.6),
        xlim=(0, 1.08e3 * longest),
        xlabel="milliseconds (full colour: forward, pale: backward)",
    )
    axes.set_title(title, fontsize=9.5, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    shown = {_colour(entry.what): _kind(entry.what) for entry in entries}
    axes.legend(
        handles=[Patch(color=colour, label=kind) for colour, kind in shown.items()],
        loc="lower right",
        fontsize=8,
        frameon=False,
    )
    run_pictures.save(figure, path)


def _kind(what):
    """The arrow of Fig. 1 that an operation belongs to."""
    beginnings = {
        "conv 1x1": "conv 1x1",
        "conv": "conv 3x3, ReLU",
        "max-pool": "max-pool 2x2",
        "up": "up-conv 2x2",
        "crop": "copy and crop",
        "pad": "copy and crop",
    }
    return next((arrow for beginning, arrow in beginnings.items() if what.startswith(beginning)), "other")


def _colour(what):
    return COLOURS.get(_kind(what), "#707070")


def main(arguments=None):
    options = parser().parse_args(arguments)
    ranges.check(vars(options))
    if options.out and Path(options.out).suffix.lower() != ".png":
        raise InputError(f"--out {options.out}: the picture is a PNG; give a name that ends in .png")
    if options.threads is not None:
        threads.set_num_threads(options.threads)
    net = UNet(base_channels=options.base_channels, variant=options.variant)
    entries = measure(net, options.tile, options.steps, train=not options.forward)
    what = "forward pass" if options.forward else "training step"
    title = (
        f"{what}, U-Net ({options.variant}), tile {options.tile}, {options.base_channels} base channels: "
        f"{1e3 * sum(entry.seconds for entry in entries):.0f} ms on {threads.get_num_threads()} threads"
    )
    print(table(entries, title + f", medians of {options.steps}; {kernels.found()}"))
    if line := kernels.too_late():
        print(line)
    if options.out:
        try:
            draw(entries, title, options.out)
        except OSError as error:
            raise InputError(
                f"--out {options.out}: cannot be written ({error.strerror or error}); give another place"
            ) from None
        print(f"picture: {options.out}")


def parser():
    parse = argparse.ArgumentParser(
        prog=cli.program("profile"), description="Where the time of one training step goes, by layer and direction."
    )
    parse.add_argument("--tile", type=int, default=572, help="side of the input tile in pixels (default 572)")
    parse.add_argument("--base-channels", type=int, default=64, help="channels of the first level (default 64)")
    parse.add_argument("--variant", choices=list(VARIANTS), default="paper", help=f"{cli.VARIANT_HELP} (default paper)")
    parse.add_argument(
        "--forward", action="store_true", help="a forward pass without training instead of a training step"
    )
    parse.add_argument("--steps", type=int, default=3, help="steps to measure, after one to warm up (default 3)")
    parse.add_argument("--threads", type=int, help="threads to use (default: all cores)")
    parse.add_argument("--out", metavar="FILE.png", help="write the bar chart there")
    return parse


if __name__ == "__main__":
    cli.run(main)
