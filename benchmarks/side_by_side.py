"""Programs side by side:
each in a process of its own, one step at a time in turns, so that all meet the same moments of the machine.

A turn is a round: A B C A B C ... Processes wait at a pipe while the others work, so times do not mix and every peak of
memory is that of one program. The first steps, which warm up (and compile), are not counted. Speed is also given as a
share of the machine's own peak: the operations of *direct* convolution, divided by the time, over what a large matrix
product reaches here. A program that multiplies less than direct convolution can be above 100 %.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks.convolution import ALLOCATOR, PAUSE, RESULTS
from benchmarks.machine import described
from benchmarks.peers import PEERS, missing
from npunet import UNet
from npunet.commands import rows as fig_1
from npunet.errors import InputError

WARM_UP, PATIENCE = 1, 240  # steps; seconds for one answer, which torch.compile may need


class Peer:
    """A running process; see peers.py for what it says."""

    def __init__(self, name, task, tile, base_channels):
        environment = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
        environment |= ALLOCATOR if PEERS[name][3] else {}
        command = [sys.executable, "-m", "benchmarks.peers", name, task, str(tile), str(base_channels)]
        self.name, self.times, self.cpu, self.error, self.peak = name, [], [], None, None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        hello = self._answer()
        self.version, self.before = hello.get("version"), hello.get("before")

    def step(self, counts):
        """One step, in milliseconds; kept if it counts."""
        if self.error:
            return
        self.process.stdin.write(b"step\n")
        self.process.stdin.flush()
        answer = self._answer()
        if not self.error:
            self.peak = answer["peak"]
            self.times += [answer["ms"]] if counts else []
            self.cpu += [answer["cpu_ms"]] if counts else []

    def _answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else b""
        answer = (
            json.loads(line)
            if line
            else dict(error="ended without an answer" if ready else f"no answer within {PATIENCE} s")
        )
        self.error = answer.get("error")
        if not ready:
            self.process.kill()
        return answer

    def close(self):
        self.process.kill()
        self.process.communicate()


def measure(names, task, tile, base_channels, rounds):
    """{name: Peer} after `rounds` counted steps of each, interleaved. The processes have ended."""
    peers = {}
    try:
        for name in names:
            peers[name] = Peer(name, task, tile, base_channels)
        for turn in range(-WARM_UP, rounds):
            for peer in peers.values():
                time.sleep(PAUSE)
                peer.step(counts=turn >= 0)
    finally:
        for peer in peers.values():
            peer.close()
    return peers


def gemm_peak(size=2048, repeats=6):
    """GFLOP/s of the best of a few float32 matrix products on all threads."""
    a = np.ones((size, size), np.float32)
    out = np.empty_like(a)
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        np.matmul(a, a, out=out)
        best = min(best, time.perf_counter() - start)
    time.sleep(PAUSE)
    return 2 * size**3 / best / 1e9


def direct_operations(task, tile, base_channels):
    """Multiplications and additions of direct convolution:
    forward, and for training twice that again, but no gradient of the image.
    """
    if task not in ("train", "infer"):
        return 0  # other networks: not counted
    rows = fig_1.rows(UNet(base_channels=base_channels), tile)
    forward = 2 * sum(row.multiply_adds for row in rows)
    return forward if task == "infer" else 3 * forward - 2 * rows[1].multiply_adds


def compare(task, tile, base_channels, rounds, names):
    """One table: dict of what was measured, for JSON, and its lines of text."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    absent = {name: missing(name) for name in names if missing(name)}
    peak = gemm_peak()
    peers = measure([name for name in names if name not in absent], task, tile, base_channels, rounds)
    peak = max(peak, gemm_peak())
    operations = direct_operations(task, tile, base_channels)
    medians = {name: statistics.median(peer.times) for name, peer in peers.items() if peer.times}
    rows = [
        dict(
            name=name,
            version=peers[name].version,
            median_ms=ms,
            times_ms=peers[name].times,
            cpu_ms=statistics.median(peers[name].cpu),
            peak_bytes=peers[name].peak,
            before_bytes=peers[name].before,
            share_of_gemm_peak=operations / ms / 1e6 / peak,
        )
        for name, ms in medians.items()
    ]
    notes = absent | {name: peer.error for name, peer in peers.items() if peer.error}
    found = dict(
        task=task,
        tile=tile,
        base_channels=base_channels,
        rounds=rounds,
        load_before=load,
        gemm_peak_gflops=peak,
        direct_gflop=operations / 1e9,
        rows=rows,
        notes=notes,
    )
    for label, wanted in (("ratio_tuned", "tuned"), ("ratio_as_installed", None)):
        rivals = [
            ms
            for name, ms in medians.items()
            if name.startswith("PyTorch") and (wanted is None) == ("tuned" not in name)
        ]
        for row in rows:
            row[label] = row["median_ms"] / min(rivals) if rivals else None
    return found, table(found)


