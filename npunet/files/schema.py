"""What JSON from a file must look like before anything is done with it: `config.json`, logs, headers of checkpoints.

A shape is one of

    a type, or a tuple of types      int, (int, float), str, bool, list, dict; bool is no int, None is type(None)
    Number(low, high)                a finite number in a range; whole=True: an integer
    [shape], Each(shape)             a list, or an object of any keys, of such values
    {"key": shape, "key?": shape}    an object with these keys, those with "?" if it likes; others may be there
    (shape, None)                    that shape, or null
"""

import json
import math
from dataclasses import dataclass

from npunet.errors import InputError


@dataclass(frozen=True)
class Number:
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False

    def __str__(self):
        kind = "a whole number" if self.whole else "a finite number"
        ends = [f"{word} {end:g}" for word, end in (("from", self.low), ("to", self.high)) if math.isfinite(end)]
        return " ".join([kind, *ends])

    def fits(self, value):
        """Whether the value is such a number."""
        wanted = int if self.whole else (int, float)
        return (
            isinstance(value, wanted)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and abs(value) < math.inf
        )


@dataclass(frozen=True)
class Each:
    """An object of any keys, whose values all have one shape."""

    shape: object


STEP = Number(0, 10**15, whole=True)
RECORD = {  # a line of metrics.jsonl
    "step": STEP,
    "loss?": Number(),
    "gradient_norm?": Number(),
    "learning_rate?": Number(),
    "seconds?": Number(),
    "held_out_loss?": (Number(), None),
    "held_out?": {"pixel_accuracy": (Number(), None), "mean_iou": (Number(), None)},
}
STYLE_RECORD = {"step": STEP, "total": Number(), "seconds": Number()}  # a line of losses.jsonl
FINGERPRINTS = {"training": Each([str]), "held_out": Each([str])}
TRAINING_CONFIG = {  # config.json of npunet.train
    "options": dict,
    "network": dict,
    "held_out": [str],
    "fingerprints?": FINGERPRINTS,
    "threads?": Number(1, 10**6, whole=True),
    "data?": {"labels": str, "class_values?": ([Number(0, 2**40, whole=True)], None)},
}
GREY_RULE = ({"by": str, "low": Number(), "high": Number(), "least": Number(0)}, None)  # files.images.GreyRule
PROGRESS = {"step": STEP, "best?": Number(), "plateau?": {"factor": Number(), "best": Number(), "waited": STEP}}


def problem(value, shape, where="it"):
    """None if the value has the shape, else what is wrong, in words that begin with its place."""
    if isinstance(shape, tuple) and shape[-1] is None:
        return None if value is None else problem(value, shape[0], where)
    if isinstance(shape, Number):
        return None if shape.fits(value) else f"{where} is {shown(value)}; expected {shape}"
    if isinstance(shape, Each):
        if not isinstance(value, dict):
            return f"{where} is {shown(value)}; expected an object"
        parts = (problem(item, shape.shape, f"{where}.{name}") for name, item in value.items())
        return next((part for part in parts if part), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is {shown(value)}; expected a list"
        parts = (problem(item, shape[0], f"{where}[{number}]") for number, item in enumerate(value))
        return next((part for part in parts if part), None)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{where} is {shown(value)}; expected an object"
        for name, inner in shape.items():
            key = name.removesuffix("?")
            if key in value:
                if found := problem(value[key], inner, key if where == "it" else f"{where}.{key}"):
                    return found
            elif key == name:
                return f"{where} has no {key!r}"
        return None
    fits = isinstance(value, shape) and (not isinstance(value, bool) or shape is bool)
    return None if fits else f"{where} is {shown(value)}; expected {getattr(shape, '__name__', shape)}"


def shown(value):
    """A value in a few characters."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else text[:37] + "..."


def read_json(path):
    """What a JSON file holds. Raises InputError if it cannot be read."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file; expected JSON text")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
        raise InputError(f"{path} cannot be read ({reason})") from None


def read_lines(path, shape):
    """(the sound lines of a .jsonl file, how many are damaged). A file that is not there has none."""
    if not path.exists():
        return [], 0
    found, damaged = [], 0
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            damaged += 1
            continue
        if problem(record, shape):
            damaged += 1
        else:
            found.append(record)
    return found, damaged
