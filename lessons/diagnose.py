"""What a wrong array says about the mistake that made it.

Each function looks for one kind of mistake and returns a sentence, or None. `values` asks them in turn, the most
certain first. `wrong` (a bool array) marks the elements that differ.
"""

import itertools

import numpy as np


def differs(got, expected, rtol):
    """Where two arrays of one shape differ by more than rtol times the largest magnitude in expected."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    finite = expected[np.isfinite(expected)]
    scale = float(np.abs(finite).max()) if finite.size else 1.0
    with np.errstate(invalid="ignore"):
        equal = (np.abs(got - expected) <= rtol * (scale or 1.0)) | (got == expected)
    return ~(equal | (np.isnan(got) & np.isnan(expected)))


def same(got, expected, rtol):
    """Equal shape and equal values."""
    return got.shape == expected.shape and not differs(got, expected, rtol).any()


def axis_name(axes, axis):
    return f"axis {axis} ({axes[axis]})" if axis < len(axes) else f"axis {axis}"


def shape(got, expected, axes=()):
    """A sentence about a wrong shape."""
    mine, right = got.shape, expected.shape
    if got.size == expected.size and len(mine) == len(right) and sorted(mine) == sorted(right):
        order = next(p for p in itertools.permutations(range(len(mine))) if tuple(mine[i] for i in p) == right)
        return f"the axes are in another order: yours, transposed by {order}, has the expected shape"
    if [n for n in mine if n != 1] == [n for n in right if n != 1]:
        return "an axis of length 1 is too many or missing: see keepdims, [None] and indexing with a number"
    if len(mine) != len(right):
        fewer = "few" if len(mine) < len(right) else "many"
        return f"{len(mine)} axes are too {fewer}, expected {len(right)}: was a sum taken over the wrong axes?"
    wrong = [axis for axis in range(len(mine)) if mine[axis] != right[axis]]
    names = " and ".join(axis_name(axes, axis) for axis in wrong)
    if all(mine[axis] == 2 * right[axis] for axis in wrong):
        return f"{names} is twice as long as it should be"
    if all(2 * mine[axis] == right[axis] for axis in wrong):
        return f"{names} is half as long as it should be"
    gaps = {mine[axis] - right[axis] for axis in wrong}
    if len(gaps) == 1 and abs(gap := gaps.pop()) <= 2:
        more = "too long" if gap > 0 else "too short"
        return f"{names} is {more} by {abs(gap)}: count the positions once more, the first and the last with them"
    return f"{names} has another length"


def values(got, expected, wrong, factors, axes, rtol):
    """(name, sentence) of the first of the general diagnoses that has one, or (None, None)."""
    for diagnosis in GENERAL:
        sentence = diagnosis(got, expected, wrong, factors, axes, rtol)
        if sentence:
            return diagnosis.__name__, sentence
    return None, None


def not_finite(got, expected, wrong, factors, axes, rtol):
    if np.isnan(got).any():
        return (
            "NaN: something like 0 / 0, inf - inf, or log of a negative number. "
            "Was the largest subtracted before exp? Is an array from np.empty filled everywhere?"
        )
    if np.isinf(got).any():
        return "infinite: exp of a large number, log of 0, or a division by 0. Write it as a difference instead"
    return None


def all_zero(got, expected, wrong, factors, axes, rtol):
    if not got.any():
        return "zero everywhere: the result was never written into the array that is returned"
    if got.size > 2 and (got == got.flat[0]).all() and not (expected == expected.flat[0]).all():
        return "the same number everywhere: a sum or a mean over too many axes, or one value written to all places"
    return None


def ratio(got, expected, wrong, factors, axes, rtol):
    """One factor for all elements: a sign, a power of two, or one of the named numbers."""
    largest = np.unravel_index(np.argmax(np.abs(expected)), expected.shape)
    if not expected[largest] or not got[largest]:
        return None
    factor = float(got[largest]) / float(expected[largest])
    if not np.isfinite(got).all() or not np.isfinite(expected).all():
        return None
    if not same(got, factor * expected, max(rtol, 1e-9)) or abs(factor - 1) < 1e-4:
        return None
    if abs(factor + 1) < 1e-6:
        return "the sign: every element is the negative of the expected one"
    sign = "the sign, and a factor: " if factor < 0 else ""
    factor = abs(factor)
    for name, value in factors.items():
        if abs(factor - value) < 1e-5 * value:
            return f"{sign}yours is {value:g} times as large, and {value:g} is the number of {name}: a sum for a mean?"
        if abs(factor * value - 1) < 1e-5:
            return (
                f"{sign}yours is {value:g} times too small, and {value:g} is the number of {name}: "
                "a mean for a sum, or divided twice?"
            )
    if sign and abs(factor - 1) < 1e-6:
        return "the sign"
    if got.size == 1:
        return None
    times = f"{factor:.6g} times as large" if factor > 1 else f"{1 / factor:.6g} times too small"
    return f"{sign}every element is {times}: a constant factor is forgotten or one too many"


def offset(got, expected, wrong, factors, axes, rtol):
    """The same difference everywhere, or for each index of the last axis."""
    if got.size < 3:
        return None
    difference = got.astype(np.float64) - expected
    if same(difference, np.broadcast_to(difference.flat[0], got.shape), rtol):
        return f"every element is off by the same {difference.flat[0]:.6g}: a constant is forgotten or one too many"
    if got.ndim > 1 and same(difference, np.broadcast_to(difference[(0,) * (got.ndim - 1)], got.shape), rtol):
        return f"off by the same numbers at every place of the last {axis_name(axes, got.ndim - 1)}: look at the bias"
    return None


def flipped(got, expected, wrong, factors, axes, rtol):
    """Read backwards along some axes."""
    for count in range(1, got.ndim + 1):
        for chosen in itertools.combinations(range(got.ndim), count):
            if same(np.flip(got, chosen), expected, rtol):
                names = " and ".join(axis_name(axes, axis) for axis in chosen)
                return f"the right numbers, but read backwards along {names}: the kernel or the image is flipped"
    return None


def transposed(got, expected, wrong, factors, axes, rtol):
    for order in itertools.permutations(range(got.ndim)):
        if order != tuple(range(got.ndim)) and same(got.transpose(order), expected, rtol):
            swapped = " and ".join(axis_name(axes, a) for a in range(got.ndim) if order[a] != a)
            return f"transposed: the right numbers with {swapped} exchanged"
    return None


def shifted(got, expected, wrong, factors, axes, rtol):
    """By one or two places along one axis or along two at once."""
    steps = [s for s in itertools.product((0, 1, -1), repeat=got.ndim) if any(s)]
    steps += [tuple(2 * sign * (a == axis) for a in range(got.ndim)) for axis in range(got.ndim) for sign in (1, -1)]
    for step in sorted(steps, key=lambda s: sum(map(abs, s))):
        if any(abs(s) * 2 >= n for s, n in zip(step, got.shape) if s):
            continue
        mine = got[tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(step, got.shape))]
        right = expected[tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(step, got.shape))]
        if mine.size > 2 and np.ptp(right) and not differs(mine, right, rtol).any():
            names = " and ".join(f"{abs(s)} along {axis_name(axes, a)}" for a, s in enumerate(step) if s)
            return f"shifted by {names}: the right numbers stand beside their places"
    return None


RELATIONS = [
    ("1 - expected", lambda e: 1 - e),
    ("the square of the expected", lambda e: e * e),
    ("the root of the expected: a square root too many", lambda e: np.sqrt(np.maximum(e, 0))),
    ("the expected without its signs", np.abs),
    ("the exponential of the expected", lambda e: np.exp(np.minimum(e, 50))),
    ("the logarithm of the expected", lambda e: np.log(np.where(e > 0, e, 1))),
    ("the expected, but negative numbers have become 0: a ReLU too many", lambda e: np.maximum(e, 0)),
    ("the expected, but rounded to whole numbers: an array of integers?", np.trunc),
]


def related(got, expected, wrong, factors, axes, rtol):
    """Another function of the right numbers."""
    if len(np.unique(expected)) < 3:
        return None
    for sentence, function in RELATIONS:
        with np.errstate(all="ignore"):
            if same(got, function(expected.astype(np.float64)), max(rtol, 1e-9)):
                return f"yours is {sentence}"
    if expected.min(initial=0) >= 0 > got.min(initial=0) and same(np.maximum(got, 0), expected, rtol):
        return "right where the expected number is positive; negative ones should have become 0: a ReLU is missing"
    return None


def only_some_places(got, expected, wrong, factors, axes, rtol):
    """Right everywhere but at some indices of an axis."""
    for axis, length in enumerate(got.shape):
        word = axes[axis] if axis < len(axes) else "index"
        if length < (2 if word == "image" else 3):
            continue
        others = tuple(a for a in range(got.ndim) if a != axis)
        bad = np.flatnonzero(wrong.any(axis=others))
        if len(bad) == length:
            continue
        name = axis_name(axes, axis)
        if len(bad) == length - 1 and 0 not in bad:
            return f"right for {word} 0 only: along {name} the others are not treated like the first"
        if bad.tolist() == [length - 1]:
            return f"wrong for the last {word} only: does a loop or a slice along {name} end one too early?"
        if bad.tolist() == [0]:
            return f"wrong for {word} 0 only: does a loop or a slice along {name} begin one too late?"
        if length > 3 and (np.all(bad % 2 == 0) or np.all(bad % 2 == 1)) and len(bad) >= length // 2:
            parity = "even" if bad[0] % 2 == 0 else "odd"
            return f"wrong for every {parity} {word} and right for the rest: look at the step of the slices on {name}"
        if set(bad) <= {0, length - 1} and length > 2:
            return f"wrong at the border only, at {word} {' and '.join(map(str, bad))} of {name}"
        return f"wrong only for {word} {', '.join(map(str, bad[:6]))} of {name}, right for the rest"
    return None


def border(got, expected, wrong, factors, axes, rtol):
    """Wrong in a frame, right inside: some axis pair where only outer indices are wrong."""
    if got.ndim < 2:
        return None
    pairs = [(1, 2)] if got.ndim == 4 else [(got.ndim - 2, got.ndim - 1)]
    for a, b in pairs:
        inner = [slice(None)] * got.ndim
        inner[a] = inner[b] = slice(1, -1)
        if min(got.shape[a], got.shape[b]) > 2 and not wrong[tuple(inner)].any():
            return "right inside, wrong in the outermost frame of pixels: the border is treated differently"
    return None


def other_order(got, expected, wrong, factors, axes, rtol):
    if got.size > 2 and same(np.sort(got.ravel()), np.sort(expected.ravel()), rtol):
        return "the right numbers at wrong places: look at the order of axes before each reshape, and at the indices"
    return None


def mixed_sign(got, expected, wrong, factors, axes, rtol):
    """Right magnitudes, some signs wrong."""
    if same(np.abs(got), np.abs(expected), rtol):
        return "the sign, of some elements: the magnitudes are right"
    return None


def zeros_instead(got, expected, wrong, factors, axes, rtol):
    if not got[wrong].any():
        return "what is wrong is 0: those places were never written, or were multiplied by 0"
    if not expected[wrong].any():
        return "where yours is wrong, 0 was expected: something arrives at places that should get nothing"
    return None


def rounding(got, expected, wrong, factors, axes, rtol):
    if same(got, expected, 3e-3):
        return "right but for the third digit or later: float32 or a rounded constant on the way, or an approximation"
    return None


GENERAL = [
    not_finite,
    all_zero,
    ratio,
    offset,
    flipped,
    transposed,
    shifted,
    related,
    mixed_sign,
    other_order,
    rounding,
    only_some_places,
    border,
    zeros_instead,
]
