"""compare: a check that says which element is wrong, and why.

    compare("dx", got, expected, mistakes={"the kernel is not turned": other})

raises `Wrong` unless got equals expected. Its message shows the first wrong element with both values, and a diagnosis
where there is one. A diagnosis comes from two places: `mistakes` holds what a known mistake would give for these very
arguments, sentence by sentence; and `diagnose.GENERAL` looks for what happens everywhere, such as a sign, a factor, a
transposed axis or a shift by one. The checks of the exercises and of lessons/build use it.
"""

import numpy as np

from lessons import diagnose


class Wrong(AssertionError):
    """An answer that is not right. The message is for the person who wrote it."""


def compare(name, got, expected, mistakes=None, *, factors=None, axes=(), case="", read="", rtol=1e-6):
    """Raises `Wrong` unless got equals expected in shape and values, up to rounding; dtypes are `same_dtype`'s.

    name      what is compared: "dx"
    expected  an array or a number; `got` may be anything
    mistakes  {sentence: what that mistake gives}; the result of a mistake may have any shape
    factors   {"pixels": 24}: numbers whose presence as a factor means something
    axes      a word for each axis of expected: ("image", "row", "column", "channel")
    case      for which arguments; read: where the derivation stands
    rtol      allowed difference, relative to the largest magnitude in expected
    """
    found = Comparison(name, got, expected, mistakes or {}, factors or {}, axes, case, rtol)
    if found.wrong:
        raise Wrong(report(found.lines, found.known() or found.general()[1] or found.two_mistakes(), read))


class Comparison:
    """One array beside what it should be: `wrong`, the `lines` that say where, and what may have caused it."""

    def __init__(self, name, got, expected, mistakes, factors, axes, case, rtol):
        self.expected = np.asarray(expected)
        self.mistakes, self.factors, self.axes, self.rtol, self.case = mistakes, factors, axes, rtol, case
        self.name = name
        self.lines = [f"{name} is wrong" + (f": {case}" if case else "")]
        self.strange = not_an_array(got)
        self.got = None if self.strange else np.asarray(got)
        self.places, self.wrong = None, bool(self.strange)
        if not self.strange and self.got.shape != self.expected.shape:
            self.wrong = True
            self.lines.append(f"  shape        yours {self.got.shape}, expected {self.expected.shape}")
        elif not self.strange:
            self.places = diagnose.differs(self.got, self.expected, rtol)
            self.wrong = bool(self.places.any())
            if self.wrong:
                self.lines += first_wrong(name, self.got, self.expected, self.places)

    def fits(self, result):
        """Is `result`, that of a mistake, what came back? None if that says nothing here."""
        if result is None or self.got is None:
            return None
        return diagnose.same(self.got, np.asarray(result), self.rtol)

    def shows(self, result):
        """Would this mistake be seen here at all?"""
        return result is not None and not diagnose.same(np.asarray(result), self.expected, self.rtol)

    def known(self):
        """The sentence of the first mistake that gives exactly this, or None."""
        for sentence, result in self.mistakes.items():
            if self.shows(result) and self.fits(result):
                return sentence
        return None

    def general(self):
        """(kind, sentence) of a mistake that can happen everywhere, or (None, None)."""
        if self.strange:
            return "strange", self.strange
        if self.places is None:
            return "shape", diagnose.shape(self.got, self.expected, self.axes)
        return diagnose.values(self.got, self.expected, self.places, self.factors, self.axes, self.rtol)

    def two_mistakes(self):
        """A known mistake together with a sign or a factor."""
        for sentence, result in self.mistakes.items():
            if self.places is None or result is None or np.shape(result) != self.got.shape or np.size(result) < 3:
                continue
            factor = diagnose.ratio(self.got, np.asarray(result), None, self.factors, (), self.rtol)
            if factor:
                return f"two mistakes. One: {sentence}. The other: {factor}"
        return None


def report(lines, diagnosis="", read=""):
    """The lines of a message with its last two."""
    lines = [*lines, f"  diagnosis    {diagnosis or 'none found; work out this element by hand'}"]
    return "\n".join([*lines, f"  read         {read}"] if read else lines)


def not_an_array(got):
    """What is wrong with something that is no array of numbers, or None."""
    if got is None:
        return "nothing came back: is there a `return`?"
    if got is NotImplemented or callable(got):
        return f"a {type(got).__name__} came back, not numbers: are the brackets of a call missing?"
    if isinstance(got, dict):
        return "a dict came back where an array was expected"
    try:
        array = np.asarray(got)
    except ValueError:
        return f"a {type(got).__name__} of pieces of different shapes came back where one array was expected"
    if array.dtype.kind == "c":
        return "the numbers are complex: was a root or a logarithm taken of something negative?"
    if array.dtype.kind not in "biuf":
        return f"a {type(got).__name__} came back that holds no plain numbers"
    return None


def first_wrong(name, got, expected, wrong):
    """Two lines: the first wrong element with both values and their ratio, and how many there are."""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    mine, right = got[place], expected[place]
    where = f"at [{', '.join(map(str, place))}] " if place else ""
    ratio = f" (ratio {mine / right:.6g})" if right and np.isfinite(mine) and mine else ""
    lines = [f"  first wrong  {where}yours is {number(mine)}, expected {number(right)}{ratio}"]
    if expected.size > 1:
        lines.append(f"  how many     {np.count_nonzero(wrong)} of {expected.size} elements are wrong")
    return lines


def number(value):
    """A number as one reads it."""
    return str(value) if np.asarray(value).dtype.kind in "biu" else f"{float(value):.7g}"


def same_dtype(name, got, expected, read=""):
    """Raises `Wrong` unless got is an array of numbers of dtype `expected`."""
    found = np.asarray(got).dtype
    if found != expected:
        why = "np.zeros and np.ones make float64 unless they get a dtype; a float64 array turns float32 into float64"
        if found.kind in "biu":
            why = "the result was put into an array of integers or truth values"
        raise Wrong(report([f"{name} has dtype {found}, expected {np.dtype(expected)}"], why, read))


def unchanged(name, before, after, read=""):
    """Raises `Wrong` if a function has written into its argument `name`: arrays before and after the call."""
    wrong = diagnose.differs(after, before, 0)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        lines = [
            f"the argument {name} has been changed",
            f"  first changed {name}[{', '.join(map(str, place))}]: was {number(before[place])}, "
            f"is now {number(after[place])}",
        ]
        why = (
            "the function writes into its argument, also for the caller: `+=`, `-=`, `*=` and `a[...] =` change an "
            "array in place, and a slice is no copy. Make a new array, or take .copy() first"
        )
        raise Wrong(report(lines, why, read))
