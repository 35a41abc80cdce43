"""What recomputation costs and saves:
time and peak memory of a training step with and without it, each in a process of its own.

    python -m benchmarks.recompute [--steps 3] [--base-channels 64] [--out FILE]

One image, float32, SGD with momentum. Peak memory is the largest resident set of the process (Linux), beside what the
summary predicts.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from npunet import UNet, summary
from npunet.commands import cli, memory_needs
from npunet.errors import InputError
from npunet.optimizers import SGD
from npunet.training import training_step

# variant, tile, channels, bilinear
CASES = [("paper", 572, 1, False), ("pytorch-unet", 512, 3, False), ("pytorch-unet", 512, 3, True)]


def measure(variant, tile, channels, bilinear, base_channels, recompute, steps):
    """{"seconds": median, "peak_mb", "predicted_mb"} in this process."""
    net = UNet(channels, 2, base_channels, variant=variant, bilinear=bilinear, recompute=recompute)
    optimizer, rng, output, times = SGD(net.parameters, 1e-4), np.random.default_rng(0), net.output_size(tile), []
    images = rng.uniform(0, 1, (1, tile, tile, channels)).astype(np.float32)
    labels = rng.integers(0, 2, (1, output, output))
    for _ in range(steps + 1):  # the first warms up
        start = time.perf_counter()
        training_step(net, optimizer, images, labels, np.ones(labels.shape, np.float32))
        times.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(times[1:]),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "predicted_mb": memory_needs.training_memory(net, summary.rows(net, tile)) / 1e6,
    }


def main(arguments=None):
    options = parser().parse_args(arguments)
    if options.steps < 1:
        raise InputError(f"--steps is {options.steps}; expected at least 1")
    if options.one:
        print(json.dumps(measure(**json.loads(options.one))))
        return
    results = []
    for variant, tile, channels, bilinear in CASES:
        for recompute in (False, True):
            case = dict(
                variant=variant,
                tile=tile,
                channels=channels,
                bilinear=bilinear,
                base_channels=options.base_channels,
                recompute=recompute,
                steps=options.steps,
            )
            command = [sys.executable, "-m", "benchmarks.recompute", "--one", json.dumps(case)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            results.append(case | found)
            print(
                f"{variant + (', bilinear' if bilinear else ''):<24} tile {tile}  "
                f"{'recomputed' if recompute else 'all kept':<10} "
                f"{found['seconds']:6.2f} s  peak {found['peak_mb']:6.0f} MB "
                f"(predicted {found['predicted_mb']:.0f} MB)",
                flush=True,
            )
    if options.out:
        Path(options.out).write_text(json.dumps(results, indent=2) + "\n")


def parser():
    parse = argparse.ArgumentParser(prog="python -m benchmarks.recompute", description=__doc__.splitlines()[0])
    parse.add_argument("--steps", type=int, default=3, help="counted steps (default 3)")
    parse.add_argument("--base-channels", type=int, default=64, help="of the first level (default 64)")
    parse.add_argument("--out", help="also write the results to this JSON file", metavar="FILE")
    parse.add_argument("--one", help=argparse.SUPPRESS)
    return parse


if __name__ == "__main__":
    cli.run(main)
