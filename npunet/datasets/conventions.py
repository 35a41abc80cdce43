"""One folder, one convention: each mask file is looked at by itself, and files that mean something else are named.

People put masks of several origins into one folder: 0/1 from Python beside 0/255 from ImageJ, a label image beside a
binary mask, a JPEG among clean PNGs. Read together, their values would make classes or cells that nobody drew. Where
each file says plainly what it means it is read by itself; otherwise the folder is refused, with the odd files' names.
"""

import re
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from npunet.errors import InputError
from npunet.instances.numbers import renumbered

OBJECT_VALUES = (1, 255, 65535)  # what programs write for "object" in a mask of two values
STRAY_PIXELS = 10  # a value with fewer pixels in all masks together is a slip of the pen
PIECES_OF_A_MASK = 3  # a single number in so many pieces is a mask of several objects, not one object
SOFT_FROM, SOFT_SHARE = 32, 0.5  # see `is_soft`


@dataclass(frozen=True)
class MaskFile:
    """The pages of one file. values: those that occur, ascending."""

    name: str
    pages: list
    values: np.ndarray

    def pixels(self, value):
        """How many pixels have this value."""
        return sum(np.count_nonzero(page == value) for page in self.pages)

    def __str__(self):
        shown = " ".join(map(str, self.values[:4]))
        more = f" .. {self.values[-1]} ({len(self.values)} values)" if len(self.values) > 4 else ""
        return f"{self.name} ({shown}{more})"


def files_of(masks):
    """[(name, mask), ..] -> [MaskFile, ..]; pages of one stack, called NAME[0], NAME[1] .., belong together."""
    pages = {}
    for name, mask in masks:
        pages.setdefault(re.sub(r"\[\d+\]$", "", name), []).append(mask)
    return [
        MaskFile(name, found, np.unique(np.concatenate([np.unique(page) for page in found])))
        for name, found in pages.items()
    ]


def are_binary(files):
    """Whether each file has 0 and one other value, and the others say "object" in a known way, such as 1 and 255."""
    highs = {int(file.values[-1]) for file in files if len(file.values) == 2}
    plain = all(len(file.values) == 2 and file.values[0] == 0 or len(file.values) == 1 for file in files)
    alone = {int(file.values[0]) for file in files if len(file.values) == 1}
    return plain and bool(highs) and alone <= highs | {0} and (len(highs) == 1 or highs <= set(OBJECT_VALUES))


def check_instances(files):
    """Raises InputError if some files number their objects and others are masks of two values."""
    odd = [file for file in _two_values(files) if _pieces(file, file.values[-1]) >= PIECES_OF_A_MASK]
    if odd and len(odd) < len([file for file in files if len(file.values) > 1]):
        raise _mixed(odd, "a mask of two values, where the other masks number their objects")


def check_classes(files):
    """Raises InputError if some files have two values of their own, or a value is hardly there, where others mark
    classes; and if no file shows two classes side by side, so that 0/128 beside 0/255 may be one class or two.
    """
    if all(np.count_nonzero(file.values) < 2 for file in files):
        raise _never_together(files)
    many = [file for file in files if len(file.values) > 2]
    if any(len(file.values) > 4 and np.diff(file.values).min() == 1 and is_soft(file) for file in many):
        raise ambiguous(files)  # grey values close together: JPEG, not classes
    known = {int(value) for file in many for value in file.values}
    odd = [f for f in _two_values(files) if int(f.values[-1]) in OBJECT_VALUES and int(f.values[-1]) not in known]
    if odd and many:
        raise _mixed(odd, "a mask of two values, where the other masks mark classes with other values")
    for file in many:
        for value in file.values[1:]:
            if sum(other.pixels(value) for other in files) < STRAY_PIXELS:
                raise InputError(
                    f"{file.name}: {file.pixels(value)} pixels have the value {value}, which next to no other pixel "
                    f"has; a slip of the pen would become a class: paint it over, or say --labels classes"
                )


def is_soft(file):
    """Whether a mask of many values is one of two values that was blurred, or saved as JPEG.

    Then it has more than four values, which reach 32 at least, and half or more of the pixels above a tenth of the
    largest value lie above nine tenths of it. Numbers of objects are spread evenly.
    """
    largest = file.values[-1]
    if largest < SOFT_FROM or len(file.values) <= 4:
        return False
    bright = [page[10 * page > largest] for page in file.pages]
    high = sum(np.count_nonzero(10 * pixels > 9 * largest) for pixels in bright)
    return high >= SOFT_SHARE * sum(pixels.size for pixels in bright)


def numbers_objects(file):
    """Whether the values of a mask count: 0, and numbers with few gaps between them."""
    return len(file.values) > 2 and file.values[0] == 0 and file.values[-1] <= 4 * len(file.values)


def binary_thresholds(files):
    """{name of the file: t}: a pixel is object where twice its value is above t. Each file is read by itself.

    In a file that numbers its objects every number is object. Raises InputError for a file that marks classes.
    """
    numbered = {file.name for file in files if numbers_objects(file) and not is_soft(file)}
    odd = [file for file in files if len(file.values) > 2 and not is_soft(file) and file.name not in numbered]
    if odd:
        raise _mixed(odd, "no mask of two values, not even a blurred one: its values lie between the two ends")
    low = min(int(file.values[0]) for file in files)
    tops = {file.name: int(file.values[-1]) if file.values[-1] > low else 2 * low for file in files}
    return tops | dict.fromkeys(numbered, 0)


def ambiguous(files):
    """The InputError for values that can be read in more than one way, naming the file that makes it so."""
    worst = max(files, key=lambda file: len(file.values))
    clean = [file for file in files if len(file.values) <= 2]
    beside = f" and the other masks {' '.join(map(str, clean[0].values))}" if clean else " and the other masks alike"
    return InputError(
        f"{worst}{beside}, which can be read in more than one way; "
        "say --labels binary (above half of the largest is object; also for JPEG or blurred masks), "
        "--labels instances (each value one object) or --labels classes (each value one class)"
    )


def _two_values(files):
    return [file for file in files if len(file.values) == 2 and file.values[0] == 0]


def _pieces(file, value):
    """Number of 8-connected pieces of one value, the most that a page has."""
    return max(ndimage.label(page == value, np.ones((3, 3)))[1] for page in file.pages)


def pieces(mask):
    """Number of 8-connected pieces of each value of a mask but 0."""
    ranks = renumbered(mask)
    boxes = ndimage.find_objects(ranks)
    return np.array(
        [ndimage.label(ranks[box] == rank, np.ones((3, 3)))[1] for rank, box in enumerate(boxes, 1)], dtype=int
    )


def _never_together(files):
    """The InputError for masks of two values each, of which some have another value for "object" than the most."""
    highs = [int(file.values[-1]) for file in files if file.values[-1]]
    usual = max(sorted(set(highs)), key=highs.count)
    odd = [file for file in files if file.values[-1] not in (0, usual)]
    return InputError(
        f"{_named(odd)}: the other masks have {usual} for object, and none shows two classes side by side; say "
        "--labels binary if all of these values mean object, or --labels classes if each is a class"
    )


def _named(odd):
    return ", ".join(map(str, odd[:5])) + (f" and {len(odd) - 5} more" if len(odd) > 5 else "")


def _mixed(odd, what):
    return InputError(
        f"{_named(odd)}: {what}; save all masks of a folder alike (0 and 255; or 0 and a number for each object; or a "
        f"value for each class)"
    )
