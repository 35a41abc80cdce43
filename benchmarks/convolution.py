"""The convolutions of the 572 network one by one, forward and backward, every algorithm beside PyTorch.

    python -m benchmarks.convolution [--rounds 5] [--tile 572] [--layers 0,1,2] [--algorithms winograd,im2col]

Everything is interleaved: each round runs every candidate once, so that a slow moment of the machine hits all alike.
Reported are medians in milliseconds, the ratio to PyTorch in the faster of its two layouts, and the float32 error of
each algorithm, as largest error over largest value, against im2col in float64. PyTorch runs with the C allocator told
to keep large blocks, which is its best here; npunet needs no such setting. Layers that repeat a shape are run once.
--out NAME also writes benchmarks/results/NAME.txt and .json.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import described
from npunet.commands import cli
from npunet.errors import InputError
from npunet.machine import threads
from npunet.ops.conv_algorithms import ALGORITHMS, choose
from npunet.ops.convolution import conv2d, conv2d_backward

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
PAUSE = 0.1  # seconds; threads of OpenBLAS and OpenMP spin on after their work, and would slow the next
RESULTS = Path(__file__).parent / "results"


def layers(tile):
    """(input size, channels in, channels out, kernel) of each convolution of the paper's network, in order."""
    found, size, channels = [], tile, 1
    for depth in range(5):  # contracting path
        width = 64 << depth
        found += [(size, channels, width, 3), (size - 2, width, width, 3)]
        size, channels = (size - 4) // 2, width
    size = 2 * size  # the last level is not pooled
    for depth in range(3, -1, -1):  # expansive path; up-convolutions are another file
        width = 64 << depth
        size = 2 * size
        found += [(size, 2 * width, width, 3), (size - 2, width, width, 3)]
        size = size - 4
    return found + [(size, 64, 2, 1)]


def arrays(size, channels, outputs, kernel):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((1, size, size, channels), dtype=np.float32), 0)
    weight = rng.standard_normal((kernel, kernel, channels, outputs), dtype=np.float32) * np.float32(
        (2 / (kernel**2 * channels)) ** 0.5
    )
    bias = rng.standard_normal(outputs, dtype=np.float32) * np.float32(0.1)
    dy = rng.standard_normal((1, size - kernel + 1, size - kernel + 1, outputs), dtype=np.float32)
    return x, weight, bias, dy


def npunet_runs(name, x, weight, bias, dy, relu, need_dx):
    """forward() and backward() of one algorithm."""
    kept = []

    def forward():
        kept[:] = [conv2d(x, weight, bias, relu=relu, algorithm=name)]

    def backward():
        return conv2d_backward(dy, kept[0][1], need_dx)

    return forward, backward


def torch_runs(torch, layout, x, weight, bias, dy, relu, need_dx):
    """The same in PyTorch; layout "nchw" or "channels-last"."""
    form = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    x, dy = (torch.from_numpy(a.transpose(0, 3, 1, 2)).contiguous(memory_format=form) for a in (x, dy))
    weight = torch.from_numpy(weight.transpose(3, 2, 0, 1).copy()).contiguous(memory_format=form).requires_grad_()
    bias = torch.from_numpy(bias).requires_grad_()
    x.requires_grad_(need_dx)
    kept = []

    def forward():
        y = torch.nn.functional.conv2d(x, weight, bias)
        kept[:] = [y.relu_() if relu else y]

    def backward():
        return torch.autograd.grad(kept.pop(), [x, weight, bias] if need_dx else [weight, bias], dy)

    return forward, backward


def measure(candidates, rounds):
    """Times of forward and backward in milliseconds, {name: (list, list)}, interleaved;
    one round to warm up is not counted.
    """
    times = {name: ([], []) for name in candidates}
    for turn in range(rounds + 1):
        for name, runs in candidates.items():
            time.sleep(PAUSE)
            for direction, run in enumerate(runs):
                start = time.perf_counter()
                run()
                if turn:
                    times[name][direction].append((time.perf_counter() - start) * 1e3)
    return times


