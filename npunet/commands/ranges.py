"""Which numbers an option may hold: one table for all commands, looked at before anything is read, built or written.

The upper ends are far beyond any use. They refuse what no machine can hold, and what would keep a search busy for
hours, with one line instead of an error from somewhere inside.
"""

import math
from dataclasses import dataclass

from npunet.errors import InputError


@dataclass(frozen=True)
class Range:
    """From low to high, both included unless `open_low` or `open_high` says that they are not."""

    low: float = 0
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value):
        """Whether the value lies in the range; NaN and infinity never do."""
        if not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self):
        below = "" if self.high == math.inf else f"{'below' if self.open_high else 'at most'} {self.high:,g}"
        if self.open_low and self.low == 0:
            return "a number above 0" + (f", {below}" if below else "")
        return f"at least {self.low}" + (f" and {below}" if below else "")


COUNT, LONG = Range(1, 10**6), Range(1, 10**12)
PIXELS, SHARE = Range(1, 2**20), Range(0, 1, open_high=True)
RANGES = {
    "steps": LONG,
    "epochs": LONG,
    "evaluate_every": LONG,
    "warmup": Range(0, 10**12),
    "minutes": Range(0, 10**7, open_low=True),
    "batch": COUNT,
    "held_out": COUNT,
    "classes": Range(1, 65536),
    "channels": Range(1, 65536),
    "base_channels": Range(1, 65536),
    "depth": Range(1, 30),
    "threads": Range(1, 1024),
    "seed": Range(0, 2**63),
    "tile": PIXELS,
    "size": PIXELS,
    "style_size": PIXELS,
    "photo_size": PIXELS,
    "sizes": Range(1, 20),
    "strength": Range(0, 1),
    "preview_every": LONG,
    "gap": Range(0, 1000),
    "patience": Range(1, 10**6),
    "rotation": Range(0, 10**6),
    "elastic": Range(0, 10**4),
    "grey": Range(0, 100),
    "w0": Range(0, 10**6),
    "sigma": Range(0, 10**4, open_low=True),
    "clip": Range(0, 10**30),
    "weight_decay": Range(0, 10**30),
    "learning_rate": Range(0, 10**30, open_low=True),
    "momentum": SHARE,
    "dropout": SHARE,
    "threshold": Range(0, 1),
    "scale": Range(0, 1, open_low=True),
    "by_heart": Range(0, 10**6),
    "content_weight": Range(0, 10**30),
    "style_weight": Range(0, 10**30),
    "variation_weight": Range(0, 10**30),
}


def check_stored(options, defaults, where):
    """Raises InputError if options that were read from the file `where` have other types than the commands give them.

    defaults: {name: value}, by which the types are known; options that npunet does not know are refused too.
    """
    for name, value in options.items():
        default = defaults.get(name)
        if name not in defaults:
            fits, wanted = False, "an option of this version"
        elif name in RANGES:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            whole = RANGES[name] in (COUNT, LONG, PIXELS) or isinstance(default, int)
            fits = number and (isinstance(value, int) or not whole) or value is None and default is None
            fits, wanted = fits or (name == "tile" and value == "auto"), "a whole number" if whole else "a number"
        elif isinstance(default, bool):
            fits, wanted = isinstance(value, bool), "true or false"
        else:
            fits, wanted = isinstance(value, str) or value is default, "text"
        if not fits:
            raise InputError(f"{where} is damaged: {name} is {str(value)[:40]!r}; expected {wanted}")


def check(options):
    """Raises InputError, with what was found and what was expected, for an option of {name: value} out of its range.

    Options without a row in RANGES, None, and words such as "auto" are left alone. An option without a value is refused
    whatever it is: a folder without a name would be the current one, and argparse makes [] of `--tile=--`.
    """
    for name, value in options.items():
        if isinstance(value, (str, list)) and not value:
            raise InputError(f"--{name.replace('_', '-')} is empty; give a value (of folders, . is the current one)")
        if name in RANGES and isinstance(value, (int, float)) and not RANGES[name].holds(value):
            shown = value if abs(value) < 10**30 else f"{float(min(value, 10**300)):g}"
            raise InputError(f"--{name.replace('_', '-')} is {shown}; expected {RANGES[name]}")
