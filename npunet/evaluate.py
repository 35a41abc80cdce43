"""python -m npunet.evaluate: the scores of §4 on a labelled set, per image and their mean, as a table and as JSON.

    pixel_accuracy   share of pixels whose predicted class is the true one
    mean_iou         intersection over union, mean over the classes that occur in truth or prediction
    iou, dice        of class 1, the object; like mean_iou, no score where neither truth nor prediction has one
    pixel_error, rand_error, warping_error, v_rand, v_info       of the probability of class 1, as the ISBI challenge
                                                                 defines
                     them (`npunet.metrics`), each at its best threshold of 0, 0.1 .. 1, which is one for all images

Where masks number cells, the challenge's scores are left out (--challenge brings them back), and cells are scored as
the network's file says they are cut: AP at IoU 0.5 to 0.9 (`npunet.metrics.matching`), SEG, and how many are true,
found, merged, split, missed and invented. For all images together there are precision, recall, Dice and IoU of each
class and the confusion matrix.

The predicted class is 1 where its probability is above 0.5 for two classes, otherwise the most likely one. Images are
seen at the scale of the training run, and predictions are enlarged before they are scored. Pixels without annotation
(sample.ignore) do not count: they are left out of the first four, and are background in both truth and prediction for
the others.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npunet import datasets, metrics, tiling
from npunet.commands import cli, evaluation_report, memory_needs, ranges
from npunet.commands.beside_a_model import class_values_of, trained_scale, training_config
from npunet.commands.cell_scores import AP_NAMES, COUNTS, score_cells
from npunet.commands.grey_values import rule_of
from npunet.commands.scoring import classes_scored, mean_scores, predict_samples, score_samples
from npunet.datasets.dataset import fingerprint
from npunet.errors import InputError
from npunet.files.whole_file import write_json
from npunet.instances.cutting import Cutting, cutting_of
from npunet.unet import UNet

CHOSEN = "best.npz was chosen by its score on these images, which is a little too good; newest.npz was not"
OF_CELLS = ("seg", *AP_NAMES, "ap_mean", *COUNTS)  # what the cells of an image add to its scores


def choose_samples(dataset, held_out, config):
    """The samples to score and, in words, which they are.

    held_out: "run" for those that the training run held out; "all"; or a number: the last so many. Which images a run
    held out, and which it trained on, is known by their pixels, not their names; by names alone for runs that kept no
    fingerprints. Where none was held out all are scored, and the words say how many of them were trained on.
    """
    samples, total = dataset.samples, len(dataset.samples)
    prints = config.get("fingerprints")
    if held_out == "run":
        if prints:
            chosen = [sample for sample in samples if is_one_of(sample, prints["held_out"])]
        else:
            chosen = [sample for sample in samples if sample.name in config.get("held_out", [])]
        if chosen:
            by_name = "" if prints else ", by their names"
            return chosen, f"{len(chosen)} of {total} images, those held out in training{by_name}"
        held_out = "all"
    if held_out == "all":
        chosen, words = samples, f"all {total} images"
    elif not held_out.isdecimal() or not 0 < int(held_out) <= total:
        raise InputError(f"--held-out {held_out}; expected all, run, or how many of the last images, 1 to {total}")
    else:
        chosen, words = samples[-int(held_out) :], f"the last {held_out} of {total} images"
    if prints:
        seen = sum(is_one_of(sample, prints["training"]) for sample in chosen)
        words += f", {seen} of them trained on" if seen else ", none of them trained on"
    return chosen, words


def is_one_of(sample, prints):
    """Whether the pixels of a sample are those of an image with one of these fingerprints."""
    return fingerprint(sample.image) in {known[0] for known in prints.values() if known}


def table(names, scores, mean):
    """The scores as text: a line for each image and one for the mean."""
    columns = list(mean)
    columns += [name for name in ("seg", "ap50", *COUNTS[:-1]) if name in scores[0]]
    width = max(map(len, [*names, "mean"]))
    lines = [f"{'image':<{width}}  " + "  ".join(columns)]
    for name, row in [*zip(names, scores), ("mean", mean)]:
        words = [
            f"{row[column]:{len(column)}{'d' if column in COUNTS else '.4f'}}" for column in columns if column in row
        ]
        lines.append(f"{name:<{width}}  " + "  ".join(words))
    lines.insert(-1, "-" * len(lines[0]))
    return "\n".join(lines)


def main(arguments=None):
    options = parser().parse_args(arguments)
    options.scale = trained_scale(options.model) if options.scale is None else options.scale
    ranges.check(vars(options))
    net = UNet.load(options.model, device=options.device)
    cli.set_tf32(options.tf32, options.device, net.device, options.precision)
    options.tile = options.tile or tiling.default_tile(net)
    if options.tile != "auto":
        net.output_size(options.tile)  # an invalid tile is refused before any work
    config = training_config(options.model)
    dataset = datasets.load(
        options.data, labels=options.labels, class_values=class_values_of(net, config), rule=rule_of(net)
    )
    samples, which = choose_samples(dataset, options.held_out, config)
    if Path(options.model).name == "best.npz" and options.held_out == "run" and "held out" in which:
        which += f"; {CHOSEN}"
    found = scored(options, net, samples, of_cells=dataset.kind == "instances")
    seen = f", seen at a scale of {options.scale:g}" if options.scale != 1 else ""
    print(f"{options.model} on {dataset.name}: {which}{seen}")
    print_scores(found)
    write_scores(options, which, found)


@dataclass
class Found:
    """What came of the samples: scores of each and of all, and what pictures need."""

    samples: list
    probabilities: list  # of the classes that are scored
    rows: list
    mean: dict
    thresholds: dict  # of the challenge's scores
    matrix: np.ndarray  # confusion of the classes
    cutting: Cutting | None = None
    cells: dict | None = None  # scores of all cells together
    numbers: list | None = None  # (H, W) cells of each sample

    @property
    def names(self):
        return [sample.name for sample in self.samples]

    @property
    def order(self):
        """Indices of the samples, the worst first."""
        return evaluation_report.worst_first(self.rows)


def scored(options, net, samples, of_cells):
    """A `Found`, with a progress bar. of_cells: the masks number cells."""
    longest = round(options.scale * max(max(sample.labels.shape) for sample in samples))
    if options.tile == "auto":
        options.tile = memory_needs.tile_for_inference(net, longest)
    with cli.progress_bar(total=len(samples), unit="image") as bar:

        def predicted(done, total):
            bar.update()

        with memory_needs.out_of_memory(net, options.tile, covering=longest):
            predictions = predict_samples(net, samples, options.tile, options.augment, predicted, options.scale)
        probabilities = classes_scored(net, predictions)
        quick = of_cells and not options.challenge
        rows, thresholds = score_samples(
            samples, probabilities, quick, progress=lambda name: bar.set_description(f"scoring {name}")
        )
    matrix = evaluation_report.class_matrix(samples, probabilities)
    found = Found(samples, probabilities, rows, mean_scores(rows), thresholds, matrix)
    cutting = cutting_of(net)
    if of_cells and isinstance(cutting, Cutting):
        of_each, found.cells, found.numbers = score_cells(cutting, samples, predictions)
        found.cutting = cutting
        found.rows = [row | {name: cells[name] for name in OF_CELLS} for row, cells in zip(rows, of_each, strict=True)]
    return found


def print_scores(found):
    """The tables: images, classes, cells; and which images to look at."""
    print(table(found.names, found.rows, found.mean))
    if found.thresholds:
        print("best thresholds: " + ", ".join(f"{name} {value:g}" for name, value in found.thresholds.items()))
    print("\n" + evaluation_report.classes_table(found.matrix))
    if found.cells:
        print("\n" + evaluation_report.cells_table(found.cells, found.cutting))
    print("worst images first: " + ", ".join(found.names[index] for index in found.order[:5]))


def write_scores(options, which, found):
    """The files that were asked for: JSON, CSV, pictures."""
    if options.json:
        rows = [{"name": name} | row for name, row in zip(found.names, found.rows)]
        classes = {name: values.tolist() for name, values in metrics.class_scores(found.matrix).items()}
        scores = dict(mean=found.mean, thresholds=found.thresholds, classes=classes, confusion=found.matrix.tolist())
        cells = {"cells": found.cells, "cutting": found.cutting.as_dict()} if found.cells else {}
        worst = [found.names[index] for index in found.order]
        write_report(options.json, report(options, which, **scores, **cells, per_image=rows, worst_first=worst))
        print(f"scores written to {options.json}")
    if options.csv:
        evaluation_report.write_csv(options.csv, found.names, found.rows, found.order)
        print(f"a line for each image, the worst first, written to {options.csv}")
    if options.pictures:
        arguments = found.samples, found.probabilities, found.numbers, found.order
        written = evaluation_report.write_pictures(options.pictures, *arguments)
        print(f"{len(written)} pictures, the worst image first, written to {options.pictures}/")


def report(options, which, **found):
    """What --json writes: how the scores were made, and the scores."""
    how = {"model": str(options.model), "data": str(options.data), "images": which}
    return how | {"tile": options.tile, "scale": options.scale, "augment": options.augment} | found


def write_report(path, found):
    """Write the report to the file of --json."""
    try:
        write_json(path, found)
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror or error}); give another place") from None


def parser():
    parse = argparse.ArgumentParser(
        prog=cli.program("evaluate"), description="Score a trained network on labelled images."
    )
    parse.add_argument("--model", required=True, help=cli.MODEL_HELP)
    parse.add_argument("--data", required=True, help="synthetic, or a folder as for npunet.train")
    parse.add_argument(
        "--held-out",
        default="run",
        metavar="run|all|N",
        help="which images: those the training run of the model held out (default), all, or the last N",
    )
    parse.add_argument(
        "--labels",
        choices=["auto", "binary", "instances", "classes"],
        default="auto",
        help="what the masks hold (default auto)",
    )
    parse.add_argument("--json", help="also write the scores to this file", metavar="FILE")
    parse.add_argument("--csv", help="also write a line for each image to this file, the worst first", metavar="FILE")
    parse.add_argument("--pictures", help="also draw the ten worst images into this folder", metavar="DIR")
    parse.add_argument(
        "--challenge",
        action="store_true",
        help="the ISBI challenge's scores also where masks number cells, for which they were not made",
    )
    cli.add_tile_and_scale(parse)
    cli.add_device(parse)
    cli.add_augment(parse)
    return parse


if __name__ == "__main__":
    cli.run(main)
