"""Other people's images:
images/ and masks/, the ISBI challenge's pair of TIFF stacks, a folder an image (§4, the data).

An image and its mask have the same name, up to what people append to tell the two apart: `a.png` pairs with
`a.tif`, `a_mask.gif`, `a-label.png` or `mask_a.png`, `a_image.png` with `a_mask.png`. Pages of multi-page
files pair in their order.

All images of a data set get the same number of channels: RGB images whose channels are equal everywhere in the folder
become grey; where some have colour, the grey ones repeat their channel three times.
"""

import re
from pathlib import Path

import numpy as np

from npunet.datasets.dataset import Dataset, Sample
from npunet.datasets.labels import interpret
from npunet.errors import InputError
from npunet.files import images
from npunet.files.stored_pixels import mask_palette

ROLE = "(images?|img|masks?|labels?|seg|segmentation|gt)"
VOLUME, LABELS = "train-volume", "train-labels"


def load_folder(folder, labels="auto", class_values=None, rule=images.GreyRule()):
    """folder/images and folder/masks as a `Dataset`, ordered by name with numbers by value (a2 before a10).

    Raises InputError.
    """
    folder = Path(folder)
    for part in ("images", "masks"):
        if not (folder / part).is_dir():
            found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "nothing"
            raise InputError(
                f"data {folder}: no folder {part}/ in it (found {found}); "
                f"expected images/ and masks/, or {VOLUME}.tif and {LABELS}.tif"
            )
    pictures, masks = _by_name(folder / "images"), _by_name(folder / "masks")
    without_mask, without_image = sorted(pictures.keys() - masks.keys()), sorted(masks.keys() - pictures.keys())
    if without_mask or without_image:
        example = pictures[without_mask[0]] if without_mask else masks[without_image[0]]
        missing = "mask" if without_mask else "image"
        raise InputError(
            f"{example}: no {missing} of that name ({len(without_mask)} images without mask, "
            f"{len(without_image)} masks without image); pairs are named alike, such as images/a.png and masks/a.png "
            f"or masks/a_mask.png"
        )
    pairs = [(key, pictures[key], masks[key]) for key in sorted(pictures, key=_natural)]
    return _from_pairs(folder.name, pairs, labels, class_values, rule)


def is_folder_of_pairs(folder):
    """Whether the folder has images/ and masks/."""
    return (Path(folder) / "images").is_dir() and (Path(folder) / "masks").is_dir()


def is_object_files(folder):
    """Whether the folder has a folder an image, with images/ and masks/ inside, as in the 2018 Data Science Bowl."""
    return any(is_folder_of_pairs(entry) for entry in Path(folder).iterdir() if entry.is_dir())


def load_object_files(folder, labels="auto", class_values=None, rule=images.GreyRule()):
    """ID/images/ID.png with one file an object in ID/masks/: the objects are numbered;
    where they overlap the first counts.
    """
    folder = Path(folder)
    if labels not in ("auto", "instances") or class_values is not None:
        raise InputError(f"data {folder}: --labels {labels}, but masks with one file an object are instances")
    pictures, instances, ranges = [], [], []
    for entry in sorted(
        (entry for entry in folder.iterdir() if is_folder_of_pairs(entry)), key=lambda entry: _natural(entry.name)
    ):
        image_path, *more = _by_name(entry / "images").values()
        pages = images.open_image(image_path, rule)
        if more or len(pages) > 1:
            raise InputError(f"{entry}/images: more than one image; expected one, and its objects in masks/")
        numbered, count = np.zeros(pages.shape[1:3], np.int32), 0
        for mask_path in _by_name(entry / "masks").values():
            mask = images.read_labels(mask_path)[0]
            if mask.shape != numbered.shape:
                raise InputError(
                    f"{mask_path}: {mask.shape[0]} x {mask.shape[1]} pixels, but {image_path} has "
                    f"{numbered.shape[0]} x {numbered.shape[1]}; expected the same size"
                )
            free = (mask > 0) & (numbered == 0)
            count += free.any()
            numbered[free] = count
        pictures.append((entry.name, str(image_path), pages[0]))
        instances.append(numbered)
        ranges.append(pages.stretched)
    samples = [
        Sample(name, image, (numbered > 0).astype(np.intp), numbered, stretched=stretched)
        for (name, image), numbered, stretched in zip(same_channels(pictures), instances, ranges, strict=True)
    ]
    return Dataset(folder.name, samples, n_classes=2, kind="instances")


