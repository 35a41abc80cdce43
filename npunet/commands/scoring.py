"""Predictions of annotated images and their scores (§4): for `npunet.evaluate`, for training and for the experiments.

    pixel_accuracy   share of pixels whose predicted class is the true one
    mean_iou         intersection over union, mean over the classes that occur in truth or prediction
    iou, dice        of class 1, the object; like mean_iou, no score where neither truth nor prediction has one
    CHALLENGE        of the probability of class 1, as the ISBI challenge defines them (`npunet.metrics`)

Pixels without annotation (sample.ignore) do not count: the first four leave them out, and for the others they are
background in both truth and prediction.
"""

import numpy as np

from npunet import metrics, tiling
from npunet.commands import scaling
from npunet.errors import InputError
from npunet.files import images
from npunet.instances.cutting import cutting_of

CHALLENGE = ("pixel_error", "rand_error", "warping_error", "v_rand", "v_info")


def evaluate(net, samples, tile=572, *, quick=False, augment=False, progress=None):
    """Predict every sample and score it: (scores, probabilities).

    scores         {name: mean over the samples}, Python floats; with quick=True only pixel_accuracy, mean_iou, iou,
                   dice
    probabilities  a list of (H, W, K) float32, one for each sample
    progress       called as progress(samples done, samples in all)
    Raises InputError if there is no sample or one does not fit the network.
    """
    probabilities = classes_scored(net, predict_samples(net, samples, tile, augment, progress))
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


def classes_scored(net, probabilities):
    """The probabilities whose classes are scored: where a network for cells tells depths apart, cell and no cell."""
    cutting = cutting_of(net) if net.cutting else None
    if cutting is None or cutting.head == "mask":
        return probabilities
    return [cutting.foreground(p) for p in probabilities]


def held_out_loss(samples, probabilities):
    """Mean of -log p(true class) over all annotated pixels: Eq. 1 without weights, of images not trained on."""
    total, pixels = 0.0, 0
    for sample, probability in zip(samples, probabilities, strict=True):
        of_truth = np.take_along_axis(probability, sample.labels[..., None], axis=2)[..., 0][~sample.ignored]
        total -= float(np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).sum(dtype=np.float64))
        pixels += of_truth.size
    return total / pixels if pixels else float("nan")


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
    NaN if all is ignored, and but for the first where neither has an object.
    """
    if ignore is not None:
        truth, found = truth[~ignore], found[~ignore]  # (pixels,)
    if truth.size == 0:
        return dict.fromkeys(("pixel_accuracy", "mean_iou", "iou", "dice"), float("nan"))
    if not ((truth > 0).any() or (found > 0).any()):  # nothing against nothing is no success
        nothing = dict.fromkeys(("mean_iou", "iou", "dice"), float("nan"))
        return {"pixel_accuracy": metrics.pixel_accuracy(found, truth)} | nothing
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
