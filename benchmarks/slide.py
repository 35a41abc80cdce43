"""A slide of 40,000 x 40,000 pixels, in and out as OME-Zarr, under a limit of memory: time and memory.

    python -m benchmarks.slide [--side 40000] [--ranks 1 2] [--limit 1000] [--rounds 1] [--keep FOLDER]

Makes a periodic picture of round cells chunk by chunk, trains a small network on one period of it for a minute at most,
and predicts the slide with npunet.predict, masks, cells and their table, with one thread a process. The operating
system refuses each process more than --limit MB of address space (RLIMIT_AS). Printed are seconds, the largest resident
size and address space of a process, and whether all runs found the same cells.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from npunet import UNet, training
from npunet.commands import cli
from npunet.errors import InputError
from npunet.files.calibration import Calibration
from npunet.files.ome_zarr import open_zarr
from npunet.files.ome_zarr_writing import ZarrPyramid

ROOT = Path(__file__).resolve().parents[1]
PERIOD, CHUNK = 2000, 1000
CHILD = """
import json, os, sys, time
from npunet import predict
from npunet.commands import cli
folder = sys.argv.pop(1)
start, processor = time.perf_counter(), time.process_time()
cli.run(predict.main)
seconds, processor = time.perf_counter() - start, time.process_time() - processor
with open("/proc/self/status") as status:
    found = {line.split(":")[0]: int(line.split()[1]) / 1e3 for line in status if line.startswith(("VmHWM", "VmPeak"))}
with open(os.path.join(folder, f"memory-{os.getpid()}.json"), "w") as file:
    json.dump(found | {"work": seconds, "processor": processor}, file)
"""


def pattern(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One period of the picture, (PERIOD, PERIOD) uint8, and where its cells are, bool: it goes on at its own edge."""
    rng, cells = np.random.default_rng(seed), np.zeros((PERIOD, PERIOD), bool)
    for y, x, radius in rng.uniform((0, 0, 9), (PERIOD, PERIOD, 22), (300, 3)):
        rows, columns = np.arange(int(y) - 24, int(y) + 25), np.arange(int(x) - 24, int(x) + 25)
        disc = np.hypot(rows[:, None] - y, columns - x) < radius
        cells[np.ix_(rows % PERIOD, columns % PERIOD)] |= disc
    grey = np.where(cells, 150.0, 60.0) + rng.normal(0, 14, cells.shape)
    return grey.clip(0, 255).astype(np.uint8), cells


def make_slide(path: Path, side: int, version: str = "0.5") -> None:
    """The slide, chunk by chunk."""
    grey, _ = pattern()
    slide = ZarrPyramid.create(path, (1, side, side), np.uint8, CHUNK, Calibration(x=0.5, y=0.5), version)
    for top in range(0, side, CHUNK):
        for left in range(0, side, CHUNK):
            rows, columns = slice(top, min(top + CHUNK, side)), slice(left, min(left + CHUNK, side))
            part = grey[top % PERIOD :, left % PERIOD :][: rows.stop - top, : columns.stop - left]
            slide.write(0, 0, rows, columns, part)


def make_network(path: Path, base_channels: int, depth: int, steps: int = 150) -> None:
    """A small network that has learned what a cell of the pattern looks like."""
    grey, cells = pattern()
    net = UNet(base_channels=base_channels, depth=depth, input_mean=0.35, input_std=0.18)
    optimizer, rng = training.make_optimizer(training.Recipe(), net.parameters), np.random.default_rng(1)
    tile = 220
    output = net.output_size(tile)
    border = (tile - output) // 2
    for _ in range(steps):
        top, left = rng.integers(0, PERIOD - tile, 2)
        images = grey[top : top + tile, left : left + tile][None, ..., None].astype(np.float32) / 255
        labels = cells[top + border :, left + border :][:output, :output][None].astype(np.int64)
        weights = np.where(labels, 8, 1).astype(np.float32)  # there are few cells
        training.training_step(net, optimizer, images, labels, weights, clip=1.0)
    net.cutting = {"threshold": 0.5, "seed_threshold": 0.5, "min_size": 40}
    net.save(path)


