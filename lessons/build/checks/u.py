"""Checks of unet.py: a small U made of loops, forwards and backwards, parameter by parameter."""

import numpy as np

from lessons.accidents import Accident
from lessons.build import network
from lessons.compare import same_dtype

LEVELS = (
    "right with one level, wrong with two: does each level use its own skip, its own parameters, its own kept maps?"
)
AXES = ("image", "row", "column", "channel")
SIZES = {
    "depth 1, a tile of 20": (1, (1, 20, 20, 1)),
    "depth 1, two images of 22 x 20": (1, (2, 22, 20, 1)),
    "depth 2, a tile of 44": (2, (1, 44, 44, 1)),
}


def problem(seed, depth, shape):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), network.random_parameters(2, depth, rng), rng


def check_unet_forward(check):
    for seed, (case, (depth, shape)) in enumerate(SIZES.items()):
        x, parameters, _ = problem(seed, depth, shape)
        check.tags[case] = (LEVELS,) if depth > 1 else ()
        try:
            found = check.call(case, {"x": x, "parameters": parameters, "depth": depth})
        except Accident as accident:
            check.errors.append((case, accident))
            continue
        if not (isinstance(found, (tuple, list)) and len(found) == 2):
            check.fail(f"unet_forward returns one {type(found).__name__}: {case}", "return logits, kept")
        right = network.forward(x, parameters, depth)[0]
        mistakes = Variants(network.FORWARD, lambda m, a=(x, parameters, depth): [network.forward(*a, m)[0]])
        mistakes = mistakes if depth == 1 else {}  # the loops of a deep one would take seconds
        check.keep(case, ["logits of unet_forward"], found[:1], [right], mistakes, axes=AXES)
    check.verdict()
    small = {name: array.astype(np.float32) for name, array in parameters.items()}
    logits = check.call("float32 arguments", {"x": x.astype(np.float32), "parameters": small, "depth": depth})[0]
    same_dtype("logits of unet_forward", logits, np.float32, check.read)


class Variants:
    """{sentence: results of a network with that mistake}, computed only when something is wrong."""

    def __init__(self, names, compute):
        self.names, self.compute, self.done = names, compute, {}

    def items(self):
        for mistake, sentence in self.names.items():
            yield sentence, LazyResults(self, mistake)

    def results(self, mistake):
        if mistake not in self.done:
            self.done[mistake] = self.compute(mistake)
        return self.done[mistake]


class LazyResults:
    """A sequence of arrays that are computed at the first look."""

    def __init__(self, variants, mistake):
        self.variants, self.mistake = variants, mistake

    def __getitem__(self, number):
        return LazyArray(self, number)


class LazyArray:
    """NumPy's functions take it for the array that it computes."""

    def __init__(self, results, number):
        self.results, self.number = results, number

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.results.variants.results(self.results.mistake)[self.number], dtype)


def check_unet_backward(check):
    """The reader's own unet_forward, right when this is called, makes `kept`."""
    own_forward = check.other("unet_forward")
    for seed, (case, (depth, shape)) in enumerate(SIZES.items()):
        x, parameters, rng = problem(10 + seed, depth, shape)
        logits, kept = network.forward(x, parameters, depth)
        dlogits = rng.standard_normal(logits.shape)
        mine = own_forward(x.copy(), {k: v.copy() for k, v in parameters.items()}, depth)[1]
        check.tags[case] = (LEVELS,) if depth > 1 else ()
        try:
            gradients = check.call(case, {"dlogits": dlogits, "parameters": parameters, "depth": depth, "kept": mine})
        except Accident as accident:
            check.errors.append((case, accident))
            continue
        if not isinstance(gradients, dict):
            check.fail(f"unet_backward returns a {type(gradients).__name__}", "return a dict: {name: gradient}")
        wanting = [name for name in parameters if name not in gradients]
        if wanting:
            why = f"{len(wanting)} of {len(parameters)} gradients are missing, such as that of {wanting[0]}"
            check.fail(f"unet_backward: no gradient for {', '.join(wanting[:3])}: {case}", why)
        right = network.backward(dlogits, parameters, depth, kept)
        order = list(right)

        def variant(mistake, arguments=(dlogits, parameters, depth, kept), order=order):
            gradients = network.backward(*arguments, mistake)
            return [gradients[name] for name in order]

        names = [f'gradients["{name}"]' for name in order]
        mine, right = [gradients[name] for name in order], [right[name] for name in order]
        check.keep(case, names, mine, right, Variants(network.BACKWARD, variant) if depth == 1 else {})
        where_it_begins(check, case, names)
    check.verdict()


def where_it_begins(check, case, names):
    """Where no diagnosis is found it helps to know until where the way back is right."""
    for number, found in enumerate(check.comparisons[-len(names) :]):
        if found.wrong:
            until = f"right until {names[number - 1]}" if number else "wrong from the very beginning"
            found.lines.append(f"  way back     {until}, then wrong at {names[number]}")
            return
