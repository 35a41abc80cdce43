"""Everything that has to be measured on a GPU, in one command:
correctness, times beside PyTorch with cuDNN, a training of some minutes. (benchmarks/gpu_*.py hold the parts.)

    NPUNET_DATA=FOLDER python -m benchmarks.gpu --minutes 2.5 --out DIR

Needs CuPy and a GPU; PyTorch for the comparison; FOLDER/isbi2012 with train-volume.tif and train-labels.tif for the
training (sections 0 to 19, scored on 20 to 23), which is left out where they are missing. All parts together stay under
--seconds (default 480): what is late is shortened or skipped, and said. PyTorch's numbers come first, for without them
no other number means much. Each part is a process of its own: after an illegal address a process can do nothing more on
its GPU. A part writes what it found after every row, so one that fails, or is cut off, has lost its last row alone. The
folder holds results.json, report.md and the pictures after every part. Nothing is believed that was not computed here:
times are medians, measured by events on the device after warming up.
"""

import argparse
import faulthandler
import functools
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path

from benchmarks.gpu_correct import machine, operations, training_steps
from benchmarks.gpu_device import Gpu
from benchmarks.gpu_isbi import isbi
from benchmarks.gpu_report import plain, write
from benchmarks.gpu_speed import LESS_NEEDED, NEEDED, full_size, layer_by_layer, peers, profile, tiles
from npunet.commands import cli
from npunet.errors import InputError
from npunet.gpu.cublas import PRECISIONS
from npunet.machine import backend

FULL = dict(tile=572, base_channels=64)
PARTS = {
    "PyTorch": functools.partial(peers, modes=NEEDED),
    "npunet TF32": functools.partial(full_size, precision="tf32"),
    "npunet bf16": functools.partial(full_size, precision="bf16"),
    "npunet float32": functools.partial(full_size, precision="float32"),
    "npunet TF32 graph": functools.partial(full_size, precision="tf32", graph=True),
    "npunet bf16 graph": functools.partial(full_size, precision="bf16", graph=True),
    "tiles": tiles,
    "operations": operations,
    "training steps": training_steps,
    "machine": machine,
    "profile": profile,
    "isbi": isbi,
    "layers": layer_by_layer,
    "npunet bf16 wgmma": functools.partial(full_size, precision="bf16", wgmma=True),
    "PyTorch otherwise": functools.partial(peers, modes=LESS_NEEDED),
}
WITHOUT_GPU = ("PyTorch", "PyTorch otherwise")  # they start processes that use the GPU, and do not themselves
LONGEST = 45  # seconds of a part: a kernel that hangs must not take the time of the others
LIMITS = {"PyTorch": 120, "PyTorch otherwise": 120, "operations": 120, "isbi": 3600, "layers": 3600}
LIMITS["npunet bf16 wgmma"] = 25  # the likeliest to hang


def run(options, begin, parts=PARTS):
    """All parts in turn; returns {part: what it found}. begin(name, options) does one part."""
    began, found = time.perf_counter(), {}
    options.time_left = lambda: options.seconds - (time.perf_counter() - began)
    for place, name in enumerate(parts):
        start = time.perf_counter()
        later = list(parts)[place + 1 :]
        options.reserved = 60 * options.minutes + 60 if "isbi" in later else 0  # for the training and its scores
        if options.time_left() < 15:
            found[name] = dict(error="skipped, out of time")
        else:
            found[name] = begin(name, options)
        print(
            f"{name}: {time.perf_counter() - start:.0f} "
            f"s{', failed: ' + found[name]['error'] if isinstance(found[name].get('error'), str) else ''}",
            flush=True,
        )
        write(found, options)
    return found


def here(name, options, device, parts=PARTS):
    """One part in this process; what it kept, and its error if it failed."""
    kept = {}
    options.keep = kept.update
    try:
        return parts[name](device, options)
    except Exception as error:  # recorded; the next part runs
        return kept | dict(error=f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}")


