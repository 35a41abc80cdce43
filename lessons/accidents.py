"""Errors and endless loops in the reader's functions, explained."""

import re
import signal
from contextlib import contextmanager

from lessons.compare import Wrong, report


class TooLong(Exception):
    """The time is up."""


class Accident(Wrong):
    """An error in the reader's function."""

    def __init__(self, lines, advice):
        super().__init__(report(lines, advice))
        self.lines, self.advice = lines, advice


@contextmanager
def time_limit(seconds):
    """Raises TooLong in the main thread after that many seconds; does nothing where the system has no such clock."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def shapes_that_meet(text):
    """Advice for "operands could not be broadcast together with shapes (2,3) (3,2)", or None."""
    if "broadcast" not in text:
        return None
    shapes = [tuple(int(n) for n in found.split(",") if n) for found in re.findall(r"\(([\d,]+)\)", text)][:2]
    if len(shapes) < 2:
        return None
    a, b = shapes
    if len(a) != len(b):
        return f"{len(a)} axes meet {len(b)}: has a sum or a maximum lost its axis? keepdims=True keeps it"
    differ = [axis for axis in range(len(a)) if a[axis] != b[axis]]
    if len(a) == 4 and differ == [1, 2] and a[1:3] == b[2:0:-1]:
        return "rows and columns are exchanged in one of the two"
    words = ("images", "rows", "columns", "channels") if len(a) == 4 else ("",) * len(a)
    each = ", ".join(f"axis {n} {words[n]}".rstrip() + f": {a[n]} against {b[n]}" for n in differ)
    return f"the two shapes differ in {each}. Print both before that line"


ADVICE = [
    (
        "must match exactly",
        "the pieces that are joined differ in size; beware of slices such as x[t:-t], empty for t = 0",
    ),
    ("broadcast", "two arrays of different shapes meet. Print both shapes before that line; axes are (N, H, W, C)"),
    ("matmul", "the inner sizes of a matrix product differ: (..., C) @ (C, K). Is a .T missing, or one too many?"),
    ("not aligned", "the inner sizes of a matrix product differ: (..., C) @ (C, K). Is a .T missing, or one too many?"),
    ("out of bounds", "an index runs past the end of an axis: count the positions once more"),
    ("out of range", "an index runs past the end: count the positions once more"),
    ("read-only", "it tries to write into something that belongs to the caller"),
    ("reshape", "the number of elements does not fit the new shape: which axes are joined?"),
    ("cast", "an array of integers or truth values cannot take floats in place"),
    ("unpack", "another number of values than expected comes out of the right-hand side"),
    ("positional argument", "the arguments of the form must stay: number and order"),
    ("is not defined", "a name is misspelt, or its import is missing"),
    ("NoneType", "a function that was called gave None back: is there a `return`?"),
    ("subscriptable", "a number, a function or None is indexed like an array"),
    ("division by zero", "a count is 0 here: what should happen then?"),
    ("overflow", "exp of a large number: subtract the largest first"),
    ("invalid value", "0 / 0, inf - inf, or the log of a negative number"),
    ("divide by zero", "log of 0, or a division by 0"),
]
