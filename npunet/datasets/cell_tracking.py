"""The cell tracking challenge's own folders (§4, Table 2): 01/t000.tif .. with hand-made truth for a few frames.

    01/tNNN.tif                     the frames of sequence 01; 02/ alike
    01_GT/SEG/man_segNNN.tif        cells drawn by hand, 0 background, one number a cell, for some frames only
    01_GT/TRA/man_trackNNN.tif      a marker for every cell of every frame

Only frames with a man_seg file become samples. In many of them not every cell is drawn. The markers tell: a frame is
partly annotated if some marker has less than half of its pixels inside drawn cells. There nothing is known about the
pixels that no cell covers, neither background nor the cells that were left out, so they are ignored (weight 0 in Eq.
1). Without TRA/ every frame is taken as complete.

Several annotators are several folders SEG* (SEG_A, SEG_B, ..) in 01_GT, or 01_GT* beside it. Where they disagree
whether a pixel is cell or background, it is ignored; the numbering of the cells is the first annotator's.
"""

import re
from pathlib import Path

import numpy as np

from npunet.datasets.dataset import Dataset, Sample
from npunet.datasets.folders import same_channels
from npunet.errors import InputError
from npunet.files import images
from npunet.instances.numbers import renumbered


def is_cell_tracking(folder):
    """Whether the folder holds a sequence with segmentation truth: NN_GT/SEG/."""
    return bool(_sequences(folder))


def load_cell_tracking(folder, labels="auto", class_values=None, rule=images.GreyRule()):
    """All annotated frames of all sequences, in order, as a `Dataset` of instances. Raises InputError."""
    folder = Path(folder)
    if labels not in ("auto", "instances") or class_values is not None:
        raise InputError(
            f"data {folder}: --labels {labels}, but the masks of the cell tracking challenge are instances"
        )
    pictures, truths, ranges = [], [], []
    for sequence in _sequences(folder):
        for number, paths in sorted(_annotations(folder, sequence).items()):
            image_path = folder / sequence / f"t{number}.tif"
            stack = _single(image_path, images.open_image(image_path, rule))
            image, masks = stack[0], [_pages(path)[0] for path in paths]
            ranges.append(stack.stretched)
            for path, mask in zip(paths, masks, strict=True):
                _same_size(path, mask, image_path, image)
            pictures.append((f"{sequence}/t{number}", str(image_path), image))
            truths.append(_truth(masks, _markers(folder, sequence, number, image_path, image)))
    if not pictures:
        raise InputError(
            f"data {folder}: no man_seg*.tif in {_sequences(folder)[0]}_GT/SEG; expected at least one annotated frame"
        )
    samples = [
        Sample(name, image, (instances > 0).astype(np.intp), instances, ignore if ignore.any() else None, stretched)
        for (name, image), (instances, ignore), stretched in zip(same_channels(pictures), truths, ranges, strict=True)
    ]
    return Dataset(folder.name, samples, n_classes=2, kind="instances")


def _sequences(folder):
    return sorted(
        entry.name[:2]
        for entry in Path(folder).iterdir()
        if re.fullmatch(r"\d\d_GT", entry.name) and (entry / "SEG").is_dir()
    )


def _annotations(folder, sequence):
    """Frame number, as written in the file names -> its masks, one an annotator."""
    found = {}
    for path in sorted(folder.glob(f"{sequence}_GT*/SEG*/man_seg*.tif")):
        number = re.fullmatch(r"man_seg(\d+)", path.stem)
        if number is None:
            raise InputError(f"{path}: not named man_segNNN.tif; slices of three-dimensional sets are not supported")
        found.setdefault(number[1], []).append(path)
    return found


def _markers(folder, sequence, number, image_path, image):
    path = folder / f"{sequence}_GT" / "TRA" / f"man_track{number}.tif"
    if not path.exists():
        return None
    (markers,) = _pages(path)
    _same_size(path, markers, image_path, image)
    return markers


def _truth(masks, markers):
    """Instances (H, W) int32 numbered 1..n, and ignore (H, W) bool."""
    cell = np.stack(masks) > 0  # (annotators, H, W)
    agreed = cell.all(axis=0)
    ignore = agreed != cell.any(axis=0)
    drawn = np.where(agreed, masks[0], 0)
    if markers is not None:
        size = np.bincount(markers.ravel())
        inside = np.bincount(markers[cell.any(axis=0)], minlength=len(size))
        if (2 * inside < size)[1:].any():  # numbers that do not occur have size 0 and pass
            ignore |= ~agreed
    return renumbered(drawn), ignore


def _pages(path):
    return _single(path, images.read_labels(path))


def _single(path, pages):
    if len(pages) != 1:
        raise InputError(f"{path}: {len(pages)} pages; expected one, three-dimensional sets are not supported")
    return pages


def _same_size(path, mask, image_path, image):
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"{path}: {mask.shape[0]} x {mask.shape[1]} pixels, but {image_path} has {image.shape[0]} x "
            f"{image.shape[1]}; "
            "expected the same size"
        )