def is_isbi_pair(folder):
    """Whether the folder holds one of the two stacks of the ISBI 2012 challenge."""
    return any(_stack(folder, name) for name in (VOLUME, LABELS))


def load_isbi_pair(folder, labels="auto", class_values=None, rule=images.GreyRule()):
    """train-volume.tif and train-labels.tif (255 cell interior, 0 membrane), a sample a section. Raises InputError."""
    folder = Path(folder)
    volume, truth = _stack(folder, VOLUME), _stack(folder, LABELS)
    for path, name in ((volume, VOLUME), (truth, LABELS)):
        if path is None:
            raise InputError(
                f"data {folder}: no {name}.tif beside the other stack; expected {VOLUME}.tif and {LABELS}.tif"
            )
    return _from_pairs(folder.name, [(folder.name, volume, truth)], labels, class_values, rule)


def _stack(folder, name):
    return next((folder / f"{name}{suffix}" for suffix in images.TIFF if (folder / f"{name}{suffix}").is_file()), None)


def _by_name(folder):
    """Name without what marks it as image or mask -> file."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in images.EXTENSIONS or path.name.startswith(".") or not path.is_file():
            continue
        key = re.sub(rf"^{ROLE}[_-](?=.)|(?<=.)[_-]{ROLE}$", "", path.stem.removesuffix(".ome"), flags=re.IGNORECASE)
        if key in found:
            raise InputError(f"{path}: has the same name as {found[key].name}; expected one file a name, take one away")
        found[key] = path
    if not found:
        raise InputError(f"{folder}: no image in it; expected {', '.join(images.EXTENSIONS)}")
    return found


def _natural(name):
    """Sorting key under which section2 comes before section10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _from_pairs(name, pairs, labels, class_values, rule):
    pictures, masks, ranges = [], [], []
    for key, image_path, mask_path in pairs:
        pages, truth = images.open_image(image_path, rule), images.read_labels(mask_path)
        if len(pages) != len(truth):
            raise InputError(f"{mask_path}: {len(truth)} pages, but {image_path} has {len(pages)}; expected as many")
        for number, (page, mask) in enumerate(zip(pages, truth, strict=True)):
            if page.shape[:2] != mask.shape:
                raise InputError(
                    f"{mask_path}: mask of {mask.shape[0]} x {mask.shape[1]} pixels, but {image_path} has "
                    f"{page.shape[0]} x {page.shape[1]}; expected the same size"
                )
            of_stack = f"[{number}]" if len(pages) > 1 else ""
            pictures.append((f"{key}{of_stack}", f"{image_path}{of_stack}", page))
            masks.append((f"{mask_path}{of_stack}", mask))
            ranges.append(pages.stretched)
    readings, n_classes, kind, class_values = interpret(masks, labels, class_values)
    samples = [
        Sample(key, page, classes, instances, stretched=stretched)
        for (key, page), (classes, instances), stretched in zip(same_channels(pictures), readings, ranges, strict=True)
    ]
    palettes = [palette for _, _, path in pairs if (palette := mask_palette(path))]
    return Dataset(name, samples, n_classes, kind, class_values, max(palettes, key=len, default=None))


def same_channels(pictures):
    """[(name, path, image), ..] -> [(name, image), ..], all with as many channels (rule: top of this file).

    Raises InputError.
    """
    most = max(page.shape[2] for _, _, page in pictures)
    if most == 3 and all(page.shape[2] in (1, 3) and images.is_grey(page) for _, _, page in pictures):
        most = 1
    return [(key, images.with_channels(page, most, path)) for key, path, page in pictures]
