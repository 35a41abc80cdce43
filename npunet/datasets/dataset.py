"""What a training set is: images with the class and the instance of every pixel (§3).

Eq. 1 needs the labels, Eq. 2 the instances.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from npunet.errors import InputError

HELD_OUT = 1 / 6  # of the images, where nobody says how many


@dataclass
class Sample:
    """One annotated image.

    image: (H, W, C) float32 in 0..1. labels: (H, W) intp, the class of each pixel; class 1 is the object or cell
    interior. instances: (H, W) int32, 0 background, 1..n. ignore: (H, W) bool, True where there is no annotation, or
    None.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray
    ignore: np.ndarray | None = None
    stretched: tuple | None = None  # the stored values that became 0 and 1; None for 8 bits

    @property
    def ignored(self) -> np.ndarray:
        """(H, W) bool: the pixels that have no annotation."""
        return np.zeros(self.labels.shape, bool) if self.ignore is None else self.ignore


def fingerprint(array: np.ndarray) -> str:
    """Sixteen characters that say what is in an array: the same for the same shape, type and values."""
    content = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()[:16]


@dataclass
class Dataset:
    """Samples in a fixed order. kind and class_values record how the masks were read (see `npunet.datasets.labels`)."""

    name: str
    samples: list[Sample]
    n_classes: int
    kind: str = "binary"
    class_values: tuple | None = None  # the mask value of class 0, 1, ..; None if the values were instance numbers
    palette: list | None = None  # (R, G, B) of index 0, 1, .. where masks have a palette of colours
    grey_rule: dict | None = None  # `files.images.GreyRule` by which its files were scaled, for the network's file

    @property
    def in_channels(self) -> int:
        return self.samples[0].image.shape[2]

    def __len__(self) -> int:
        return len(self.samples)

    def split(self, held_out: int | float) -> tuple["Dataset", "Dataset"]:
        """(training, held-out):
        the last samples as one block, for neighbouring sections look alike and must not be on both sides.

        held_out: how many (int), or which share (float below 1; rounded, at least one). Raises InputError if nothing is
        left.
        """
        total = len(self.samples)
        if total == 1 and held_out:
            raise InputError(
                f"{self.name} has one image; expected at least two, of which one is held out: add images, or cut this "
                f"one into parts"
            )
        if isinstance(held_out, float) and 0 < held_out < 1:
            held_out = max(1, round(held_out * total))
        if held_out != int(held_out) or not 0 <= held_out < total:
            raise InputError(
                f"cannot hold out {held_out} of the {total} images of {self.name}; "
                f"expected 0 to {total - 1}, or a share below 1"
            )
        cut = total - int(held_out)
        return self._part(self.samples[:cut]), self._part(self.samples[cut:])

    def _part(self, samples):
        return Dataset(self.name, samples, self.n_classes, self.kind, self.class_values, self.palette, self.grey_rule)


def describe(dataset: Dataset) -> str:
    """What the data look like, as text.

    Read it before training: wrong polarity and value range are the usual reasons for all-black predictions.
    """
    channels = f"{dataset.in_channels} channel{'s' * (dataset.in_channels > 1)}"
    lines = [f"{dataset.name}: {len(dataset.samples)} images, {_sizes(dataset.samples)}, {channels}"]
    if dataset.samples:
        lines += [*_grey_values(dataset.samples), *_classes(dataset), *_instances(dataset.samples)]
    return "\n".join(lines)


def _grey_values(samples):
    smallest, largest = min(s.image.min() for s in samples), max(s.image.max() for s in samples)
    means = [s.image.mean(dtype=np.float64) for s in samples]
    yield f"  grey values {smallest:.2f} to {largest:.2f}; mean of an image {min(means):.2f} to {max(means):.2f}"
    if ranges := {sample.stretched for sample in samples if sample.stretched}:
        lows, highs = zip(*ranges)
        spans = [high - low for low, high in ranges]
        yield (
            f"  stored values from {min(lows):g} to {max(highs):g} became 0 to 1"
            + (f", {min(spans):g} to {max(spans):g} of them in a file (--normalise)" if len(ranges) > 1 else "")
        )
    if largest < 0.1 or largest - smallest < 0.05:
        yield (
            "  WARNING: hardly any contrast; are these masks, or dark 8-bit images? Save them as 16 bit, which is "
            "stretched."
        )


def _classes(dataset):
    values = " ".join(map(str, dataset.class_values)) if dataset.class_values else "are instance numbers"
    yield f"  labels: {dataset.kind} (mask values {values})"
    if dataset.palette:
        shown = ", ".join(f"{index} is {colour}" for index, colour in enumerate(dataset.palette[:4]))
        said = f"the masks have a palette; its indices were read, not its colours: {shown}"
        if sum(dataset.palette[0]) == max(map(sum, dataset.palette)):
            said = f"WARNING: {said}. Is 0, the brightest, the background? If not, save the masks as grey values"
        yield f"  {said}"
    pixels, greys = np.zeros(dataset.n_classes), np.zeros(dataset.n_classes)
    for sample in dataset.samples:
        known = slice(None) if sample.ignore is None else ~sample.ignore
        classes, grey = sample.labels[known].ravel(), sample.image.mean(axis=2)[known].ravel()
        pixels += np.bincount(classes, minlength=dataset.n_classes)
        greys += np.bincount(classes, weights=grey, minlength=dataset.n_classes)
    names = ["background / membrane", "object / cell interior"] if dataset.n_classes == 2 else [""] * dataset.n_classes
    for index, name in enumerate(names):
        grey = greys[index] / pixels[index] if pixels[index] else float("nan")
        yield f"  class {index} {name}: {pixels[index] / pixels.sum():.1%} of the pixels, mean grey value {grey:.2f}"
    if (pixels == 0).any():
        yield f"  WARNING: no pixel of class {', '.join(map(str, np.flatnonzero(pixels == 0)))}"
    if dataset.n_classes == 2 and pixels.all():
        difference = greys[1] / pixels[1] - greys[0] / pixels[0]
        side = "as bright as" if abs(difference) < 0.01 else f"{'brighter' if difference > 0 else 'darker'} than"
        yield f"  polarity: objects are {side} the background; a prediction shows them white"


def _instances(samples):
    counts = [len(np.unique(s.instances[s.instances > 0])) for s in samples]
    sizes = np.concatenate([np.bincount(s.instances.ravel())[1:] for s in samples])
    sizes = sizes[sizes > 0]
    median = f", of {int(np.median(sizes))} pixels (median)" if sizes.size else ""
    yield f"  instances: {min(counts)} to {max(counts)} an image{median}"
    unlabelled = sum(int(s.ignore.sum()) for s in samples if s.ignore is not None)
    if unlabelled:
        share = unlabelled / sum(s.labels.size for s in samples)
        yield f"  {share:.1%} of the pixels have no annotation and get weight 0"


def _sizes(samples):
    sizes = sorted({s.labels.shape for s in samples})
    shown = ", ".join(f"{height} x {width}" for height, width in sizes[:3])
    return shown + (f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else "")
