"""An image of 20,000 x 20,000 pixels from a memory-mapped TIFF (§2, "arbitrarily large images"): time and peak memory.

    python -m benchmarks.big_image [--side 20000] [--base-channels 4] [--depth 2] [--tile 1020]

Makes a TIFF of side x side bytes in a temporary folder, predicts it with npunet.predict in a process of its own, which
measures its largest resident memory, and prints a report (--out FILE writes it, too). The pages of a memory map that
are in the page cache count as resident while they are mapped, though the system may drop them at any time; so both
figures are given, with them and without (VmHWM, and the largest RssAnon seen while it ran). The network is untrained:
what it predicts does not matter here, only what that takes.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.machine import processor
from npunet import UNet, summary, tiling
from npunet.commands import memory_needs, prediction

CHILD = """
import json, sys, threading, time
from npunet import predict
from npunet.commands import prediction
from benchmarks.peers import peak_bytes
def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))
before, largest, done = anonymous(), [0], threading.Event()
def watch():
    while not done.wait(0.02):
        largest[0] = max(largest[0], anonymous())
thread = threading.Thread(target=watch, daemon=True)
thread.start()
start = time.perf_counter()
prediction.LARGEST_PNG = int(sys.argv[1])
try:
    predict.main(sys.argv[2:])
except predict.InputError as error:
    sys.exit(f"error: {error}")
seconds = time.perf_counter() - start
done.set()
thread.join()
print(json.dumps(dict(seconds=seconds, peak=peak_bytes(), before=before, anonymous=largest[0])))
"""


def make_image(path, side, seed=0):
    """A TIFF of side x side bytes, written block by block through a memory map: discs of a few greys and noise."""
    rng = np.random.default_rng(seed)
    block = 500
    y, x = np.mgrid[:block, :block]
    pattern = np.full((block, block), 60.0)
    for v, u, radius in rng.uniform((0, 0, 10), (block, block, 40), (20, 3)):
        pattern[np.hypot(y - v, x - u) < radius] = 160
    pattern = (pattern + rng.normal(0, 12, pattern.shape)).clip(0, 255).astype(np.uint8)
    pixels = tifffile.memmap(path, shape=(side, side), dtype=np.uint8, photometric="minisblack")
    for top in range(0, side, block):
        for left in range(0, side, block):
            pixels[top : top + block, left : left + block] = pattern[: side - top, : side - left]
    pixels.flush()


def measure(side, base_channels, depth, tile, folder, largest_png=prediction.LARGEST_PNG):
    """Predict one such image in a fresh process: {"seconds", "peak", "before", "anonymous"}; bytes. largest_png:
    see npunet.predict.
    """
    folder = Path(folder)
    make_image(folder / "big.tif", side)
    UNet(base_channels=base_channels, depth=depth).save(folder / "net.npz")
    words = ["--model", folder / "net.npz", "--input", folder / "big.tif", "--output", folder / "found", "--tile", tile]
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(largest_png), *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    if result.returncode:
        sys.exit(2)  # it has said why
    return json.loads(result.stdout.splitlines()[-1])


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--side", type=int, default=20_000)
    parse.add_argument("--base-channels", type=int, default=4)
    parse.add_argument("--depth", type=int, default=2)
    parse.add_argument("--tile", type=int, default=1020)
    parse.add_argument("--out", help="also write the report to this file", metavar="FILE")
    options = parse.parse_args()
    if options.side < 1:
        parse.error(f"--side is {options.side}; expected at least 1")
    net = UNet(base_channels=options.base_channels, depth=options.depth)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.side, options.base_channels, options.depth, options.tile, folder)
    megabytes = {name: found[name] / 1e6 for name in ("peak", "before", "anonymous")}
    count = tiling.count_tiles((options.side, options.side), net, options.tile)
    text = f"""# {options.side:,} x {options.side:,} pixels from a memory-mapped TIFF

{datetime.date.today()}, {processor()}, Python {platform.python_version()}, NumPy {np.__version__}, load
{os.getloadavg()[0]:.1f} at the end.

    python -m benchmarks.big_image {" ".join(sys.argv[1:])}

{options.side**2 / 1e6:,.0f} MB of 8-bit grey in, as many bytes of mask out, {count:,} tiles of {options.tile} ->
{net.output_size(options.tile)} pixels; U-Net of {options.base_channels} base channels and depth {options.depth}
({net.n_parameters:,} parameters, untrained), one process, reading and writing included.

| | |
|---|---|
| time | {found["seconds"]:.0f} s, {options.side**2 / 1e6 / found["seconds"]:.2f} megapixels a second |
| memory of its own, largest | {megabytes["anonymous"]:.0f} MB, of which {megabytes["before"]:.0f} MB were there before
(Python, NumPy, SciPy) |
| predicted for one tile (python -m npunet.summary) | {
        memory_needs.inference_memory(net, summary.rows(net, options.tile)) / 1e6:.0f} MB |
| largest resident size, with pages of the two files | {megabytes["peak"]:.0f} MB |

Own memory does not grow with the image (tests/test_big_image.py compares two sizes). Pages of the two memory maps are
resident while memory is free and are dropped by the system when it is not.
"""
    print(text)
    if options.out:
        Path(options.out).write_text(text)


if __name__ == "__main__":
    main()
