"""What a function does, found out by asking it: the last resort where no known mistake fits.

A probe calls the reader's function with arguments that are 0 but for one element, or that differ in one number, and
says in words what comes out. It returns a sentence, or None where it sees nothing wrong. `Check.verdict` calls it
inside of a guard: a probe may fail in any way.
"""

import itertools

import numpy as np

RNG = np.random.default_rng(77)
X = RNG.standard_normal((1, 7, 6, 1))
DY = RNG.standard_normal((1, 5, 4, 1))


def close(a, b):
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-9, atol=1e-9)


def one(shape, place):
    array = np.zeros(shape)
    array[place] = 1
    return array


def listed(sentences, most=2):
    """The first sentences, or None."""
    return "; ".join(sentences[:most]) or None


def conv2d(check):
    said, weights = [], RNG.standard_normal((2, 3, 3, 1, 1))
    both, first, second = (check.function(X.copy(), w.copy(), np.zeros(1)) for w in (weights.sum(axis=0), *weights))
    if not close(both, np.asarray(first) + second):
        return "y is no sum: two weights added up should give what they give alone, added up; yours does not"
    for u, v in np.ndindex(3, 3):
        y = check.function(X.copy(), one((3, 3, 1, 1), (u, v)), np.zeros(1))
        right = X[:, u : u + 5, v : v + 4]
        where = [(a, b) for a in range(3) for b in range(3) if close(y, X[:, a : a + 5, b : b + 4])]
        if close(y, right):
            continue
        if not np.any(y):
            said.append(f"weight[{u}, {v}] is never used")
        elif where:
            said.append(f"weight[{u}, {v}] meets x[i + {where[0][0]}, j + {where[0][1]}]; x[i + {u}, j + {v}] is right")
        else:
            said.append(f"weight[{u}, {v}] does not meet x[i + {u}, j + {v}] alone")
    return listed(said) or channels(check)


def channels(check):
    x = RNG.standard_normal((1, 3, 4, 2))
    for c, k in np.ndindex(2, 3):
        y = np.asarray(check.function(x.copy(), one((1, 1, 2, 3), (0, 0, c, k)), np.zeros(3)))
        expected = np.zeros(y.shape)
        expected[..., k] = x[..., c]
        if not close(y, expected):
            return f"channel {c} of x times weight[..., {c}, {k}] does not arrive in channel {k} of y alone"
    bias = check.function(0 * x, np.zeros((1, 1, 2, 3)), np.array([1.0, 2, 3]))
    return None if close(bias, np.broadcast_to([1.0, 2, 3], np.shape(bias))) else "the bias is not added as it is"


def conv2d_input_gradient(check):
    said = []
    for u, v in np.ndindex(3, 3):
        dx = np.asarray(check.function(DY.copy(), one((3, 3, 1, 1), (u, v))))
        if dx.shape != (1, 7, 6, 1):
            return None
        where = [(a, b) for a, b in np.ndindex(3, 3) if close(dx, placed(DY, (1, 7, 6, 1), a, b))]
        if where == [(u, v)]:
            continue
        if not dx.any():
            said.append(f"weight[{u}, {v}] is never used")
        elif where:
            a, b = where[0]
            said.append(f"dy[i, j] weight[{u}, {v}] goes to dx[i + {a}, j + {b}]; dx[i + {u}, j + {v}] is right")
        else:
            said.append(f"dy[i, j] weight[{u}, {v}] does not go to dx[i + {u}, j + {v}] alone")
    return listed(said)


def placed(dy, shape, top, left):
    array = np.zeros(shape)
    array[:, top : top + dy.shape[1], left : left + dy.shape[2]] = dy
    return array


def conv2d_weight_gradient(check):
    said = []
    for i, j in ((0, 0), (4, 3)):
        dweight, dbias = check.function(one((1, 5, 4, 1), (0, i, j, 0)), X.copy())
        for u, v in np.ndindex(3, 3):
            value = dweight[u, v, 0, 0]
            if close(value, X[0, i + u, j + v, 0]):
                continue
            where = np.argwhere(np.isclose(X[0, ..., 0], value))
            if len(where):
                a, b = where[0] - (i, j)
                said.append(f"dweight[{u}, {v}] collects x[i + {a}, j + {b}]; x[i + {u}, j + {v}] is right")
            elif not value:
                said.append(f"dweight[{u}, {v}] is never written")
    if not said and not close(dbias, [1.0]):
        said.append(f"dbias of a dy that is 1 in one place is {np.ravel(dbias)[:3]}; 1 is right")
    return listed(said)


