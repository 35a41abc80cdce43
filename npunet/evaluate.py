"""python -m npunet.evaluate: the scores of §4 on a labelled set, per image and their mean, as a table and as JSON.

    pixel_accuracy   share of pixels whose predicted class is the true one
    mean_iou         intersection over union, mean over the classes that occur in truth or prediction
    iou, dice        of class 1, the object; 1 where neither truth nor prediction has any of it
    pixel_error, rand_error, warping_error, v_rand, v_info       of the probability of class 1, as the ISBI challenge
                                                                 defines
                     them (`npunet.metrics`), each at its best threshold of 0, 0.1 .. 1, which is one for all images

The predicted class is 1 where its probability is above 0.5 for two classes, otherwise the most likely one. Images are
seen at the scale of the training run, and predictions are enlarged before they are scored. Pixels without annotation
(sample.ignore) do not count: they are left out of the first four, and are background in both truth and prediction for
the others.
"""

import argparse
import json

import numpy as np
from tqdm import tqdm

from npunet import datasets, metrics, summary, tiling
from npunet.commands import cli, memory_needs, scaling
from npunet.commands.run_folder import trained_scale, training_config
from npunet.commands.train_options import tile_size
from npunet.errors import InputError
from npunet.files import images
from npunet.unet import UNet

CHALLENGE = ("pixel_error", "rand_error", "warping_error", "v_rand", "v_info")


def evaluate(net, samples, tile=572, *, quick=False, augment=False, progress=None):
    """Predict every sample and score it: (scores, probabilities).

    scores         {name: mean over the samples}, Python floats; with quick=True only pixel_accuracy, mean_iou, iou,
                   dice
    probabilities  a list of (H, W, K) float32, one for each sample
    progress       called as progress(samples done, samples in all)
    Raises InputError if there is no sample or one does not fit the network.
    """
    probabilities = predict_samples(net, samples, tile, augment, progress)
    return mean_scores(score_samples(samples, probabilities, quick)[0]), probabilities


def predict_samples(net, samples, tile=572, augment=False, progress=None, scale=1.0):
    """The (H, W, K) probabilities of every sample;
    with a scale the network sees them smaller, see `npunet.commands.scaling`.
    """
    if not samples:
        raise InputError("there is no image to score; hold out at least one")
    probabilities = []
    for sample in samples:
        highest = (sample.labels if sample.ignore is None else sample.labels[~sample.ignore]).max(initial=1)
        if highest >= net.n_labels:
            raise InputError(
                f"{sample.name} has labels up to {highest}, but the network tells {net.n_labels} classes apart; "
                "give data of the kind it was trained on"
            )
        image = images.with_channels(sample.image, net.in_channels, sample.name)
        probabilities.append(scaling.predict(net, image, scale, tile, augment=augment))
        if progress is not None:
            progress(len(probabilities), len(samples))
    return probabilities


def score_samples(samples, probabilities, quick=False, progress=None):
    """([{name: float} for each sample], {name: best threshold}); a score is NaN where a sample has no annotated pixel.

    progress is called as progress(name) before each of the scores that take seconds.
    """
    scores = [
        pixel_scores(sample.labels, tiling.classify(probability), probability.shape[-1], sample.ignore)
        for sample, probability in zip(samples, probabilities)
    ]
    thresholds = {}
    if not quick:
        pairs = [object_and_cells(sample, probability) for sample, probability in zip(samples, probabilities)]
        for name in CHALLENGE:
            if progress is not None:
                progress(name)
            values, thresholds[name] = metrics.per_section(name, *map(list, zip(*pairs)))
            for of_sample, value in zip(scores, values):
                of_sample[name] = float(value)
    return scores, thresholds


def mean_scores(scores):
    """{name: mean over the samples that have this score}."""
    return {
        name: float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
        for name in scores[0]
        for values in [np.array([of_sample[name] for of_sample in scores])]
    }


def pixel_scores(truth, found, n_classes, ignore=None):
    """pixel_accuracy, mean_iou, iou and dice of two (H, W) arrays of classes 0 .. n_classes - 1;
    NaN if all is ignored.
    """
    if ignore is not None:
        truth, found = truth[~ignore], found[~ignore]  # (pixels,)
    if truth.size == 0:
        return dict.fromkeys(("pixel_accuracy", "mean_iou", "iou", "dice"), float("nan"))
    of_classes = [
        metrics.iou(found == k, truth == k) for k in range(n_classes) if (found == k).any() or (truth == k).any()
    ]
    return {
        "pixel_accuracy": metrics.pixel_accuracy(found, truth),
        "mean_iou": float(np.mean(of_classes)),
        "iou": metrics.iou(found == 1, truth == 1),
        "dice": metrics.dice(found == 1, truth == 1),
    }


def mean_dice(samples, probabilities):
    """Dice score of every class but the first in every sample, and the mean of all:
    what milesial/Pytorch-UNet calls validation Dice.
    """
    found = []
    for sample, probability in zip(samples, probabilities):
        counted = slice(None) if sample.ignore is None else ~sample.ignore
        truth, classes = sample.labels[counted], tiling.classify(probability)[counted]
        found += [metrics.dice(classes == k, truth == k) for k in range(1, probability.shape[-1])]
    return float(np.mean(found))


