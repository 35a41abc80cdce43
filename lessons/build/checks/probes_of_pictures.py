"""Probes, as in probes.py, of the functions behind the energy."""

import numpy as np

from lessons.build import network
from lessons.build.checks.probes import close, listed, one


def weight_map(check):
    """The border term of one background pixel with cells at chosen distances to its left and right."""

    def term(d1, d2, w0=10.0, sigma=5.0):
        row = np.zeros((1, d1 + d2 + 1), int)
        row[0, 0], row[0, -1] = 1, 2
        return float(np.asarray(check.function(row, w0, sigma))[0, d1]) - 1

    said = []
    cells = np.repeat([[1, 1, 1, 0, 0, 2, 2, 2]], 3, axis=0)
    weights = np.asarray(check.function(cells, 10.0, 5.0))
    if not close(weights[cells > 0], np.ones(18)):
        said.append(f"pixels of a cell should have weight 1; yours gives some of them {weights[cells > 0].max():.4g}")
    if not close(term(2, 3, w0=20.0), 2 * term(2, 3)):
        said.append("w0 twice as large should make the second term twice as large; is 10 written into the function?")
    if close(term(2, 3, sigma=2.0), term(2, 3)):
        said.append("sigma changes nothing: is 5 written into the function?")
    if not close(term(1, 5), term(3, 3)):
        said.append(
            f"d1 + d2 = 6 in both: {term(1, 5):.4g} for 1 and 5, {term(3, 3):.4g} for 3 and 3; only the sum counts"
        )
    found = [-np.log(term(d, d) / 10) / (4 * d * d) for d in (1, 3)]
    if not said and not np.allclose(found, 0.02):
        said.append(f"the exponent is {found[1]:.4g} (d1 + d2)^2 for 3 and 3; 1 / (2 sigma^2) = 0.02 is right")
    return listed(said)


def linear(check, names, right, outputs, **constants):
    """Which multiples of its arguments a function returns, against the right ones."""
    said = []
    for number, output in enumerate(outputs):
        found = {}
        for name in names:
            values = {n: np.array([1.0 if n == name else 0.0]) for n in names}
            found[name] = float(np.ravel(check.function(*values.values(), *constants.values())[number])[0])
        if not close(list(found.values()), list(right[number].values())):
            said.append(f"the new {output} is {combination(found)}; {combination(right[number])} is right")
    return listed(said)


def combination(factors):
    return " + ".join(f"{factor:g} {name}" for name, factor in factors.items() if factor) or "0"


def momentum_step(check):
    right = {"value": 1, "gradient": -0.1, "velocity": -0.05}, {"value": 0, "gradient": 1, "velocity": 0.5}
    names, outputs = ("value", "gradient", "velocity"), ("value", "velocity")
    return linear(check, names, right, outputs, learning_rate=0.1, momentum=0.5)


def adam_step(check):
    def running(*numbers):
        arrays = [np.array([float(n)]) for n in numbers]
        return [float(np.ravel(a)[0]) for a in check.function(*arrays, 2, 0.1, 0.5, 0.75, 1e-8)]

    said = []
    for numbers, right in (((0, 3, 0, 0), (1.5, 2.25)), ((0, 0, 1, 0), (0.5, 0)), ((0, 0, 0, 1), (0, 0.75))):
        found = running(*numbers)[1:]
        if not close(found, right):
            given = ", ".join(f"{n} = {v}" for n, v in zip(("g", "m", "s"), numbers[1:]))
            said.append(
                f"with {given}, betas 1/2 and 3/4, m and s become {found[0]:.4g} and {found[1]:.4g}; {right} is right"
            )
    moved = running(0, 1, 1, 1)[0]
    right = -0.1 * (1 / 0.75) / ((1 / 0.4375) ** 0.5)
    if not said and not close(moved, right):
        said.append(
            f"g = m = s = 1, t = 2, betas 1/2 and 3/4: p moves by {moved:.4g}, {right:.4g} is right; look at M and S"
        )
    return listed(said)


def displacement_field(check):
    """The shares of the three points along each axis."""
    said, size, t = [], 9, np.linspace(0, 2, 9)
    right = 1 - abs(1 - t) + -0.5 * (np.minimum(t, 2 - t) ** 3 - np.minimum(t, 2 - t))
    for axis, name in ((0, "rows"), (1, "columns")):
        vectors = np.zeros((2, 3, 3))
        middle = (0, 1, slice(None)) if axis == 0 else (0, slice(None), 1)
        vectors[middle] = 1
        field = np.asarray(check.function(vectors, size))[0]
        line = field[:, 0] if axis == 0 else field[0]
        if not close(line, right):
            shares = " ".join(f"{v:.3g}" for v in line[:5])
            right_ones = "0 0.367 0.688 0.914 1 is right"
            said.append(f"the middle point's shares along the {name}, t = 0 .. 1, are {shares}; {right_ones}")
    constant = np.asarray(check.function(np.ones((2, 3, 3)), size))
    if not close(constant, np.ones((2, size, size))):
        said.append(
            "nine equal vectors should move every pixel alike; yours does not: the three shares must add up to 1"
        )
    return listed(said)


