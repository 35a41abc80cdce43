"""Every bar of speed in one run: npunet beside PyTorch at its best and OpenVINO, in about eight minutes on two cores.

    python -m benchmarks.all_bars [--rounds 5] [--only train-188,infer-188] [--out NAME]

Each task is a table of interleaved rounds, as in side_by_side.py. PyTorch at its best is the faster of its two layouts,
with its C allocator told to keep large blocks. --out also writes benchmarks/results/NAME.txt and .json.
"""

import argparse
import json
import sys

from benchmarks.convolution import RESULTS
from benchmarks.machine import described
from benchmarks.side_by_side import LEGEND, compare
from npunet.commands import cli
from npunet.errors import InputError

TUNED = ["PyTorch (tuned) NCHW", "PyTorch (tuned) channels-last"]
GRAPHS = ["OpenVINO", "ONNX Runtime"]
BARS = {  # name: (task, tile, base channels, rivals, rounds for one of --rounds, {rival: largest ratio})
    "train-572": ("train", 572, 64, TUNED, 1, {"PyTorch": 0.48}),
    "infer-572": ("infer", 572, 64, TUNED + GRAPHS, 1, {"PyTorch": 0.55, "OpenVINO": 0.70}),
    "train-188": ("train", 188, 64, TUNED, 3, {"PyTorch": 0.85}),
    "infer-188": ("infer", 188, 64, TUNED + GRAPHS, 5, {"PyTorch": 1.0, "OpenVINO": 1.0}),
    "padded-512": ("padded", 512, 64, TUNED, 1, {"PyTorch": 0.55}),
    "style-256": ("style", 256, 32, TUNED, 1, {"PyTorch": 0.65}),
}


def ratios(found, rivals):
    """{rival: npunet's median over that of the fastest peer whose name begins so}."""
    medians = {row["name"]: row["median_ms"] for row in found["rows"]}
    best = {rival: [ms for name, ms in medians.items() if name.startswith(rival)] for rival in rivals}
    return {rival: medians["npunet"] / min(times) for rival, times in best.items() if times and "npunet" in medians}


def main(arguments=None):
    options = parser().parse_args(arguments)
    if options.rounds < 1:
        raise InputError(f"--rounds is {options.rounds}; expected at least 1")
    wanted = options.only.split(",") if options.only else list(BARS)
    if strange := [name for name in wanted if name not in BARS]:
        raise InputError(f"--only: {strange[0]!r} is not known; expected some of {', '.join(BARS)}")
    head = [described(), "python -m benchmarks.all_bars " + " ".join(sys.argv[1:] if arguments is None else arguments)]
    print("\n".join(head), flush=True)
    text, tables, reached = list(head), {}, [f"{'bar':14}{'rival':>12}{'ratio':>8}{'bar':>8}"]
    for name in wanted:
        task, tile, channels, rivals, times, bars = BARS[name]
        found, lines = compare(task, tile, channels, times * options.rounds, ["npunet", *rivals])
        print("\n".join(["", *lines]), flush=True)
        text += ["", *lines]
        tables[name] = found
        for rival, ratio in ratios(found, bars).items():
            word = "" if ratio <= bars[rival] else "  missed"
            reached.append(f"{name:14}{rival:>12}{ratio:8.2f}{bars[rival]:8.2f}{word}")
    text += ["", *reached, "", *LEGEND]
    print("\n".join(["", *reached]))
    if options.out:
        (RESULTS / f"{options.out}.txt").write_text("\n".join(text) + "\n")
        (RESULTS / f"{options.out}.json").write_text(json.dumps(dict(head=head, tables=tables), indent=1) + "\n")


def parser():
    parse = argparse.ArgumentParser(prog="python -m benchmarks.all_bars", description=__doc__.splitlines()[0])
    parse.add_argument("--rounds", type=int, default=5, help="counted steps; small tasks make more (default 5)")
    parse.add_argument("--only", help=f"some of {','.join(BARS)} (default: all)", metavar="NAMES")
    parse.add_argument("--out", help="also write benchmarks/results/OUT.txt and .json")
    return parse


if __name__ == "__main__":
    cli.run(main)
