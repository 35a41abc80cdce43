"""How much faster n processes are than one:

    python -m benchmarks.ranks [--ranks 1 2 4] [--base-channels 16] [--rounds 3]

With --overlap each number of processes is timed once more with a sum for each gradient, begun the moment that the
backward pass has it, while the pass goes on; at the end all are waited for. npunet itself sums once, at the end.

Each process computes on one thread. A round starts 1, 2, 4 .. processes one after the other; each takes the same steps
of the network on the same tile and prints its seconds a step and how much of that the all-reduce took. What is printed
at the end are medians over the rounds: throughput of n ranks over n times that of one.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from npunet import UNet, layers, parallel, training
from npunet.commands import cli
from npunet.errors import InputError
from npunet.machine import ranks

ROOT = Path(__file__).resolve().parents[1]


class Overlap:
    """A sum over all ranks begins whenever a gradient is set, and `average` waits for all of them.

    Backward passes run in the same order on all ranks, so the sums meet.
    """

    def __init__(self):
        from mpi4py import MPI

        self.world, self.in_place, self.begun = MPI.COMM_WORLD, MPI.IN_PLACE, []
        layers.Parameter.grad = property(lambda parameter: parameter.__dict__.get("newest"), self.set)

    def set(self, parameter, gradient):
        parameter.newest = gradient
        if gradient is not None:
            parameter.newest = np.ascontiguousarray(gradient)
            self.begun.append((parameter, self.world.Iallreduce(self.in_place, parameter.newest)))

    def average(self, parameters, energy):
        for parameter, request in self.begun:
            request.Wait()
            parameter.newest /= self.world.size
        self.begun = []
        return ranks.mean(np.asarray(energy))


def work(options):
    """What one rank does; rank 0 prints one line of JSON."""
    parallel.join()
    net = UNet(base_channels=options.base_channels, depth=options.depth)
    optimizer = training.make_optimizer(training.Recipe(), net.parameters)
    rng, output = np.random.default_rng(ranks.rank()), net.output_size(options.tile)
    images = rng.random((1, options.tile, options.tile, 1), np.float32)
    labels, weights = rng.integers(0, 2, (1, output, output)), np.ones((1, output, output), np.float32)
    exchanged, average = [], Overlap().average if options.overlap else parallel.average

    def timed(parameters, energy):
        start = time.perf_counter()
        found = average(parameters, energy)
        exchanged.append(time.perf_counter() - start)
        return found

    parallel.average = timed
    seconds = []
    for _ in range(options.steps + 2):
        start = time.perf_counter()
        training.training_step(net, optimizer, images, labels, weights, clip=1.0)
        seconds.append(time.perf_counter() - start)
    if ranks.rank() == 0:
        found = {"step": statistics.median(seconds[2:]), "exchange": statistics.median(exchanged[2:])}
        print(json.dumps(found | {"numbers": net.n_parameters}))


def measure(n, options, overlap=False):
    """{"step", "exchange", "numbers"} of n ranks."""
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if mpiexec is None:
        raise InputError('mpiexec is not installed; pip install "npunet[mpi]" adds it')
    size = [
        f"--{name}={getattr(options, name.replace('-', '_'))}" for name in ("base-channels", "depth", "tile", "steps")
    ]
    command = [*([mpiexec, "-n", str(n)] if n > 1 else []), sys.executable, "-m", "benchmarks.ranks", "--work", *size]
    command += ["--overlap"] * overlap
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments=None):
    parse = argparse.ArgumentParser(description="Time training steps of one and of several processes.")
    parse.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parse.add_argument("--base-channels", type=int, default=16)
    parse.add_argument("--depth", type=int, default=4)
    parse.add_argument("--tile", type=int, default=380)
    parse.add_argument("--steps", type=int, default=8)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--overlap", action="store_true", help="time also sums that begin during the backward pass")
    parse.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parse.parse_args(arguments)
    if options.work:
        work(options)
        return
    ways = [(n, late) for n in options.ranks for late in ((False, True) if options.overlap and n > 1 else (False,))]
    found = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            found[way].append(measure(way[0], options, way[1]))
    steps = {way: statistics.median(one["step"] for one in rows) for way, rows in found.items()}
    numbers, alone = found[ways[0]][0]["numbers"], steps[ways[0]]
    print(f"{numbers:,} parameters, {4 * numbers / 1e6:.1f} MB a step; tile {options.tile}; one thread a rank")
    for (n, overlap), rows in found.items():
        exchange = statistics.median(one["exchange"] for one in rows)
        speed = n * alone / steps[n, overlap]
        print(f"{n} ranks{', overlapped' * overlap}: {steps[n, overlap] * 1e3:7.1f} ms a step, "
              f"{exchange * 1e3:6.1f} ms of it in the all-reduce; {speed:.2f} times one rank, "
              f"efficiency {speed / n:.2f}")  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
