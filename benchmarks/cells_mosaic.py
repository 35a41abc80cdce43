"""The cells of a large mosaic: the same for two tiles and for the whole probability at once, and the memory it takes.

    python -m benchmarks.cells_mosaic --model runs/nuclei/best.npz --data ../shared/data/dsb2018_nuclei/images
    python -m benchmarks.cells_mosaic --model M --data D --side 1500 --tiles 412 956 --out FILE

Lays the pictures of a folder side by side, turned in four ways, to a TIFF of side x side pixels. npunet.predict finds
its cells in a process of its own for each tile, whose largest resident memory is measured as in benchmarks.big_image.
The whole: the probabilities of the last tile, all at once in memory, cut by `instances.seeded_watershed`. They have no
second look at doubtful pixels (see npunet.commands.settled_marks), so single pixels may differ there.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.big_image import CHILD
from benchmarks.machine import processor
from npunet import UNet
from npunet.commands import prediction
from npunet.commands.inputs import find_inputs
from npunet.files import images
from npunet.instances import cutting_of, seeded_watershed


def make_mosaic(path, folder, side):
    """A grey TIFF of side x side bytes from the pictures of a folder, each turned another way when it comes again."""
    pictures = [images.read_image(file)[0].mean(axis=2) for file in find_inputs([folder])]
    size = min(min(picture.shape) for picture in pictures)
    mosaic = np.zeros((side, side), np.uint8)
    for number, (top, left) in enumerate(np.ndindex(*(2 * [-(-side // size)]))):
        turn, picture = divmod(number, len(pictures))
        block = np.rot90(pictures[picture][:size, :size], turn)
        place = slice(top * size, min(side, (top + 1) * size)), slice(left * size, min(side, (left + 1) * size))
        mosaic[place] = np.round(255 * block[: place[0].stop - place[0].start, : place[1].stop - place[1].start])
    tifffile.imwrite(path, mosaic)


def predict(model, image, output, tile, more=()):
    """npunet.predict in a process of its own: {"seconds", "peak", "before", "anonymous"}, bytes."""
    words = ["--model", model, "--input", image, "--output", output, "--tile", tile, "--instances", *more]
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(prediction.LARGEST_PNG), *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    if result.returncode:
        sys.exit(2)  # it has said why
    return json.loads(result.stdout.splitlines()[-1])


def compare(model, data, side, tiles, folder):
    """The report, as text."""
    image, found, lines = folder / "mosaic.tif", [], []
    make_mosaic(image, data, side)
    for tile in tiles:
        more = ["--probabilities", "float32"] if tile == tiles[-1] else []
        taken = predict(model, image, folder / str(tile), tile, more)
        found.append(tifffile.imread(folder / str(tile) / "mosaic_cells.tif"))
        lines.append(
            f"| {tile} | {found[-1].max():,} | {np.count_nonzero(found[-1] != found[0])} | {taken['seconds']:.0f} | "
            f"{taken['peak'] / 1e6:.0f} | {taken['anonymous'] / 1e6:.0f} |"
        )
    cutting = cutting_of(UNet.load(model))
    probability = tifffile.imread(folder / str(tiles[-1]) / "mosaic_probability.tif")
    whole = seeded_watershed(probability, cutting.threshold, cutting.seed_threshold, cutting.min_size)
    differing = np.count_nonzero((whole > 0) != (found[0] > 0))
    same = f"{differing} (in a cell or not)"
    lines.append(f"| the whole at once, without the second look | {whole.max():,} | {same} | | | |")
    return "\n".join(
        [
            f"Cells of a mosaic of {side} x {side} pixels, {datetime.date.today()}, {processor()}; {cutting}.",
            "",
            "| tile | cells | pixels unlike the first line | s | peak memory, MB | without mapped files, MB |",
            "| --- | --- | --- | --- | --- | --- |",
            *lines,
        ]
    )


def main(arguments=None):
    parse = argparse.ArgumentParser(prog="python -m benchmarks.cells_mosaic", description=__doc__.split("\n\n")[0])
    parse.add_argument("--model", required=True)
    parse.add_argument("--data", required=True, metavar="DIR", help="a folder of pictures")
    parse.add_argument("--side", type=int, default=6000)
    parse.add_argument("--tiles", type=int, nargs="+", default=[412, 956])
    parse.add_argument("--out", metavar="FILE", help="also write the report to this file")
    options = parse.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        text = compare(Path(options.model).resolve(), options.data, options.side, options.tiles, Path(folder))
    print(text)
    if options.out:
        Path(options.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