def predict(n: int, slide: Path, net: Path, output: Path, tile: int, limit: int, more=()) -> dict:
    """Predict with n processes.

    {"seconds", "resident", "address", "work", "processor"}: seconds of the whole command; megabytes of the process that
    had most; its seconds without imports; seconds of a core that the processes used in that, each.
    """
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if n > 1 and mpiexec is None:
        raise InputError('mpiexec is not installed; pip install "npunet[mpi]" adds it')
    words = ["--model", net, "--input", slide, "--output", output, "--tile", tile, *more]
    start = [mpiexec, "-n", n] if n > 1 else []
    command = [*start, sys.executable, "-c", CHILD, output, *words]
    limits = lambda: resource.setrlimit(resource.RLIMIT_AS, (limit * 10**6,) * 2) if limit else None
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for path in output.glob("memory-*.json"):  # of an earlier run
        path.unlink()
    output.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    subprocess.run(list(map(str, command)), env=environment, check=True, preexec_fn=limits, cwd=ROOT)
    found = {"seconds": time.perf_counter() - began}
    memories = [json.loads(path.read_text()) for path in output.glob("memory-*.json")]
    for name, field in (("resident", "VmHWM"), ("address", "VmPeak"), ("work", "work")):
        found[name] = max(one[field] for one in memories)
    found["processor"] = np.mean([one["processor"] for one in memories])
    return found


def digest(output: Path, name: str) -> str:
    """A checksum of the numbers of all cells, row of chunks by row of chunks."""
    cells, found = open_zarr(output / name / "labels/cells"), hashlib.sha256()
    for top in range(0, cells.shape[1], CHUNK):
        found.update(np.ascontiguousarray(cells[0, top : top + CHUNK, :]).tobytes())
    return found.hexdigest()


def main(arguments=None):
    parse = argparse.ArgumentParser(description="Predict a slide with one process and with several.")
    parse.add_argument("--side", type=int, default=40_000)
    parse.add_argument("--base-channels", type=int, default=4)
    parse.add_argument("--depth", type=int, default=2)
    parse.add_argument("--tile", type=int, default=1020)
    parse.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parse.add_argument("--rounds", type=int, default=1)
    parse.add_argument("--limit", type=int, default=1000, help="megabytes of address space for each process; 0: none")
    parse.add_argument("--keep", metavar="FOLDER", help="slide, network and results stay there and are used again")
    options = parse.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        slide, net = folder / f"slide-{options.side}.zarr", folder / f"net-{options.base_channels}-{options.depth}.npz"
        if not slide.exists():
            make_slide(slide, options.side)
        if not net.exists():
            make_network(net, options.base_channels, options.depth)
        megapixels, digests = options.side**2 / 1e6, set()
        seconds, work = {n: [] for n in options.ranks}, {n: [] for n in options.ranks}
        for _ in range(options.rounds):
            for n in options.ranks:
                output = folder / f"found-{options.side}-{n}"
                found = predict(n, slide, net, output, options.tile, options.limit)
                digests.add(digest(output, slide.name))
                seconds[n].append(found["seconds"])
                work[n].append(found["work"])
                speed = megapixels / found["seconds"]
                print(f"{n} processes: {found['seconds']:.1f} s, {found['work']:.1f} s of it without imports, "
                      f"{found['processor']:.1f} s of a core each in that; "
                      f"{speed:.2f} megapixels a second; at most {found['resident']:.0f} MB resident, "
                      f"{found['address']:.0f} MB of address space in a process", flush=True)  # fmt: skip
        for n in options.ranks[1:]:
            whole, ratio = (np.median(of[options.ranks[0]]) / np.median(of[n]) for of in (seconds, work))
            print(f"{n} processes are {ratio:.2f} times as fast as {options.ranks[0]}, {whole:.2f} times if Python's "
                  f"imports count (medians of {options.rounds})")  # fmt: skip
        print("the same cells in all runs" if len(digests) == 1 else f"CELLS DIFFER: {len(digests)} results")


if __name__ == "__main__":
    cli.run(main)