def apart(name, options, command=(sys.executable, "-m", "benchmarks.gpu")):
    """One part in a process of its own; what it wrote until it ended, and how it ended if that was not well."""
    path = Path(options.out) / "part.json"
    path.unlink(missing_ok=True)
    seconds = min(options.time_left(), LIMITS.get(name, LONGEST))
    given = ["--alone", name, "--seconds", str(seconds), "--reserved", str(options.reserved)]
    try:
        status = subprocess.run([*command, *options.given, *given], timeout=seconds + 5).returncode
        ended = {} if status == 0 else dict(error=f"its process ended with status {status}")
    except subprocess.TimeoutExpired:
        ended = dict(error="its process was late and was ended")
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.unlink(missing_ok=True)
    return ended | kept


def alone(name, options):
    """What `apart` started: the part, whose rows go to a file as they come."""
    began, path = time.perf_counter(), Path(options.out) / "part.json"
    faulthandler.dump_traceback_later(options.seconds)  # where it stands, if it is still at work then
    options.time_left = lambda: options.seconds - (time.perf_counter() - began)

    def keep(found):
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(found, default=plain))
        whole.replace(path)

    options.keep = keep
    try:
        keep(PARTS[name](None if name in WITHOUT_GPU else Gpu(), options))
    except Exception as error:
        traceback.print_exc()  # for the log; the report has one line
        kept = json.loads(path.read_text()) if path.exists() else {}
        keep(kept | dict(error=f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"))
    faulthandler.cancel_dump_traceback_later()


def parser():
    parse = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    parse.add_argument("--minutes", type=float, default=2.5, help="of training on ISBI 2012 (default 2.5)")
    parse.add_argument("--out", default="runs/gpu", help="folder for everything that is written (default runs/gpu)")
    parse.add_argument("--seconds", type=float, default=480, help="for all parts together (default 480)")
    parse.add_argument("--parts", help="comma-separated, default all: " + ", ".join(PARTS))
    parse.add_argument(
        "--data", default="isbi2012", help="what is trained on: a named set or a folder (default isbi2012)"
    )
    parse.add_argument("--learning-rate", type=float, default=1e-3)
    parse.add_argument("--precision", choices=PRECISIONS, default="tf32", help="of the training (default tf32)")
    parse.add_argument("--graph", action="store_true", help="record the training's step as a CUDA graph")
    parse.add_argument(
        "--weight-map",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Eq. 2 in full for the training: w0 = 10 and w_c (default on)",
    )
    parse.add_argument("--part-seconds", type=float, default=4, help="for one series of a step (default 4)")
    parse.add_argument("--dry", action="store_true", help="only say what would be done; needs no GPU")
    parse.add_argument("--alone", help=argparse.SUPPRESS)
    parse.add_argument("--reserved", type=float, default=0, help=argparse.SUPPRESS)
    parse.set_defaults(probe=4096, steps=110, trial=40, section=512, picture=512, picture_tile=700, **FULL)
    return parse


def main(arguments=None):
    options = parser().parse_args(arguments)
    if options.alone:
        return alone(options.alone, options)
    problem = None if options.dry else backend.gpu_problem()
    if problem:
        raise InputError(f"benchmarks.gpu: {problem}")
    parts = PARTS
    if options.parts:
        unknown = [name for name in options.parts.split(",") if name not in PARTS]
        if unknown:
            raise InputError(f"--parts {unknown[0]} is not known; expected some of {', '.join(PARTS)}")
        parts = {name: PARTS[name] for name in options.parts.split(",")}
    if options.dry:
        return print(f"{', '.join(parts)}: {options.seconds:.0f} s in all, into {options.out}")
    Path(options.out).mkdir(parents=True, exist_ok=True)
    options.given = list(arguments if arguments is not None else sys.argv[1:])
    options.command = " ".join(["python -m benchmarks.gpu", *options.given])
    warming = subprocess.Popen([sys.executable, "-c", "import torch"], stderr=subprocess.DEVNULL)  # from a cold disk
    try:
        warming.wait(timeout=90 if "PyTorch" in parts else 0)
    except subprocess.TimeoutExpired:
        pass
    found = run(options, apart, parts)
    print((Path(options.out) / "report.md").read_text())
    return found


if __name__ == "__main__":
    cli.run(main)