def object_and_cells(sample, probability):
    """(H, W) probability of class 1 and (H, W) numbers of the true cells, both 0 where there is no annotation."""
    counted = np.ones(sample.labels.shape, bool) if sample.ignore is None else ~sample.ignore
    return probability[..., 1] * counted, np.where(counted & (sample.labels == 1), sample.instances, 0)


def choose_samples(dataset, held_out, config):
    """The samples to score and, in words, which they are.

    held_out: "run" for those that the training run held out, as its configuration says (all, if there is
    none or it names other images); "all"; or a number: the last so many.
    """
    samples, total = dataset.samples, len(dataset.samples)
    if held_out == "run":
        names = set(config.get("held_out", []))
        chosen = [sample for sample in samples if sample.name in names]
        if chosen:
            return chosen, f"{len(chosen)} of {total} images, those held out in training"
        held_out = "all"
    if held_out == "all":
        return samples, f"all {total} images"
    if not held_out.isdecimal() or not 0 < int(held_out) <= total:
        raise InputError(f"--held-out {held_out}; expected all, run, or how many of the last images, 1 to {total}")
    return samples[-int(held_out) :], f"the last {held_out} of {total} images"


def table(names, scores, mean):
    """The scores as text: a line for each image and one for the mean."""
    columns = list(mean)
    width = max(map(len, [*names, "mean"]))
    lines = [f"{'image':<{width}}  " + "  ".join(columns)]
    for name, row in [*zip(names, scores), ("mean", mean)]:
        lines.append(f"{name:<{width}}  " + "  ".join(f"{row[column]:{len(column)}.4f}" for column in columns))
    lines.insert(-1, "-" * len(lines[0]))
    return "\n".join(lines)


def main(arguments=None):
    options = parser().parse_args(arguments)
    net = UNet.load(options.model, device=options.device)
    cli.set_tf32(options.tf32, options.device, net.device)
    tile = options.tile or tiling.default_tile(net)
    if tile != "auto":
        net.output_size(tile)  # an invalid tile is refused before any work
    config = training_config(options.model)
    scale = trained_scale(options.model) if options.scale is None else options.scale
    scaling.scaled_size((100, 100), scale)
    class_values = config.get("data", {}).get("class_values")
    if class_values is None and net.n_labels > 2 and net.mask_values and not isinstance(net.mask_values[0], list):
        class_values = net.mask_values
    dataset = datasets.load(options.data, labels=options.labels, class_values=class_values)
    samples, which = choose_samples(dataset, options.held_out, config)
    longest = round(scale * max(max(sample.labels.shape) for sample in samples))
    if tile == "auto":
        tile = summary.tile_for_inference(net, longest)
    with tqdm(total=len(samples), unit="image", dynamic_ncols=True, leave=False) as bar:
        with memory_needs.out_of_memory(net, tile, covering=longest):
            probabilities = predict_samples(
                net, samples, tile, options.augment, lambda done, total: bar.update(), scale
            )
        scores, thresholds = score_samples(
            samples, probabilities, progress=lambda name: bar.set_description(f"scoring {name}")
        )
    mean, names = mean_scores(scores), [sample.name for sample in samples]
    print(f"{options.model} on {dataset.name}: {which}" + (f", seen at a scale of {scale:g}" if scale != 1 else ""))
    print(table(names, scores, mean))
    print("best thresholds: " + ", ".join(f"{name} {threshold:g}" for name, threshold in thresholds.items()))
    if options.json:
        report = {
            "model": str(options.model),
            "data": str(options.data),
            "images": which,
            "tile": tile,
            "scale": scale,
            "augment": options.augment,
            "mean": mean,
            "thresholds": thresholds,
            "per_image": [{"name": name} | row for name, row in zip(names, scores)],
        }
        write_json(options.json, report)
        print(f"scores written to {options.json}")


def write_json(path, report):
    """Write a report that is there whole or not at all; scores that do not exist (NaN) become null."""

    def clean(value):
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [clean(item) for item in value]
        return None if isinstance(value, float) and not np.isfinite(value) else value

    try:
        with images.written_whole(path) as temporary:
            temporary.write_text(json.dumps(clean(report), indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror or error}); give another place") from None


def parser():
    parse = argparse.ArgumentParser(
        prog="python -m npunet.evaluate", description="Score a trained network on labelled images."
    )
    parse.add_argument(
        "--model",
        required=True,
        help="a .npz file that training wrote, such as runs/isbi/best.npz, or a .pth of milesial/Pytorch-UNet",
    )
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
    parse.add_argument(
        "--tile",
        type=tile_size,
        metavar="TILE|auto",
        help="largest side of an input tile in pixels (default 572, or the nearest that is "
        "valid; 1024 for padded networks); auto: as large as the images need and memory allows",
    )
    parse.add_argument(
        "--scale",
        type=float,
        help="let the network see the images smaller by this factor, and enlarge what it finds (default: as it "
        "was trained, by the config.json beside it; else 1)",
    )
    cli.add_device(parse)
    parse.add_argument(
        "--augment", action="store_true", help="mean over all rotated and mirrored versions (§4); eight times the work"
    )
    return parse


if __name__ == "__main__":
    cli.run(main)