def table(check, arguments, right):
    """How single numbers go through a function, in words, if some are wrong."""
    found = np.ravel(check.function(*[np.array(a, float) for a in arguments]))
    wrong = [n for n in range(len(right)) if not close(found[n], right[n])]
    names = ("x",) if len(arguments) == 1 else ("dy", "x")
    said = [
        ", ".join(f"{name} = {a[n]:g}" for name, a in zip(names, arguments))
        + f" gives {found[n]:.4g} (right: {right[n]:g})"
        for n in wrong
    ]
    return listed(said, 3)


def relu(check):
    x = [-2.0, -0.5, 0, 0.5, 3]
    return table(check, [x], [max(0, v) for v in x])


def relu_gradient(check):
    pairs = list(itertools.product([-4.0, 5.0], [-2.0, 0, 0.5, 3]))
    dy, x = zip(*pairs)
    return table(check, [dy, x], [d if v > 0 else 0 for d, v in pairs])


CORNERS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def max_pool(check):
    said = []
    for a, b in CORNERS:
        x = np.full((1, 4, 6, 1), -1.0)
        x[:, a::2, b::2] = np.arange(2.0, 8).reshape(1, 2, 3, 1)
        y = np.asarray(check.function(x.copy()))
        if not close(y, x[:, a::2, b::2]):
            seen = f"; yours begins with {y.ravel()[0]:g} for a window of 2 and three times -1" if y.size else ""
            said.append(f"the largest is not found where it stands at x[2i + {a}, 2j + {b}]{seen}")
    return listed(said)


def max_pool_gradient(check):
    dy, said = np.array([[5.0, 7]]).reshape(1, 1, 2, 1), []
    for winners in [[c] for c in CORNERS] + [list(p) for p in itertools.combinations(CORNERS, 2)] + [CORNERS]:
        x = np.zeros((1, 2, 4, 1))
        for a, b in winners:
            x[:, a::2, b::2] = [[[3], [5]]]
        dx = np.asarray(check.function(dy.copy(), x.copy()))
        if dx.shape != x.shape:
            return None
        right = np.zeros(x.shape)
        right[:, winners[0][0] :: 2, winners[0][1] :: 2] = dy
        if not close(dx, right):
            got = [f"{value:.3g}" for value in dx[0, :, :2, 0].ravel()]
            who = " and ".join(map(str, winners))
            said.append(f"the largest at {who}, dy = 5: the four get {' '.join(got)}; all 5 belong to {winners[0]}")
    return listed(said)


def up_conv(check):
    x, said = X[:, :3, :2], []
    for a, b in CORNERS:
        y = np.asarray(check.function(x.copy(), one((2, 2, 1, 1), (a, b)), np.zeros(1)))
        if y.shape != (1, 6, 4, 1):
            return None
        right = np.zeros(y.shape)
        right[:, a::2, b::2] = x
        where = [c for c in CORNERS if close(y[:, c[0] :: 2, c[1] :: 2], x)]
        if close(y, right):
            continue
        if where and where != [(a, b)]:
            said.append(
                f"x times weight[{a}, {b}] goes to {' and '.join(map(str, where))} of the block, not to {(a, b)}"
            )
        elif not y.any():
            said.append(f"weight[{a}, {b}] is never used")
        else:
            said.append(f"x[i, j] weight[{a}, {b}] does not go to y[2i + {a}, 2j + {b}] alone")
    return listed(said)


def up_conv_gradients(check):
    dy, x, said = RNG.standard_normal((1, 6, 4, 1)), X[:, :3, :2], []
    for a, b in CORNERS:
        dx, dweight, _ = check.function(dy.copy(), x.copy(), one((2, 2, 1, 1), (a, b)))
        if not close(dx, dy[:, a::2, b::2]):
            where = [c for c in CORNERS if close(dx, dy[:, c[0] :: 2, c[1] :: 2])]
            seen = f"with dy at {where[0]} of the block" if where else "not with dy at the same place alone"
            said.append(f"in dx weight[{a}, {b}] is multiplied {seen}")
        value = float(np.sum(dweight[a, b]))
        sums = {c: (x * dy[:, c[0] :: 2, c[1] :: 2]).sum() for c in CORNERS}
        where = [c for c in CORNERS if close(value, sums[c])]
        if where != [(a, b)]:
            seen = f"it takes dy at {where[0]} of the block" if where else f"it is {value:.4g}, not {sums[a, b]:.4g}"
            said.append(f"dweight[{a}, {b}] is the sum of x[i, j] dy[2i + {a}, 2j + {b}]; {seen}")
    return listed(said)


CROPPED = ((1, 2, 2, 1), (1, 7, 10, 1))


def crop_concat(check):
    small, large = CROPPED
    skip = np.arange(70.0).reshape(large)
    y = np.asarray(check.function(np.full(small, -1.0), skip.copy()))
    if y.shape != (1, 2, 2, 2):
        return None
    if close(y[..., 0], -1):
        row, column = divmod(int(y[0, 0, 0, 1]), 10)
        step = y[0, 1, 1, 1] - y[0, 0, 0, 1]
        if (row, column) != (2, 4):
            return f"for 2 x 2 of 7 x 10 the crop begins at row {row}, column {column}; row 2, column 4 is right"
        return None if step == 11 else "the crop is no 2 x 2 pixels beside each other"
    return None


