"""What the values of a mask mean: one object class, numbered instances or several classes (§3; Eq. 2 needs instances).

One of three readings holds for all masks of a folder:

- **binary**: class 1 where the value is above half of the file's largest value, else class 0. So 0/1 and 0/255 are
  alike, even side by side. Instances are the 4-connected components of class 1, for in the ISBI labels cells touch only
  across corners.
- **instances**: 0 is background (class 0), every other value is one object (class 1), numbered 1..n in each image.
- **classes**: the values that occur in the folder are the classes 0, 1, .. in ascending order (0/127/255 and 1/2/3 work
  as well as 0/1/2). Instances are the 4-connected components of each class but the first.

`labels="auto"` decides: 0 and one other value in each file is binary. With more values, and 0 among them, it counts
for each image and value whether the pixels form one 8-connected piece: more than 16 values of which at least 70 % form
one piece are instances; at most 16 values of which at most half form one piece are classes. All else is ambiguous and
is an error that asks, because a wrong guess trains without complaint and predicts nonsense. Files that follow another
convention than the rest of their folder are refused by name (`npunet.datasets.conventions`).
"""

import numpy as np
from scipy import ndimage

from npunet.datasets import conventions
from npunet.errors import InputError
from npunet.instances.numbers import renumbered

KINDS = ("auto", "binary", "instances", "classes")
MANY_VALUES, MOSTLY_ONE_PIECE, OFTEN_SPLIT = 16, 0.7, 0.5


def interpret(masks, labels="auto", class_values=None):
    """masks: list of (name, (H, W) integers). Returns [(labels, instances), ..], n_classes, kind, class_values.

    Raises InputError if the values cannot be read in the way asked for, or "auto" finds no single reading.
    """
    if labels not in KINDS:
        raise InputError(f"labels {labels!r}; expected one of {', '.join(KINDS)}")
    masks = [(name, mask.astype(np.intp)) for name, mask in masks]
    files = conventions.files_of(masks)
    values = np.unique(np.concatenate([file.values for file in files]))
    if len(values) == 1 and class_values is None:
        raise InputError(
            f"{masks[0][0]}: every pixel of all {len(masks)} masks is {values[0]}; expected background and objects"
        )
    kind = ("classes" if class_values is not None else decide(masks, files)) if labels == "auto" else labels
    if kind == "instances":
        if values[0] != 0:
            raise InputError(f"{masks[0][0]}: instance masks without any background (no value 0, smallest {values[0]})")
        conventions.check_instances(files)
        return [_from_instances(mask) for _, mask in masks], 2, kind, None
    if kind == "binary":
        thresholds = conventions.binary_thresholds(files)
        of_pages = [threshold for file in files for threshold in [thresholds[file.name]] * len(file.pages)]
        found = [_from_classes(np.where(2 * mask > top, 1, 0)) for (_, mask), top in zip(masks, of_pages, strict=True)]
        return found, 2, kind, (int(values[0]), int(values[-1]))
    class_values = tuple(int(value) for value in (values if class_values is None else class_values))
    if len(class_values) > 256:
        raise InputError(
            f"{masks[0][0]}: {len(class_values)} different values are too many for classes; "
            "if each is one object say --labels instances"
        )
    return (
        [_from_classes(_class_index(name, mask, class_values)) for name, mask in masks],
        len(class_values),
        kind,
        class_values,
    )


def decide(masks, files):
    """The reading of "auto" (rule: top of this file). Raises InputError where it is ambiguous, or files contradict."""
    if conventions.are_binary(files):
        return "binary"
    values = np.unique(np.concatenate([file.values for file in files]))
    if values[0] == 0:
        one_piece = (np.concatenate([conventions.pieces(mask) for _, mask in masks]) == 1).mean()
        if len(values) - 1 > MANY_VALUES and one_piece >= MOSTLY_ONE_PIECE:
            return "instances"
        if len(values) - 1 <= MANY_VALUES and one_piece <= OFTEN_SPLIT:
            conventions.check_classes(files)
            return "classes"
    raise conventions.ambiguous(files)


def _from_instances(mask):
    instances = renumbered(mask)
    return (instances > 0).astype(np.intp), instances


def _from_classes(classes):
    instances, count = np.zeros(classes.shape, np.int32), 0
    for index in range(1, classes.max(initial=0) + 1):
        components, found = ndimage.label(classes == index)  # SciPy's default in two dimensions: 4-connected
        instances[components > 0] = components[components > 0] + count
        count += found
    return classes, instances


def _class_index(name, mask, class_values):
    order = np.argsort(class_values)
    ascending = np.asarray(class_values)[order]
    place = np.minimum(np.searchsorted(ascending, mask), len(ascending) - 1)
    if (ascending[place] != mask).any():
        strange = mask[ascending[place] != mask][0]
        raise InputError(f"{name}: mask value {strange} is none of the {len(class_values)} classes {class_values}")
    return order[place].astype(np.intp)
