"""python -m npunet.report RUN: one HTML file about a training run on one's own images, to be kept or mailed.

    python -m npunet.report runs/mine --title "Nuclei of the second plate"

It scores the network of the run's last step, newest.npz, on the images that the run held out (best.npz was chosen by
its score on them, which is a little too good), and writes RUN/report.html: how the network was trained, scores, counts
of true, found, merged, split, missed and invented cells where masks number them, the curves, the worst images and the
best one with the cells in colours, a line for each image, and the commands that repeat it. Pictures are inside the
file. Cells are cut as npunet.predict cuts them.
"""

import argparse
import tempfile
from pathlib import Path

from npunet.commands import cli, html_report, ranges
from npunet.commands.cell_scores import COUNTS
from npunet.commands.run_folder import OF_TRAINING, RunFolder
from npunet.errors import InputError
from npunet.experiments import running
from npunet.experiments.recipes import CELLS, CHECKPOINT, Experiment, Figure
from npunet.experiments.report import NOT_IN_COMMAND, machine, number, version
from npunet.files.whole_file import write_text

OF_PIXELS = ("pixel_accuracy", "mean_iou", "iou", "dice")
COLUMNS = ("iou", "dice", "seg", "ap50", "ap_mean", *COUNTS)
WORST = 4  # images that are shown, beside the best


def main(arguments=None):
    options = parser().parse_args(arguments)
    ranges.check(vars(options))
    run, config = RunFolder.reopen(options.run, OF_TRAINING)
    of_cells = config.get("data", {}).get("labels") == "instances"
    experiment = Experiment("own", options.title or run.path.name, "", {}, of_cells, figures_of(of_cells), ())
    outcome = running.score_run(
        run.path,
        experiment,
        device=options.device,
        data=options.data,
        symmetries=options.augment,
        choose=False,
        ready=lambda net: cli.set_tf32(options.tf32, options.device, net.device, options.precision),
    )
    path = Path(options.out) if options.out else run.path / "report.html"
    try:
        write_text(path, page(experiment, outcome, options))
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({error.strerror or error}); give another place") from None
    print(
        "\n".join(
            f"{figure.title}: {number(figure.score, outcome.mean[figure.score])}" for figure in experiment.figures
        )
    )
    print(f"scored: {CHECKPOINT}, which was not chosen by the held-out images, as best.npz was")
    print(f"report: {path}")


def figures_of(of_cells):
    """The scores that stand at the top."""
    if of_cells:
        return (Figure("true", "true cells"), Figure("found", "found cells"), Figure("seg", "SEG"), *CELLS)
    titles = ("pixel accuracy", "mean IoU of the classes", "IoU of class 1", "Dice of class 1")
    return tuple(Figure(name, title) for name, title in zip(OF_PIXELS, titles, strict=True))


def page(experiment, outcome, options):
    """The report as HTML."""
    ranking = "seg" if experiment.cells else "mean_iou"
    rows = [[figure.title, number(figure.score, outcome.mean[figure.score])] for figure in experiment.figures]
    cut = (
        f"Cells are cut by {outcome.cutting}, chosen on training images. IoU and Dice of the mask compare the pixels "
        "of all found cells with those of all true ones."
        if outcome.cutting
        else ""
    )
    parts = [
        html_report.paragraph(how_trained(outcome, options)),
        html_report.heading("Scores on the images that were held out"),
        html_report.table(["measure", "value"], rows),
        html_report.paragraph(cut),
        html_report.heading("Curves"),
        html_report.paragraph("Loss of each training step, and loss and scores of the held-out images."),
    ]
    with tempfile.TemporaryDirectory() as folder:
        parts.append(html_report.curves(Path(folder), outcome))
        order = html_report.ranked(outcome.rows, ranking)
        shown = [] if options.no_pictures else list(dict.fromkeys([*order[:WORST], order[-1]]))
        parts += [html_report.sample(Path(folder), outcome, index, ranking, index == order[-1]) for index in shown]
    names = [name for name in (COLUMNS if experiment.cells else outcome.rows[0]) if name in outcome.rows[0]]
    lines = [[outcome.samples[i].name, *(number(name, outcome.rows[i][name]) for name in names)] for i in order]
    parts += [
        html_report.heading("Image by image, the worst first"),
        html_report.table(["image", *(name.replace("_", " ") for name in names)], lines),
        html_report.heading("Commands"),
        html_report.commands(commands(outcome, options)),
    ]
    return html_report.document(experiment.title, parts)


def how_trained(outcome, options):
    """In words."""
    taken = outcome.options
    augmented = ", mean over the eight rotated and mirrored versions" if options.augment else ""
    return (
        f"A U-Net of {outcome.parameters:,} parameters ({taken['base_channels']} channels in its first level, "
        f"{taken['depth']} poolings, variant {taken['variant']}), trained for {outcome.steps} steps of tile "
        f"{taken['tile']} on {outcome.training} images of {running.name_of(taken['data'])}: "
        f"{outcome.training_seconds / 60:.1f} minutes. The network of the last step ({CHECKPOINT}) is scored on "
        f"{len(outcome.samples)} images that it has not seen{augmented}; best.npz was chosen by its score on them, "
        f"which is a little too good. {machine(outcome.device)}; npunet {version()}."
    )


def commands(outcome, options):
    """The commands that train the same network, apply it and write this report."""
    taken = {name: value for name, value in outcome.options.items() if name not in NOT_IN_COMMAND}
    changed = running.train_options.DEFAULTS
    words = running.arguments_of(
        {
            name: value
            for name, value in taken.items()
            if name in ("data", "steps", "tile") or changed.get(name) != value
        }
        | {"data": running.name_of(taken["data"])}
    )
    run = f"runs/{Path(options.run).name}"  # not the name alone: the data may be called alike
    return [
        "python -m npunet.train " + " ".join(words) + f" --out {run}",
        f"python -m npunet.predict --model {run}/{CHECKPOINT} --input IMAGES --output RESULTS",
        f"python -m npunet.report {run}",
    ]


def parser():
    parse = argparse.ArgumentParser(
        prog=cli.program("report"), description="Write one HTML file about a training run on one's own images."
    )
    parse.add_argument("run", metavar="RUN", help="the folder that npunet.train wrote (--out)")
    parse.add_argument("--title", help="title of the report (default: the name of the folder)")
    parse.add_argument("--out", metavar="FILE", help="the report (default RUN/report.html)")
    parse.add_argument("--data", metavar="DIR", help="the images, if they are no longer where training found them")
    parse.add_argument("--no-pictures", action="store_true", help="only numbers and curves, no image of the data")
    cli.add_device(parse)
    cli.add_augment(parse)
    return parse


if __name__ == "__main__":
    cli.run(main)
