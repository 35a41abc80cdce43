"""Heads: what the classes of a network for cells are, on the same U-Net with the same soft-max (Eq. 1).

    mask     background, cell. The paper's: what parts touching cells is a gap of background that Eq. 2 weighs.
    border   background, border, interior: a cell's outer pixels are a class of their own, so that nothing of the cell
             is given away and two borders lie between two interiors (the three classes of the StarDist paper's Table 1)
    depth    background, and three classes of depth, in thirds of the cell's own greatest: the levels of a watershed,
             learned (after Bai and Urtasun 2017, arXiv 1611.08303)

Classes are steps of the distance to the nearest pixel that is not of this cell, so they are made of numbered cells and
are in ascending order of depth, which is all that `npunet.instances.cutting` needs to know.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from npunet.datasets.dataset import Dataset, Sample
from npunet.errors import InputError

HEADS = {"mask": (), "border": (1.5,), "depth": (1 / 3, 2 / 3)}  # up to which distance a class goes
SHARES = ("depth",)  # heads whose distances are shares of the greatest one of a cell; those of others are pixels


def classes_of(instances: np.ndarray, head: str) -> np.ndarray:
    """Class of each pixel: (H, W) cell numbers -> (H, W) intp, 0 outside, 1 up to the first distance, then 2, ..

    A pixel that touches another number, or the background, by a side has distance 1. The image's border is no outside:
    a cell that is cut off there goes on.
    """
    classes = np.zeros(instances.shape, np.intp)
    for number, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        grown = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)  # one pixel of outside, where there is any
        mask = instances[grown] == number
        distance = np.full(mask.shape, np.inf) if mask.all() else ndimage.distance_transform_edt(mask)
        if head in SHARES:
            distance = distance / distance.max() if np.isfinite(distance).all() else np.ones(mask.shape)
        classes[grown][mask] = 1 + np.searchsorted(HEADS[head], distance[mask], side="left")
    return classes


def with_head(dataset: Dataset, head: str) -> Dataset:
    """The data set with the classes of a head. Raises InputError if the masks do not number cells."""
    if head not in HEADS:
        raise InputError(f"head {head!r} is not known; expected one of {', '.join(HEADS)}")
    if not HEADS[head]:
        return dataset
    if dataset.kind != "instances":
        raise InputError(
            f"--head {head} needs masks that number the cells, but those of {dataset.name} hold {dataset.kind}; "
            f"leave it out"
        )
    samples = [with_head_sample(sample, head) for sample in dataset.samples]
    return replace(dataset, samples=samples, n_classes=len(HEADS[head]) + 2)


def with_head_sample(sample: Sample, head: str) -> Sample:
    """One sample with the classes of a head."""
    return replace(sample, labels=classes_of(sample.instances, head)) if HEADS[head] else sample
