"""What the values of a mask mean: one object class, numbered instances or several classes (§3; Eq.

2 needs the instances).

The values of all masks of a folder are looked at together, and one of three readings holds for all of them:

- **binary**: class 1 where the value is above half of the folder's largest value, else class 0 (so 0/1 and 0/255
  alike).
  Instances are the 4-connected components of class 1, for in the ISBI labels cells touch only across corners.
- **instances**: 0 is background (class 0), every other value is one object (class 1), numbered 1..n in each image.
- **classes**: the values that occur in the folder are the classes 0, 1, .. in ascending order (0/127/255 and 1/2/3 work
  as
  well as 0/1/2). Instances are the 4-connected components of each class but the first.

``labels="auto"`` decides: 0 and one other value is binary. With more values, and 0 among them, it counts for each image
and value whether the pixels form one 8-connected piece: more than 16 values of which at least 70 % form one piece are
instances; at most 16 values of which at most half form one piece are classes. All else is ambiguous and is an error
that asks, because a wrong guess trains without complaint and predicts nonsense.
"""

import numpy as np
from scipy import ndimage

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
    masks = [(name, mask.astype(np.int64)) for name, mask in masks]
    values = np.unique(np.concatenate([np.unique(mask) for _, mask in masks]))
    if len(values) == 1 and class_values is None:
        raise InputError(
            f"{masks[0][0]}: every pixel of all {len(masks)} masks is {values[0]}; expected background and objects"
        )
    kind = ("classes" if class_values is not None else decide(masks, values)) if labels == "auto" else labels
    if kind == "instances":
        if values[0] != 0:
            raise InputError(f"{masks[0][0]}: instance masks without any background (no value 0, smallest {values[0]})")
        return [_from_instances(mask) for _, mask in masks], 2, kind, None
    if kind == "binary":
        return (
            [_from_classes(np.where(2 * mask > values[-1], 1, 0)) for _, mask in masks],
            2,
            kind,
            (int(values[0]), int(values[-1])),
        )
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


def decide(masks, values):
    """The reading of "auto" (rule: top of this file), given all values that occur.

    Raises InputError where it is ambiguous.
    """
    if len(values) == 2 and values[0] == 0:
        return "binary"
    if values[0] == 0:
        pieces = np.concatenate([_pieces(mask) for _, mask in masks])
        one_piece = (pieces == 1).mean()
        if len(values) - 1 > MANY_VALUES and one_piece >= MOSTLY_ONE_PIECE:
            return "instances"
        if len(values) - 1 <= MANY_VALUES and one_piece <= OFTEN_SPLIT:
            return "classes"
    shown = ", ".join(map(str, values[:6])) + (f", .. {values[-1]} ({len(values)} values)" if len(values) > 6 else "")
    raise InputError(
        f"{masks[0][0]} and the other masks hold {shown}, which can be read in more than one way; "
        "say --labels binary (above half of the largest is object; also for JPEG or blurred masks), "
        "--labels instances (each value one object) or --labels classes (each value one class)"
    )


def _pieces(mask):
    """Number of 8-connected pieces of each value of a mask but 0."""
    ranks = renumbered(mask)
    boxes = ndimage.find_objects(ranks)
    return np.array(
        [ndimage.label(ranks[box] == rank, np.ones((3, 3)))[1] for rank, box in enumerate(boxes, 1)], dtype=int
    )


def _from_instances(mask):
    instances = renumbered(mask)
    return (instances > 0).astype(np.int64), instances


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
    return order[place].astype(np.int64)
