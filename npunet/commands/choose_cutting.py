"""How the cells of a network are to be cut, chosen on training images; see `npunet.instances.cutting`.

The numbers must not be chosen by looking at the held-out images, so they are chosen on training images, with the
network's own predictions there:

    threshold, seed_threshold    all pairs of a small grid are tried; the best has the highest SEG if every invented
                                 cell counts as one more cell with IoU 0
    min_size                     the size that 95 % of the training cells exceed, or half of it
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npunet import metrics
from npunet.commands.scoring import predict_samples
from npunet.datasets.dataset import Sample
from npunet.files import checkpoint
from npunet.instances.cutting import Cutting, cutting_of
from npunet.unet import UNet

GRIDS = {  # of each head: thresholds of the depth, and seed thresholds beside the threshold itself
    "mask": ((0.3, 0.4, 0.5, 0.6), (0.7, 0.85, 0.95)),
    "border": ((0.25, 0.3, 0.35, 0.4), (0.6, 0.7, 0.8, 0.9)),
    "depth": ((0.1, 0.15, 0.2, 0.25), (0.35, 0.45, 0.55, 0.65)),
}
TUNING_IMAGES = 10  # training images, evenly spread, that are enough to choose on


def tuning_samples(training: Sequence[Sample]) -> list[Sample]:
    """The training images on which a cutting is chosen."""
    return list(training[:: max(1, -(-len(training) // TUNING_IMAGES))])


def first_cutting(samples: Sequence[Sample], head: str) -> Cutting:
    """A cutting before anything is trained: the middle of the grid, and the sizes of the training cells."""
    thresholds, seeds = GRIDS[head]
    return Cutting(thresholds[2], seeds[1], smallest_size(samples), head)


def keep_cutting(path: Path, tuning: Sequence[Sample], tile: int, device: str) -> tuple[Cutting, float]:
    """Choose the cutting of the network in a file of a run, and write it into the file's header."""
    entries = checkpoint.load(path)
    net = UNet.load(path, device=device)
    cutting, score = choose_cutting(tuning, predict_samples(net, tuning, tile), cutting_of(net).head)
    entries["header"]["cutting"] = cutting.as_dict()
    checkpoint.save(path, entries)
    return cutting, score


def smallest_size(samples: Sequence[Sample]) -> int:
    """Half the size that 95 % of these cells exceed, in pixels."""
    sizes = np.concatenate([np.bincount(sample.instances.ravel())[1:] for sample in samples])
    sizes = sizes[sizes > 0]
    return max(1, int(np.quantile(sizes, 0.05) / 2)) if sizes.size else 1


def choose_cutting(
    samples: Sequence[Sample], probabilities: Sequence[np.ndarray], head: str = "mask"
) -> tuple[Cutting, float]:
    """The `Cutting` that does best on these samples, which should be training ones, and its score there."""
    half, (thresholds, seeds) = smallest_size(samples), GRIDS[head]
    candidates = [
        Cutting(threshold, seed, min_size, head)
        for min_size in (half, 2 * half)
        for threshold in thresholds
        for seed in (threshold, *seeds)
        if seed >= threshold
    ]
    scores = [cutting_score(cutting, samples, probabilities) for cutting in candidates]
    best = int(np.argmax(scores))  # the first of equally good ones
    return candidates[best], scores[best]


def cutting_score(cutting: Cutting, samples: Sequence[Sample], probabilities: Sequence[np.ndarray]) -> float:
    """Sum of the true cells' IoUs / (true cells + invented cells), over all samples."""
    total, cells = 0.0, 0
    for sample, probability in zip(samples, probabilities, strict=True):
        found = cutting.cells(probability, sample.ignore)
        numbers, ious = metrics.cell_ious(found, sample.instances)
        total += ious.sum()
        cells += len(numbers) + metrics.count_errors(found, sample.instances)["invented"]
    return total / max(1, cells)