def overlap_tile(check):
    """Which rows and columns the tiles read."""
    shape, tile, output, grid = (11, 13), 16, 10, 4
    image, border, read = np.arange(143.0).reshape(*shape, 1), 3, []

    def network_that_looks(x):
        read.append(np.array(x))
        return np.zeros((output, output, 2))

    check.function(network_that_looks, image, tile, output, grid)
    starts = [(top, left) for top in (0, 8) for left in (0, 8)]
    begun = [beginning(seen, border, tile) for seen in read if seen.shape[:2] == (tile, tile)]
    if None not in begun and begun != starts:
        return (
            f"the tiles answer from (row, column) {' '.join(map(str, begun))} on; {' '.join(map(str, starts))} is right"
        )
    if len(read) != len(starts):
        return f"for 11 x 13 pixels and an output of 10, stride 8, the network is asked {len(read)} times; 4 is right"
    for (top, left), seen in zip(starts, read):
        if seen.shape[:2] != (tile, tile):
            return None
        for axis, begin, length in ((0, top, 11), (1, left, 13)):
            values = seen[:, 0, 0] // 13 if axis == 0 else seen[0, :, 0] % 13
            right = [mirrored(p, length) for p in range(begin - border, begin - border + tile)]
            if values.tolist() != right:
                word = ("rows", "columns")[axis]
                mine = " ".join(f"{v:g}" for v in values)
                theirs = " ".join(map(str, right))
                return f"the tile for row {top}, column {left} reads the {word} {mine}; {theirs} is right"
    return "the tiles are read as they should be; look at where their answers are put"


def beginning(seen, border, tile):
    """For which pixel a tile answers first, if what it reads is mirrored as it should be."""
    found = []
    for values, length in ((seen[:, 0, 0] // 13, 11), (seen[0, :, 0] % 13, 13)):
        fits = [s for s in range(-30, 30) if values.tolist() == [mirrored(s - border + i, length) for i in range(tile)]]
        if not fits:
            return None
        found.append(min(fits, key=abs))
    return tuple(found)


def mirrored(position, length):
    while not 0 <= position < length:
        position = -position if position < 0 else 2 * (length - 1) - position
    return position


def v_rand(check):
    """What must not change the score."""
    rng = np.random.default_rng(5)
    regions, truth = rng.integers(1, 4, (6, 6)), rng.integers(1, 4, (6, 6))
    score = check.function(regions, truth)
    said = []
    if not close(check.function(7 * regions, truth), score):
        said.append("other numbers for the same regions change the score; they are only names")
    if not close(check.function(truth, regions), score):
        said.append("without background the score is the same with regions and truth exchanged; yours is not")
    large = regions.repeat(2, 0).repeat(2, 1), truth.repeat(2, 0).repeat(2, 1)
    if not close(check.function(*large), score):
        said.append("twice the resolution changes the score: are pixels counted where pairs should be?")
    outside = np.zeros((6, 3), int)
    padded = np.hstack([regions, rng.integers(1, 9, (6, 3))]), np.hstack([truth, outside])
    if not close(check.function(*padded), score):
        said.append("regions where the truth has no cell change the score; they should not count")
    if said:
        return listed(said)
    return "right where every pixel has a region; pixels of a cell that are in no region are not counted as they should"


def f23(check):
    """The products that each result is made of."""
    said = []
    for number in (0, 1):
        found, right = {}, {}
        for i, j in np.ndindex(4, 3):
            name = f"d{i} g{j}"
            found[name] = float(check.function(list(one(4, i)), list(one(3, j)))[number])
            right[name] = float(i - j == number)
        if found != right:
            said.append(f"y{number} is {combination(found)}; {combination(right)} is right")
    return listed(said)


def unet_forward(check):
    """Parameters without influence; then which of the ways through the U is right by itself."""
    rng = np.random.default_rng(6)
    parameters, x = network.random_parameters(2, 1, rng), rng.standard_normal((1, 28, 28, 1))
    idle = without_influence(check, parameters, x, rng)
    if idle:
        return f"{idle} has no influence on the logits: is it used?"

    def right(parameters, x):
        return close(check.function(x.copy(), dict(parameters), 1)[0], network.forward(x, parameters, 1)[0])

    positive = {name: np.abs(array) for name, array in parameters.items()}
    first = "expansive.0.conv1.weight"
    halves = [parameters[first] * (np.arange(4) // 2 == half)[:, None] for half in (0, 1)]
    ways = [right(parameters | {first: half}, x) for half in halves]
    said = []
    if right(positive, np.abs(x)):
        said.append("with positive numbers, where no ReLU does anything, yours is right: look at the ReLUs")
    if ways == [True, False]:
        said.append("the way through the bottleneck is right by itself, that through the skip is not")
    if ways == [False, True]:
        said.append(
            "the way through the skip is right by itself, that through pooling, bottleneck and up-convolution is not"
        )
    return listed(said)


def without_influence(check, parameters, x, rng):
    """The first parameter that changes nothing, or None."""
    logits = np.asarray(check.function(x.copy(), dict(parameters), 1)[0])
    for name, array in parameters.items():
        changed = parameters | {name: array + 0.1 * rng.standard_normal(array.shape)}
        if np.array_equal(check.function(x.copy(), changed, 1)[0], logits):
            return name
    return None