def crop_concat_gradients(check):
    small, large = CROPPED
    dupsampled, dskip = check.function(np.arange(1.0, 9).reshape(1, 2, 2, 2), 1, large)
    if np.shape(dskip) != large:
        return None
    if not close(np.ravel(dupsampled), [1, 3, 5, 7]):
        return "dupsampled does not hold the first channels of dy"
    if not (np.asarray(dskip) == 2).any():
        return f"dy = 1 2 in a pixel: the 2 belongs to dskip, which is {np.asarray(dskip)[0, 2, 4, 0]:g} there"
    if np.count_nonzero(dskip) > 4:
        return f"{np.count_nonzero(dskip)} elements of dskip are not 0; 4 of 70 were taken, the others get 0"
    where = np.argwhere(np.asarray(dskip)[0, ..., 0] == 2)
    if len(where) and tuple(where[0]) != (2, 4):
        row, column = where[0]
        return f"for 2 x 2 of 7 x 10 dy goes to dskip from row {row}, column {column} on; row 2, column 4 is right"
    return None


def softmax(check):
    logits = RNG.standard_normal((2, 2, 3, 4))
    p = np.asarray(check.function(logits.copy()))
    if p.shape != logits.shape:
        return None
    if not close(p.sum(axis=-1), np.ones((2, 2, 3))):
        for axis, name in enumerate(("images", "rows", "columns")):
            if close(p.sum(axis=axis), np.ones(p.sum(axis=axis).shape)):
                return f"the probabilities add up to 1 over the {name}; they should over the classes, the last axis"
    slope = np.log(p[..., :1] / p[..., 1:]) / (logits[..., :1] - logits[..., 1:])
    if np.ptp(slope) < 1e-9 and not close(slope, np.ones(slope.shape)):
        return f"log(p_0 / p_1) is {slope.ravel()[0]:.4g} (a_0 - a_1); a_0 - a_1 is right: the scores are scaled"
    moved = logits.copy()
    moved[0, 0, 0] += [1, 0, 2, 0]
    if not close(np.asarray(check.function(moved))[1], p[1]):
        return "the scores of one pixel change the probabilities of others: a sum or a maximum runs over pixels"
    if not close(p.sum(axis=-1), np.ones((2, 2, 3))):
        return f"the probabilities of a pixel add up to {p.sum(axis=-1).ravel()[0]:.4g}, not to 1"
    return None


def energy(check):
    logits, labels = RNG.standard_normal((1, 2, 3, 3)), np.array([[[0, 1, 2], [2, 1, 0]]])
    weights, said = RNG.uniform(0.5, 2, (1, 2, 3)), []
    loss, dlogits = check.function(logits.copy(), labels, weights.copy())
    alone = [
        float(check.function(np.log([[[[1.0, 2, 5]]]]), np.array([[[k]]]), np.ones((1, 1, 1)))[0]) for k in range(3)
    ]
    taken = [[n for n, p in enumerate((1 / 8, 2 / 8, 5 / 8)) if close(a, -np.log(p))] for a in alone]
    for k in range(3):
        if taken[k] and taken[k] != [k]:
            return f"for label {k} the loss takes the probability of class {taken[k][0]}"
        if not taken[k]:
            shown = f"{alone[k]:.4g}; -log {(1, 2, 5)[k]}/8 = {-np.log((1, 2, 5)[k] / 8):.4g} is right"
            said.append(f"one pixel with p = 1/8, 2/8, 5/8, label {k}, weight 1: the loss is {shown}")
            break
    if not close(check.function(logits.copy(), labels, 2 * weights)[0], 2 * loss):
        said.append("weights twice as large should make the loss twice as large; yours does not")
    if not close(check.function(logits + 3, labels, weights.copy())[0], loss):
        said.append("3 more on every score should leave the loss as it is; yours changes")
    numerical = np.zeros(logits.shape)
    for place in np.ndindex(logits.shape):
        step = 1e-6 * one(logits.shape, place)
        up, down = (check.function(logits + s * step, labels, weights.copy())[0] for s in (1, -1))
        numerical[place] = (up - down) / 2e-6
    if np.allclose(dlogits, numerical, atol=1e-6):
        said.append("dlogits is the gradient of your loss, so the loss itself is not Eq. 1")
    elif not close(np.sum(dlogits, axis=-1), np.zeros((1, 2, 3))):
        said.append("dlogits of a pixel should add up to 0 over the classes, as p - q does; yours does not")
    else:
        said.append("dlogits is not the gradient of your loss")
    return listed(said)