def errors(names, x, weight, bias, dy, need_dx):
    """{name: [relative error of y, dx, dweight]} without ReLU, whose kink would turn roundings into jumps."""

    def run(name, dtype):
        y, ctx = conv2d(x.astype(dtype), weight.astype(dtype), bias.astype(dtype), algorithm=name)
        dx, dweight, _ = conv2d_backward(dy.astype(dtype), ctx, need_dx)
        return [y, dx, dweight]

    exact = run("im2col", np.float64)
    return {
        name: [
            None if e is None else float(np.abs(r - e).max() / np.abs(e).max())
            for r, e in zip(run(name, np.float32), exact)
        ]
        for name in names
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tile", type=int, default=572)
    parser.add_argument("--layers", help="positions in the network, such as 1,2; all unless given")
    parser.add_argument("--algorithms", help="names, such as winograd,auto; all fast ones unless given")
    parser.add_argument("--no-errors", action="store_true")
    parser.add_argument("--out", default=None, help="also write benchmarks/results/OUT.txt and .json")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.environ.update(ALLOCATOR)  # glibc reads these when a process starts
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.convolution", *sys.argv[1:]])
    try:
        import torch

        torch.set_num_threads(threads.get_num_threads())
    except ImportError:
        torch = None
    network = layers(options.tile)
    wanted = options.layers.split(",") if options.layers else [str(position) for position in range(len(network))]
    for what, found, known in (
        ("layers", wanted, [str(position) for position in range(len(network))]),
        ("algorithms", (options.algorithms or "auto").split(","), [*ALGORITHMS, "auto"]),
    ):
        if strange := [one for one in found if one not in known]:
            raise InputError(f"--{what}: {strange[0]!r} is not known; expected some of {', '.join(known)}")
    if options.rounds < 1:
        raise InputError(f"--rounds is {options.rounds}; expected at least 1")
    rows, seen = [], set()
    peer = (
        f"PyTorch {torch.__version__}, faster of NCHW and channels-last"
        if torch
        else "PyTorch is not installed: no ratios"
    )
    lines = [
        f"{described()}, {peer}; medians of {options.rounds} rounds, ms",
        f"{'layer':24}{'algorithm':>16}{'forward':>9}{'backward':>9}{'ratio f':>8}{'ratio b':>8}{'ratio':>7}"
        f"{'err y':>9}{'err dx':>9}{'err dw':>9}",
    ]
    print("\n".join(lines), flush=True)
    for position in map(int, wanted):
        size, channels, outputs, kernel = layer = network[position]
        if layer in seen:
            continue
        seen.add(layer)
        need_dx, relu = position > 0, kernel > 1
        data = arrays(*layer)
        names = (
            options.algorithms.split(",") if options.algorithms else [n for n in ALGORITHMS if n != "naive"] + ["auto"]
        )
        names = [n for n in names if n == "auto" or getattr(ALGORITHMS[n], "supports", lambda *_: True)(kernel, kernel)]
        candidates = {name: npunet_runs(name, *data, relu, need_dx) for name in names}
        if torch:
            candidates |= {
                f"torch {form}": torch_runs(torch, form, *data, relu, need_dx) for form in ("nchw", "channels-last")
            }
        times = {
            name: [statistics.median(t) for t in pair] for name, pair in measure(candidates, options.rounds).items()
        }
        peers = [pair for name, pair in times.items() if name.startswith("torch")]
        best = [min(p[0] for p in peers), min(p[1] for p in peers), min(sum(p) for p in peers)] if peers else None
        error = {} if options.no_errors else errors(names, *data, need_dx)
        auto = choose((1, size, size, channels), (kernel, kernel, channels, outputs), 0)
        for name, (forward, backward) in times.items():
            ratios = [t / b for t, b in zip((forward, backward, forward + backward), best)] if best else [None] * 3
            rows.append(
                dict(
                    position=position,
                    size=size,
                    channels=channels,
                    outputs=outputs,
                    kernel=kernel,
                    algorithm=name,
                    forward_ms=forward,
                    backward_ms=backward,
                    ratios=ratios,
                    errors=error.get(name),
                    auto=auto,
                )
            )
            show = [f"{v:.2f}" if v else "-" for v in ratios] + [
                f"{v:.0e}" if v else "-" for v in error.get(name, [None] * 3)
            ]
            title = (
                f"{position:2} {size}x{size} {channels}->{outputs} {kernel}x{kernel}"
                if name == next(iter(times))
                else ""
            )
            label = f"auto={auto}" if name == "auto" else name
            lines.append(f"{title:24}{label:>19}{forward:9.1f}{backward:9.1f}" + "".join(f"{s:>8}" for s in show))
            print(lines[-1], flush=True)
    for which in names + ["torch nchw", "torch channels-last"]:
        total = sum(r["forward_ms"] + r["backward_ms"] for r in rows if r["algorithm"] == which)
        lines.append(f"sum of these layers, {which}: {total:.0f} ms")
        print(lines[-1])
    if options.out:
        (RESULTS / f"{options.out}.txt").write_text("\n".join(lines) + "\n")
        (RESULTS / f"{options.out}.json").write_text(
            json.dumps(dict(tile=options.tile, rounds=options.rounds, rows=rows), indent=1) + "\n"
        )


if __name__ == "__main__":
    cli.run(main)
