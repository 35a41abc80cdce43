"""python -m npunet.inspect: what the program sees in a training set, and what is wrong with it, before training.

It prints the sizes, grey values, classes, polarity and instances of the images as training would read them; then one
line for each finding (`npunet.datasets.findings`), the worst first, with the evidence and the cure. Status 0 without a
finding, 1 with some. --sheet writes a contact sheet: each image with the outlines of its mask.
"""

import argparse
import sys

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from npunet import datasets
from npunet.commands import cli, ranges, run_pictures
from npunet.datasets.dataset import HELD_OUT
from npunet.datasets.findings import findings
from npunet.errors import InputError

MOST = 48  # images on a contact sheet
SCALING = (  # users must know it where images of several bit depths lie in one folder
    "  scaling: 8-bit pixels are divided by 255, all others are stretched file by file, so that 99.8 % of the pixels "
    "lie between 0 and 1 (training does the same, or what its --normalise says)"
)


def main(arguments=None):
    options = parser().parse_args(arguments)
    ranges.check(vars(options))
    dataset = datasets.load(options.data, labels=options.labels)
    print(datasets.describe(dataset))
    print(SCALING)
    found = findings(dataset, options.held_out or HELD_OUT)
    for number, finding in enumerate(found, start=1):
        print(f"{number}. {finding.kind}: {finding}")
    print(f"{len(found)} finding{'s' * (len(found) != 1)} in {len(dataset)} images")
    if options.sheet:
        try:
            contact_sheet(options.sheet, dataset.samples[:MOST])
        except OSError as error:
            raise InputError(f"--sheet {options.sheet}: cannot be written ({error.strerror or error})") from None
        print(f"contact sheet: {options.sheet}")
    if found:
        sys.exit(1)


def contact_sheet(path, samples, columns=6):
    """Write each image with the outlines of its mask, and its share of object pixels, to one PNG."""
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.5 * rows), layout="constrained")
    for axes, sample in zip(
        figure.subplots(rows, columns, squeeze=False).ravel(), [*samples, *[None] * columns * rows]
    ):
        axes.set_axis_off()
        if sample is not None:
            run_pictures.show_image(axes, outlined(sample), f"{sample.name}: {(sample.labels > 0).mean():.0%}")
    run_pictures.save(figure, path)


def outlined(sample):
    """(H, W, 3): the image in grey with the outlines of the objects in orange."""
    picture = np.repeat(sample.image.mean(axis=2, keepdims=True), 3, axis=2)
    objects = sample.labels > 0
    picture[objects & ~ndimage.binary_erosion(objects, iterations=2)] = (1.0, 0.5, 0.0)
    return picture


def parser():
    parse = argparse.ArgumentParser(
        prog=cli.program("inspect"),
        description="What the program sees in a training set, and what is wrong with it.",
    )
    parse.add_argument("data", help="synthetic, or a folder as for npunet.train", metavar="DATA")
    parse.add_argument(
        "--labels",
        choices=["auto", "binary", "instances", "classes"],
        default="auto",
        help="what the masks hold (default auto)",
    )
    parse.add_argument("--held-out", type=int, help="how many of the last images training holds out (default a sixth)")
    parse.add_argument("--sheet", metavar="FILE.png", help="also write a contact sheet of images and outlines there")
    return parse


if __name__ == "__main__":
    cli.run(main)
