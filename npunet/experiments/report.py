"""The report of an experiment: the paper's table beside ours, what differs, curves, worst and best image;
Markdown with PNGs in one folder.
"""

import datetime
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import scipy

from npunet.commands import train_options
from npunet.commands.cell_scores import AP_NAMES, COUNTS
from npunet.experiments import report_pictures
from npunet.experiments.recipes import ablation_title
from npunet.experiments.running import arguments_of, name_of
from npunet.files.whole_file import write_text
from npunet.machine import backend

NOT_IN_COMMAND = (
    "out",
    "load",
    "threads",
    "device",
    "minutes",
    "recompute",
)  # where and how a run was made, not what it is


def write_report(folder, experiment, outcome, command, *, symmetries, show_data):
    """Write folder/report.md and its pictures; returns the path of the report. show_data=False:
    no pictures of the images, only curves.
    """
    folder = Path(folder)
    ranking = "seg" if experiment.cells else "v_rand"
    pictures = report_pictures.draw(folder, outcome, ranking, show_data)
    worst, best = report_pictures.extremes(outcome, ranking)
    facts = outcome.options | {"held_out": len(outcome.samples), "training": outcome.training, "steps": outcome.steps}
    parts = [
        f"# {experiment.title}",
        how_made(outcome, command, symmetries),
        f"## The paper's table and ours\n\nThe paper's: {experiment.table}.\n\n{scores_table(experiment, outcome)}",
    ]
    if outcome.thresholds:
        parts[-1] += (
            "\n\nBest thresholds: " + ", ".join(f"{name} {value:g}" for name, value in outcome.thresholds.items()) + "."
        )
    if outcome.cutting:
        parts[-1] += (
            f"\n\n{outcome.mean['true']} true cells, {outcome.mean['touching']} of them touch another (within two "
            f"pixels); "
            f"{outcome.mean['found']} found. Cut into cells, as chosen on training images: {outcome.cutting} "
            f"(SEG there {outcome.cutting_score:.4f}, with invented cells as further ones of IoU 0)."
        )
    parts.append(
        "## What differs, and why\n\n"
        + "\n".join(f"- {sentence.format(**facts)}" for sentence in experiment.differences)
    )
    parts.append(f"## Image by image\n\n{rows_table(outcome)}")
    parts.append(f"## Curves\n\n{picture('curves.png', 'loss and held-out scores')}")
    for name, sample in (("worst", worst), ("best", best)) if show_data else ():
        lines = [picture(f"{name}.png", "image, truth, probability, error")]
        if f"cells_{name}.png" in pictures:
            lines.append(
                picture(
                    f"cells_{name}.png",
                    "image, true cells, found cells in the colours of the true ones; white: invented",
                )
            )
        parts.append(f"## {name.capitalize()} ({ranking.replace('_', '-')}): {sample}\n\n" + "\n\n".join(lines))
    path = folder / "report.md"
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def picture(name, words):
    return f"![{words}]({name})\n\n*{words[:1].upper()}{words[1:]}.*"


def how_made(outcome, command, symmetries):
    """When, where, with what and by which commands."""
    options = {
        name: value
        for name, value in outcome.options.items()
        if name not in NOT_IN_COMMAND and value != train_options.DEFAULTS.get(name)
    }
    options["data"] = name_of(outcome.options["data"])
    minutes = outcome.training_seconds / 60
    versions = (
        f"npunet {version()}, Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}"
    )
    return (
        f"Scored on {datetime.date.today()}, {machine(outcome.device)}. {versions}.\n\n"
        f"    {command}\n    python -m npunet.train {' '.join(arguments_of(options))}\n\n"
        f"{outcome.parameters:,} parameters, {outcome.steps} steps of {minutes * 60 / max(1, outcome.steps):.3g} s: "
        f"{minutes:.1f} minutes in steps "
        f"(held-out scores and pictures on the way not counted). "
        f"Trained on {outcome.training} images, scored on {len(outcome.samples)} held-out ones in "
        f"{outcome.seconds:.0f} s"
        f"{', mean over the eight rotated and mirrored versions (§4)' if symmetries else ''}."
    )


def machine(device):
    """The processor, and the GPU where one was used, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    cores = sum(line.startswith("processor") for line in lines)
    words = model + (f", {cores} cores" if cores else "")
    gpu = backend.device_name(device)
    return f"{words}, {gpu}" if gpu else words


def version():
    """Of the package, with the commit where it runs from a checkout."""
    try:
        found = metadata.version("npunet")
    except metadata.PackageNotFoundError:
        found = "(not installed)"
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return found
    return f"{found} at commit {commit.stdout.strip()}" if commit.returncode == 0 else found


def number(name, value):
    """A score for people:
    counts as they are, errors below a hundredth with three figures, the rest with four digits.
    """
    if value is None or np.isnan(value):
        return "-"
    if name in COUNTS:
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 0.01 else f"{value:.4f}"


def table(header, rows):
    """A Markdown table of words."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def scores_table(experiment, outcome):
    return table(
        ["measure", "paper", "ours", ""],
        [
            [
                figure.title,
                number("", figure.paper) if figure.paper is None else f"{figure.paper:g}",
                number(figure.score, outcome.mean[figure.score]),
                figure.remark,
            ]
            for figure in experiment.figures
        ],
    )


def rows_table(outcome):
    names = [name for name in outcome.rows[0] if name not in AP_NAMES[1:]]
    return table(
        ["image", *(name.replace("_", " ") for name in names)],
        [
            [sample.name, *(number(name, row[name]) for name in names)]
            for sample, row in zip(outcome.samples, outcome.rows)
        ],
    )


def write_ablations(path, experiment, outcomes, command):
    """One table of the recipe and its ablations. outcomes: {name: Outcome}, "recipe" first."""
    header = ["", *(figure.title for figure in experiment.figures), "steps", "minutes in steps", "parameters"]
    rows = [
        [
            name if name == "recipe" else f"[{ablation_title(name)}]({name}/report.md)",
            *(number(figure.score, outcome.mean[figure.score]) for figure in experiment.figures),
            str(outcome.steps),
            f"{outcome.training_seconds / 60:.1f}",
            f"{outcome.parameters:,}",
        ]
        for name, outcome in outcomes.items()
    ]
    recipe = outcomes["recipe"]
    text = (
        f"# {experiment.title}: ablations\n\n{datetime.date.today()}, {machine(recipe.device)}. npunet "
        f"{version()}.\n\n    {command}\n\n"
        f"The recipe ([its report](report.md)) and the same with one thing changed. Same data, {len(recipe.samples)} "
        f"held-out images, same seed; one run "
        f"each, so a small difference may be chance.\n\n{table(header, rows)}\n"
    )
    write_text(Path(path), text)
