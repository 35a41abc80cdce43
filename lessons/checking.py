"""How a check calls the reader's function: on copies, with a time limit, and with every accident explained."""

import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lessons.accidents import ADVICE, Accident, TooLong, shapes_that_meet, time_limit
from lessons.compare import Comparison, Wrong, report, same_dtype, unchanged
from lessons.verdicts import WEAK, commonest, explaining_all

NOT_SQUARE = "right for square images, wrong for others: are rows and columns exchanged somewhere?"
CHANNELS = "right where as many channels go out as come in, wrong otherwise: are they exchanged somewhere?"
IMAGES = "right for one image, wrong for several: the first axis counts the images"


def tags_of(shape, outputs=None):
    """What is special about arguments of that shape (N, H, W, C), for Check."""
    found = [IMAGES] if shape[0] > 1 else []
    found += [NOT_SQUARE] if shape[1] != shape[2] else []
    return (*found, *([CHANNELS] if outputs not in (None, shape[3]) else []))


LIMIT = 20  # seconds for one call: an endless loop must not hang the check
UNIT = 0.0005  # seconds that `machine_unit` takes at most on an idle machine; slower ones get more time


class Check:
    """The checks of a step call this object, one case after the other, the smallest first; then `verdict`."""

    def __init__(self, name, function, read, other=None, probe=None):
        """name of the function, the function itself, where it is derived; other(name): another one of the reader's.

        probe(check) finds out what the function does, in words, where no diagnosis is certain.
        """
        self.name, self.function, self.read, self.other, self.probe = name, function, read, other, probe
        code = getattr(function, "__code__", None)
        self.folder = Path(code.co_filename).parent if code else None  # errors are shown where they happened there
        self.comparisons, self.errors, self.tags = [], [], {}

    def __call__(self, case, arguments, expected, mistakes=None, *, outputs=("y",), tags=(), **more):
        """Calls function(*arguments.values()) and keeps what comes back beside `expected`, for `verdict`.

        arguments  {name: value}; arrays must not be changed
        expected   an array, or a tuple with one for each of `outputs`
        mistakes   {sentence: what it gives}: an array, or a tuple with None for what does not matter
        tags       what is special about this case, "the kernel is not 3 x 3"
        more       axes (words, or one tuple of words for each of the outputs), factors, rtol: see `compare`
        """
        self.tags[case] = tags
        try:
            found = self.call(case, arguments)
        except Accident as accident:
            self.errors.append((case, accident))
            return
        if isinstance(expected, tuple):
            found = self.unpacked(case, found, outputs)
            mistakes = {s: r if isinstance(r, tuple) else (r,) * len(outputs) for s, r in (mistakes or {}).items()}
        else:
            found, expected, mistakes = (found,), (expected,), {s: (r,) for s, r in (mistakes or {}).items()}
        names = [f"{name} of {self.name}" for name in outputs]
        self.keep(case, names, found, expected, mistakes, **more)

    def keep(self, case, names, found, expected, mistakes, *, axes=(), factors=None, rtol=1e-6):
        """Results and expected ones, for `verdict`; mistakes {sentence: a result for each of the names}."""
        several = bool(axes) and not isinstance(axes[0], str)
        for number, (name, mine, right) in enumerate(zip(names, found, expected)):
            own = {sentence: results[number] for sentence, results in mistakes.items()}
            words = axes[number] if several else axes
            self.comparisons.append(Comparison(name, mine, right, own, factors or {}, words, case, rtol))

    def unpacked(self, case, found, outputs):
        if isinstance(found, (tuple, list)) and len(found) == len(outputs):
            return tuple(found)
        count = f"{len(found)} results" if isinstance(found, (tuple, list)) else f"one {type(found).__name__}"
        wanted = f"{len(outputs)} were expected: return {', '.join(outputs)}"
        raise Wrong(report([f"{self.name} returns {count}: {case}"], wanted, self.read))

    def verdict(self):
        """Raises Wrong with the first wrong case and the diagnosis that fits best to all of them."""
        wrong = [comparison for comparison in self.comparisons if comparison.wrong]
        if not wrong and not self.errors:
            return
        sentence = explaining_all(self.comparisons, wrong)
        if sentence:
            first = next(c for c in wrong if c.shows(c.mistakes.get(sentence)) and c.fits(c.mistakes[sentence]))
            raise Wrong(report(first.lines, sentence, self.read))
        special = self.only_special(wrong)
        if self.errors:
            case, accident = self.errors[0]
            raise Wrong(report(accident.lines, special or self.probed() or accident.advice, self.read))
        shown, kind, sentence = commonest(wrong)
        if special:
            more = wrong[0].general()[1]
            shown, sentence = wrong[0], f"{special}. There: {more}" if more else special
        elif kind in WEAK:
            sentence = self.probed() or sentence
        raise Wrong(report(shown.lines, sentence, self.read))

    def probed(self):
        """What the probe says, or None; whatever happens in it."""
        if self.probe is None:
            return None
        try:
            with time_limit(LIMIT), np.errstate(all="ignore"):
                return self.probe(self)
        except Exception:
            return None

    def only_special(self, wrong):
        """What the wrong cases have in common that no right one has, or None."""
        bad = {comparison.case for comparison in wrong} | {case for case, _ in self.errors}
        for tag in dict.fromkeys(tag for tags in self.tags.values() for tag in tags):
            tagged = {case for case, tags in self.tags.items() if tag in tags}
            if bad == tagged and len(tagged) < len(self.tags):
                return tag
        return None

    def call(self, case, arguments):
        """The result of the reader's function on copies of the arguments, which must stay as they are."""
        given = [copied(value) for value in arguments.values()]
        with self.explained(case), nothing_by_chance():
            found = self.function(*given)
        for (name, before), after in zip(arguments.items(), given):
            inner = before.items() if isinstance(before, dict) else [(None, before)]
            for key, array in inner:
                if isinstance(array, np.ndarray):
                    now = after if key is None else after[key]
                    unchanged(name if key is None else f'{name}["{key}"]', array, now, self.read)
        return found

    def keeps_float32(self, arguments, outputs=("y",)):
        """float32 in, float32 out: the training would be half as fast otherwise."""
        self.verdict()
        arguments = {name: as_float32(value) for name, value in arguments.items()}
        found = self.call("float32 arguments", arguments)
        for name, array in zip(outputs, found if len(outputs) > 1 else (found,)):
            same_dtype(f"{name} of {self.name}", array, np.float32, self.read)

    def fast(self, case, arguments, seconds, how):
        """The best of a few calls; `seconds` grow on a machine that is slower or busy."""
        self.verdict()
        allowed = seconds * max(1.0, machine_unit() / UNIT)
        best = np.inf
        for _ in range(5):
            with self.explained(case, max(20 * allowed, 2), how):
                started = time.perf_counter()
                self.function(*arguments.values())
                best = min(best, time.perf_counter() - started)
            if best < allowed:
                return
        first = f"{self.name} is right, but too slow: {case} took {best:.3f} s, allowed are {allowed:.3f} s"
        raise Wrong(report([first], f"too slow for the training at the end. {how}", self.read))

    @contextmanager
    def explained(self, case, limit=LIMIT, advice=None):
        """Whatever happens in the reader's function becomes an Accident with the line where it happened."""
        try:
            with time_limit(limit), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                yield
        except (Wrong, NotImplementedError):
            raise
        except TooLong:
            why = advice or "an endless loop, or a loop over single elements: let NumPy work on whole arrays"
            raise Wrong(
                report([f"{self.name} was stopped after {limit:.0f} seconds: {case}"], why, self.read)
            ) from None
        except RecursionError:
            why = "recursion without an end"
            raise Wrong(report([f"{self.name} calls itself without end: {case}"], why, self.read)) from None
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            lines = [f"{self.name} stopped with an error: {case}", f"  error        {text[:300]}"]
            frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == self.folder]
            if frames:
                place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"
                lines.append(f"  where        {place}: {frames[-1].line or ''}".rstrip())
            found = (advice for word, advice in ADVICE if word in text)
            advice = shapes_that_meet(text) or next(found, "read the error and look at that line")
            raise Accident(lines, advice) from None

    def fail(self, first_line, diagnosis):
        raise Wrong(report([first_line], diagnosis, self.read))


@contextmanager
def nothing_by_chance():
    """np.empty gives NaN meanwhile: memory used before may hold the right numbers of another call."""
    usual = np.empty, np.empty_like

    def filled(array):
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    np.empty = lambda *a, **k: filled(usual[0](*a, **k))
    np.empty_like = lambda *a, **k: filled(usual[1](*a, **k))
    try:
        yield
    finally:
        np.empty, np.empty_like = usual


def copied(value):
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value


def as_float32(value):
    if isinstance(value, dict):
        return {key: as_float32(inner) for key, inner in value.items()}
    floating = isinstance(value, np.ndarray) and value.dtype == np.float64
    return value.astype(np.float32) if floating else value


def machine_unit():
    """Seconds for a fixed piece of NumPy work: products of small matrices and passes over memory."""
    a, b = np.ones((9604, 8), np.float32), np.ones((8, 8), np.float32)
    best = np.inf
    for _ in range(3):
        started = time.perf_counter()
        total = np.zeros((9604, 8), np.float32)
        for _ in range(9):
            total += a @ b
        best = min(best, time.perf_counter() - started)
    return best
