"""The weight map (§3, Eq. 2): pixels between touching cells cost more, so that the network learns the thin gaps.

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

"We pre-compute the weight map for each ground truth segmentation" (§3). We compute it for each drawn tile instead,
after the deformation: so the borders stay sigma wide however the tile was stretched. "The separation border is computed
using morphological operations" (§3), which the paper does not name. Ours needs none: the distance transforms of Eq. 2
find the border wherever there is background between two cells. Where cells touch, `with_gaps` puts background between
them.

d1 and d2 are the distances from pixel x to the nearest and to the second nearest cell; w_c balances the classes. Here a
distance is measured in pixels, from the centre of x to the centre of the nearest pixel of the cell, so a background
pixel that touches a cell has d1 = 1. The second term is laid on background pixels only (inside a cell d1 would be 0 and
the term would reward the cell's rim); where there is no second cell, d2 is infinite and w = w_c.

    weight_map_definition   the formula, as loops
    weight_map              the same numbers from one distance transform per cell
    class_balance           w_c for each class
    with_gaps               background between cells that touch, for Eq. 2 to weigh
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from npunet.errors import InputError
from npunet.instances.numbers import touching
from npunet.machine.backend import Array, array_module, ndimage_module, to_cpu

if TYPE_CHECKING:
    from npunet.datasets import Sample

FAR = np.iinfo(np.int32).max  # squared distance to a cell that is not there
NEGLIGIBLE = 2.0**-25  # half the spacing of float32 just below 1: added to w_c = 1 it changes nothing


def weight_map_definition(
    instances: np.ndarray, w0: float = 10.0, sigma: float = 5.0, w_c: float | np.ndarray = 1.0
) -> np.ndarray:
    """Eq. 2 pixel by pixel and cell by cell: the oracle of the tests. Arguments and result as in `weight_map`."""
    height, width = instances.shape
    cells = [np.argwhere(instances == label) for label in np.unique(instances) if label != 0]  # (pixels, 2) each
    w_c = np.broadcast_to(w_c, (height, width))
    weights = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            weights[y, x] = w_c[y, x]
            if instances[y, x] == 0 and len(cells) >= 2:
                d1, d2 = sorted(min(math.hypot(y - v, x - u) for v, u in cell) for cell in cells)[:2]
                weights[y, x] = w_c[y, x] + w0 * math.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return weights


def weight_map(instances: Array, w0: float = 10.0, sigma: float = 5.0, w_c: float | Array = 1.0) -> Array:
    """The weight of every pixel in the loss: Eq. 2 of the paper.

    instances  (H, W) integers, 0 = background, 1..n = cells; a cell may consist of several pieces. NumPy or CuPy.
    w0, sigma  height and width (pixels) of the separation border; "we set w0 = 10 and σ ≈ 5 pixels" (§3). w0 = 0 leaves
               w_c alone.
    w_c        class balance: a number, or an (H, W) array such as class_balance(labels, n_classes)[labels].
    Returns (H, W) float32. Raises InputError for an array that cannot be an instance map, negative w0, sigma <= 0, or
    NaN.

    One Euclidean distance transform per cell, of which only the smallest and second smallest distance so far are kept:
    time grows with the number of cells, memory does not. A cell is looked at only in a window around it, with a rim of
    `border_reach` pixels; beyond that its share in Eq. 2 is below 2^-25 (see there) and no longer seen in float32.
    """
    _check(instances, w0, sigma)
    xp = array_module(instances)
    nearest = xp.full(instances.shape, FAR, np.int32)  # d1 squared: an integer, hence exact
    second = xp.full(instances.shape, FAR, np.int32)  # d2 squared
    reach = border_reach(w0, sigma)
    boxes = ndimage.find_objects(to_cpu(instances)) if reach is not None else []  # slices, which a CPU finds
    for label, box in enumerate(boxes, start=1):
        if box is None:  # a number that no pixel carries
            continue
        window = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        distance = _squared_distance(instances[window] == label)
        nearest_here, second_here = nearest[window], second[window]  # views: the minima run in place
        xp.minimum(second_here, xp.maximum(nearest_here, distance), out=second_here)
        xp.minimum(nearest_here, distance, out=nearest_here)
    border = w0 * xp.exp(-((xp.sqrt(nearest) + xp.sqrt(second)) ** 2) / (2 * sigma**2))
    return (w_c + xp.where((instances == 0) & (second < FAR), border, 0)).astype(np.float32)


def from_mask(mask: Array, w0: float = 10.0, sigma: float = 5.0, w_c: float | Array = 1.0) -> Array:
    """Eq. 2 for a mask that does not tell cells apart: every 4-connected component of `mask` (H, W;
    true = cell) is one.

    Arguments, result and errors otherwise as in `weight_map`.
    """
    xp = array_module(mask)
    if mask.ndim != 2:
        raise InputError(
            f"a mask of shape {mask.shape} has no weight map; expected two axes (H, W), pass one section at a time"
        )
    cells, _ = ndimage_module(xp).label(mask != 0)  # 4-connected, unless it is told otherwise
    return weight_map(cells, w0, sigma, w_c)


def border_reach(w0: float, sigma: float) -> int | None:
    """How many pixels from a cell Eq. 2 can still be felt in float32; None if nowhere (w0 = 0).

    Take a background pixel x outside the window that reaches r pixels beyond a cell's bounding box. Along one axis it
    is at least r + 1 from every pixel of that cell; so if the cell is one of its two nearest, d2 >= r + 1, and d1 >= 1
    because x is background. Its border term is therefore at most w0 exp(-(r + 2)^2 / (2 sigma^2)), which is below 2^-25
    as soon as r + 2 >= sigma sqrt(2 ln(2^25 w0)). Leaving the cell out there puts a farther one (or none) in its place,
    a term that is smaller still. For w0 = 10, sigma = 5: 30 pixels.
    """
    if w0 <= NEGLIGIBLE:
        return None
    return max(0, math.ceil(sigma * math.sqrt(2 * math.log(w0 / NEGLIGIBLE))) - 2)


def class_balance(
    labels: Array | Sequence[Array], n_classes: int, ignore: Array | Sequence[Array | None] | None = None
) -> np.ndarray:
    """w_c of Eq. 2: one weight per class, so that every class has the same total weight in the training data.

    It is there "to compensate the different frequency of pixels from a certain class in the training data set" (§3),
    for which the paper gives no formula. Ours is the inverse frequency, w_c = pixels / (classes present * pixels of
    class c): its mean over all pixels is 1, so it leaves the size of the loss and the learning rate alone. For the ISBI
    membranes (22 % of the pixels) it is 2.2 against 0.65 for the interior.

    labels     integers 0..n_classes-1 of any shape, or a list of such arrays: the whole training set, as in the paper
    ignore     booleans of the same shape(s), or None: pixels (or whole images) without annotation are not counted
    Returns (n_classes,) float32; a class without pixels gets 1. Index it with the labels: class_balance(labels,
    n)[labels]. Raises InputError if a label is outside 0..n_classes-1.
    """
    images, ignored = (labels, ignore) if isinstance(labels, (list, tuple)) else ([labels], [ignore])
    count = np.zeros(n_classes, np.int64)
    for image_labels, image_ignore in zip(images, [None] * len(images) if ignored is None else ignored, strict=True):
        image_labels = to_cpu(image_labels)
        counted = image_labels.ravel() if image_ignore is None else image_labels[~to_cpu(image_ignore)]
        if counted.size and not 0 <= counted.min() <= counted.max() < n_classes:
            raise InputError(
                f"labels go from {counted.min()} to {counted.max()}; expected 0 to {n_classes - 1}: "
                "raise n_classes, or mark these pixels in ignore"
            )
        count += np.bincount(counted, minlength=n_classes)
    share = count.sum() / (max(1, np.count_nonzero(count)) * np.maximum(count, 1))
    return np.where(count > 0, share, 1.0).astype(np.float32)


def with_gaps(sample: Sample, width: int = 1) -> Sample:
    """`sample` with background between cells that touch:
    "the small separation borders that we introduce between touching cells" (§3).

    Hand-made instance masks often let cells touch without a pixel between them; then no background is there for Eq. 2
    to weigh and nothing that a network could learn to part them by. Each pixel of a cell that has another cell's pixel
    among its neighbours at most `width` away (in a square window) becomes background, in labels and instances: a gap
    of 2 width pixels where they touch, which outlasts the deformation of §3.1. For training only; scores are taken
    against the masks as they are. Returns a new Sample.
    """
    instances = sample.instances
    gap = touching(instances, width)
    return replace(sample, labels=np.where(gap, 0, sample.labels), instances=np.where(gap, 0, instances))


def _squared_distance(cell):
    """Squared distance of every pixel of `cell` (H, W; true = cell) to the nearest true pixel, (H, W) int32."""
    xp = array_module(cell)
    height, width = cell.shape
    edt = ndimage_module(xp).distance_transform_edt
    rows, columns = edt(~cell, return_distances=False, return_indices=True)  # of the nearest pixel, (H, W) each
    rows = rows.astype(np.int32, copy=False) - xp.arange(height, dtype=np.int32)[:, None]
    columns = columns.astype(np.int32, copy=False) - xp.arange(width, dtype=np.int32)
    return rows * rows + columns * columns


def _check(instances, w0, sigma):
    if instances.ndim != 2 or instances.dtype.kind not in "iu":
        raise InputError(
            f"instances are {instances.dtype} of shape {instances.shape}; expected integers of shape (H, W), "
            "0 = background, 1..n = cells (from_mask takes a binary mask)"
        )
    if instances.size == 0 or int(instances.min()) < 0:
        raise InputError(
            f"instances of shape {instances.shape} are empty or negative; expected 0 = background, 1..n = cells"
        )
    if not (0 <= w0 < math.inf and 0 < sigma < math.inf):
        raise InputError(f"w0 = {w0} and sigma = {sigma} give no separation border; expected w0 >= 0 and sigma > 0")