def table(found):
    words = TASKS[found["task"]]
    lines = [
        f"{words}, {found['tile']} tile, {found['base_channels']} base channels, batch 1, float32; median of "
        f"{found['rounds']} interleaved rounds; "
        f"load before {found['load_before']:.1f}; {found['direct_gflop']:.0f} GFLOP direct; GEMM peak "
        f"{found['gemm_peak_gflops']:.0f} GFLOP/s",
        f"{'':40}{'ms':>9}{'min':>9}{'max':>9}{'/ tuned':>9}{'/ inst.':>9}{'% peak':>8}"
        f"{'CPU ms':>9}{'peak MB':>9}{'net MB':>8}",
    ]
    for row in found["rows"]:
        ratios = [f"{row[key]:.2f}" if row[key] else "-" for key in ("ratio_tuned", "ratio_as_installed")]
        lines.append(
            f"{row['name']:40}{row['median_ms']:9.0f}{min(row['times_ms']):9.0f}{max(row['times_ms']):9.0f}{ratios[0]:>9}{ratios[1]:>9}"
            f"{100 * row['share_of_gemm_peak']:8.0f}{row['cpu_ms']:9.0f}"
            f"{row['peak_bytes'] / 1e6:9.0f}{(row['peak_bytes'] - row['before_bytes']) / 1e6:8.0f}"
        )
    return lines + [f"{name:40}{why}" for name, why in found["notes"].items()]


TASKS = {
    "train": "training step (forward, loss, backward, SGD)",
    "infer": "forward pass",
    "padded": "training step of milesial's padded network (RGB; clipping, RMSprop)",
    "style": "training step of a style generator (RGB; VGG19, Adam)",
}
LEGEND = [
    "/ tuned: time over that of the fastest PyTorch whose C allocator was told to keep large blocks, its best here; / "
    "inst.: over the fastest",
    "PyTorch as it installs (channels-last or compiled included). % peak: operations of direct convolution a second "
    "over the GEMM peak.",
    "CPU ms: processor time of all threads, spinning included: on a machine with other work it tells more than the "
    "time on the clock.",
    "peak MB: largest resident memory of the process; net MB: the same less what the imported libraries had taken "
    "before.",
]


def picture(tables, path):
    """Bars of the medians, one row of the figure for each table; npunet in its own colour."""
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(9, 0.5 + sum(0.8 + 0.33 * len(one["rows"]) for one in tables)), dpi=110, layout="constrained"
    )
    heights = [2 + len(one["rows"]) for one in tables]
    for axes, one in zip(figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0], tables):
        rows = one["rows"][::-1]
        colours = [
            "#C0392B" if row["name"] == "npunet" else "#2F4E8C" if "tuned" in row["name"] else "#9DB2D6" for row in rows
        ]
        axes.barh([row["name"] for row in rows], [row["median_ms"] for row in rows], color=colours)
        for place, row in enumerate(rows):
            ratio = f"  ({row['ratio_tuned']:.2f})" if row["ratio_tuned"] else ""
            axes.text(row["median_ms"], place, f" {row['median_ms']:.0f} ms{ratio}", va="center", fontsize=9)
        axes.set_xlim(0, 1.25 * max(row["median_ms"] for row in rows))
        axes.spines[["top", "right"]].set_visible(False)
        what = "training step" if one["task"] == "train" else "forward pass"
        axes.set_title(
            f"{what}, {one['tile']} tile (in brackets: over PyTorch's best with the tuned allocator)",
            fontsize=10,
            loc="left",
        )
    figure.savefig(path)


def run(task, description, name):
    """The command `name`: measure every tile that was asked for, print, and with --out write text, JSON and picture."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--tiles",
        default=(572, 188),
        type=lambda text: [int(tile) for tile in text.split(",")],
        help="sides of the tile (default 572,188)",
    )
    parser.add_argument("--base-channels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5, help="counted steps of each program (default 5)")
    parser.add_argument("--peers", help="comma-separated beginnings of names, such as npunet,PyTorch; default: all")
    parser.add_argument(
        "--out",
        help=f"also write benchmarks/results/OUT.txt, .json and .png; {name} are those that the README refers to",
    )
    options = parser.parse_args()
    if options.rounds < 1:
        raise InputError(f"--rounds is {options.rounds}; expected at least 1")
    wanted = options.peers.split(",") if options.peers else [""]
    names = [name for name in PEERS if any(name.startswith(beginning) for beginning in wanted)]
    if not names:
        raise InputError(f"no peer's name begins with {options.peers}; there are {', '.join(PEERS)}")
    head = [
        described(),
        "python -m benchmarks." + " ".join([name, *sys.argv[1:]]),
    ]
    print("\n".join(head), flush=True)
    tables, text = [], list(head)
    for tile in options.tiles:
        found, lines = compare(task, tile, options.base_channels, options.rounds, names)
        tables.append(found)
        text += ["", *lines]
        print("\n".join(["", *lines]), flush=True)
    versions = {row["version"] for one in tables for row in one["rows"] if row["name"].startswith("PyTorch")}
    text += ["", *LEGEND, f"PyTorch {', '.join(versions)}" if versions else "PyTorch was not measured: no ratios"]
    if not options.out:
        print("\n".join(text[-len(LEGEND) - 1 :]))
        return
    (RESULTS / f"{options.out}.txt").write_text("\n".join(text) + "\n")
    (RESULTS / f"{options.out}.json").write_text(
        json.dumps(dict(machine=head[0], command=head[1], tables=tables), indent=1) + "\n"
    )
    if any(one["rows"] for one in tables):
        picture(tables, RESULTS / f"{options.out}.png")
