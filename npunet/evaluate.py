"""python -m npunet.evaluate: the scores of §4 on a labelled set, per image and their mean, as a table and as JSON.

    pixel_accuracy   share of pixels whose most likely class is the true one
    mean_iou         intersection over union, mean over the classes that occur in truth or prediction
    iou, dice        of class 1, the object; 1 where neither truth nor prediction has any of it
    pixel_error, rand_error, warping_error, v_rand, v_info      of the probability of class 1, see `npunet.metrics`: the
                     challenge's scores, each at its best threshold of 0, 0.1 .. 1; one threshold for all images

Pixels without annotation (sample.ignore) do not count: they are left out of the first four and are background in both truth
and prediction for the others.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from npunet import cli, datasets, images, tiling
from npunet.errors import InputError
from npunet.unet import UNet

CHALLENGE = ("pixel_error", "rand_error", "warping_error", "v_rand", "v_info")


def evaluate(net, samples, tile=572, *, quick=False, augment=False, progress=None):
    """Predict every sample and score it: (scores, probabilities).

    scores         {name: mean over the samples}, Python floats; with quick=True only pixel_accuracy, mean_iou, iou, dice
    probabilities  a list of (H, W, K) float32, one for each sample
    progress       called as progress(samples done, samples in all)
    Raises InputError if there is no sample or one does not fit the network.
    """
    probabilities = predict_samples(net, samples, tile, augment, progress)
    return mean_scores(score_samples(samples, probabilities, quick)[0]), probabilities


def predict_samples(net, samples, tile=572, augment=False, progress=None):
    """The (H, W, K) probabilities of every sample."""
    if not samples:
        raise InputError("there is no image to score; hold out at least one")
    probabilities = []
    for sample in samples:
        if sample.labels.max(initial=0) >= net.n_classes:
            raise InputError(f"{sample.name} has labels up to {sample.labels.max()}, but the network tells {net.n_classes} classes apart; "
                             "give data of the kind it was trained on")
        image = images.with_channels(sample.image, net.in_channels, sample.name)
        probabilities.append(tiling.predict(net, image, tile, augment=augment))
        if progress is not None:
            progress(len(probabilities), len(samples))
    return probabilities


def score_samples(samples, probabilities, quick=False):
    """([{name: float} for each sample], {name: best threshold}); a score is NaN where a sample has no annotated pixel."""
    scores = [pixel_scores(sample.labels, tiling.classify(probability), probability.shape[-1], sample.ignore)
              for sample, probability in zip(samples, probabilities)]
    thresholds = {}
    for name in () if quick else CHALLENGE:
        values, thresholds[name] = challenge_scores(name, samples, probabilities)
        for of_sample, value in zip(scores, values):
            of_sample[name] = value
    return scores, thresholds


def mean_scores(scores):
    """{name: mean over the samples that have this score}."""
    return {name: float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
            for name in scores[0] for values in [np.array([of_sample[name] for of_sample in scores])]}


def pixel_scores(truth, found, n_classes, ignore=None):
    """pixel_accuracy, mean_iou, iou and dice of two (H, W) arrays of classes 0 .. n_classes - 1."""
    counted = np.ones(truth.shape, bool) if ignore is None else ~ignore
    pairs = truth[counted] * n_classes + found[counted]                                    # (pixels,)
    confusion = np.bincount(pairs, minlength=n_classes ** 2).reshape(n_classes, n_classes)  # [true class, found class]
    if pairs.size == 0:
        return dict.fromkeys(("pixel_accuracy", "mean_iou", "iou", "dice"), float("nan"))
    both = np.diagonal(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1) - both                          # the union of each class
    iou = both[either > 0] / either[either > 0]
    object_iou = both[1] / either[1] if n_classes > 1 and either[1] else 1.0
    return {"pixel_accuracy": float(both.sum() / pairs.size), "mean_iou": float(iou.mean()),
            "iou": float(object_iou), "dice": float(2 * object_iou / (1 + object_iou))}


def challenge_scores(name, samples, probabilities):
    """One of the challenge's scores for each sample, all at the threshold that is best for their mean, and that threshold."""
    from npunet import metrics
    measure = getattr(metrics, name)
    stacks = [as_stack(sample, probability) for sample, probability in zip(samples, probabilities)]
    found = [measure(probability, truth) for probability, truth in stacks]
    return [score for score, _ in found], None


def as_stack(sample, probability):
    """(1, H, W) probability of class 1 and (1, H, W) truth, 1 = object; pixels without annotation are background in both."""
    interior, truth = probability[..., 1].copy(), (sample.labels == 1).astype(np.uint8)
    if sample.ignore is not None:
        interior[sample.ignore], truth[sample.ignore] = 0, 0
    return interior[None], truth[None]


def choose_samples(dataset, held_out, model):
    """The samples to score and, in words, which they are.

    held_out: "run" for those that the training run held out, as its config.json beside the model says (all, if there is
    none or it names other images); "all"; or a number: the last so many.
    """
    samples, total = dataset.samples, len(dataset.samples)
    if held_out == "run":
        try:
            names = set(json.loads((Path(model).parent / "config.json").read_text())["held_out"])
        except (OSError, ValueError, KeyError, TypeError):
            names = set()
        chosen = [sample for sample in samples if sample.name in names]
        if chosen:
            return chosen, f"{len(chosen)} of {total} images, those held out in training"
        held_out = "all"
    if held_out == "all":
        return samples, f"all {total} images"
    if not held_out.isdecimal() or not 0 < int(held_out) <= total:
        raise InputError(f"--held-out {held_out}; expected all, run, or how many of the last images, 1 to {total}")
    return samples[-int(held_out):], f"the last {held_out} of {total} images"


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
    net.output_size(options.tile)
    dataset = datasets.load(options.data, labels=options.labels)
    samples, which = choose_samples(dataset, options.held_out, options.model)
    with tqdm(total=len(samples), unit="image", dynamic_ncols=True, leave=False) as bar:
        probabilities = predict_samples(net, samples, options.tile, options.augment, lambda done, total: bar.update())
        bar.set_description("scoring")
        scores, thresholds = score_samples(samples, probabilities)
    mean, names = mean_scores(scores), [sample.name for sample in samples]
    print(f"{options.model} on {dataset.name}: {which}")
    print(table(names, scores, mean))
    if options.json:
        report = {"model": str(options.model), "data": str(options.data), "images": which, "tile": options.tile, "augment": options.augment,
                  "mean": mean, "thresholds": thresholds, "per_image": [{"name": name} | row for name, row in zip(names, scores)]}
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
    parse = argparse.ArgumentParser(prog="python -m npunet.evaluate", description="Score a trained network on labelled images.")
    parse.add_argument("--model", required=True, help="a .npz file that training wrote, such as runs/isbi/best.npz")
    parse.add_argument("--data", required=True, help="synthetic, or a folder as for npunet.train")
    parse.add_argument("--held-out", default="run", metavar="run|all|N",
                       help="which images: those the training run of the model held out (default), all, or the last N")
    parse.add_argument("--labels", choices=["auto", "binary", "instances", "classes"], default="auto", help="what the masks hold (default auto)")
    parse.add_argument("--json", help="also write the scores to this file", metavar="FILE")
    parse.add_argument("--tile", type=int, default=572, help="largest side of an input tile in pixels (default 572)")
    parse.add_argument("--device", choices=["cpu", "gpu", "auto"], default="cpu", help="where to compute (default cpu)")
    parse.add_argument("--augment", action="store_true", help="mean over all rotated and mirrored versions (§4); eight times the work")
    return parse


if __name__ == "__main__":
    cli.run(main)
