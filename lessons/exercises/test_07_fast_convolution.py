"""Check of exercise 7, run as: pytest lessons/exercises -k 07"""

import numpy as np
from exercise import check_of

from lessons.build.checks.numbers import Counted, f23_mistakes

READ = 'lesson 7, "3. Two results with four multiplications: F(2, 3) by hand"'


def counted(check, case, arguments, names):
    """The numbers that come back, and how many multiplications they cost."""
    Counted.products = 0
    found = check.call(case, {name: [Counted(value) for value in array] for name, array in arguments.items()})
    if not (isinstance(found, (list, tuple, np.ndarray)) and len(found) == names):
        check.fail(f"{check.name} returns {type(found).__name__}: {case}", f"{names} numbers were expected, in a list")
    return np.array([float(getattr(number, "value", number)) for number in found]), Counted.products


def too_many(check, products, definition):
    if products > 4:
        check.fail(
            f"{check.name} is right, but needs {products} multiplications; four are allowed",
            f"the definition has {definition}: multiply sums with sums, then add the four products",
        )


def test_f23():
    check = check_of("07_fast_convolution", "f23", READ)
    rng = np.random.default_rng(1)
    cases = {"d = 1 2 3 4, g = 1 0 -1": (np.array([1.0, 2, 3, 4]), np.array([1.0, 0, -1]))}
    cases |= {f"random numbers, {n}": (rng.standard_normal(4), rng.standard_normal(3)) for n in (1, 2)}
    for case, (d, g) in cases.items():
        y, products = counted(check, case, {"d": d, "g": g}, 2)
        expected = np.array([d[0] * g[0] + d[1] * g[1] + d[2] * g[2], d[1] * g[0] + d[2] * g[1] + d[3] * g[2]])
        check.keep(case, ["y of f23"], [y], [expected], {s: [r] for s, r in f23_mistakes(d, g).items()})
    check.verdict()
    too_many(check, products, 6)


def test_f23_weight_gradient():
    check = check_of("07_fast_convolution", "f23_weight_gradient", READ)
    rng = np.random.default_rng(2)
    cases = {f"random numbers, {n}": (rng.standard_normal(4), rng.standard_normal(2)) for n in (1, 2, 3)}
    for case, (d, dy) in cases.items():
        dg, products = counted(check, case, {"d": d, "dy": dy}, 3)
        expected = np.array([d[j] * dy[0] + d[j + 1] * dy[1] for j in range(3)])
        mistakes = {sentence: [result] for sentence, result in gradient_mistakes(d, dy).items()}
        check.keep(case, ["dg of f23_weight_gradient"], [dg], [expected], mistakes)
    check.verdict()
    too_many(check, products, 6)


def gradient_mistakes(d, dy):
    def gradient(dm, half=0.5, v3=1.0):
        v = np.array([d[0] - d[2], d[1] + d[2], d[2] - d[1], v3 * (d[1] - d[3])])
        du = v * dm
        plus, minus = half * (du[1] + du[2]), half * (du[1] - du[2])
        return np.array([du[0] + plus, minus, plus + du[3]])

    right = np.array([dy[0], dy[0] + dy[1], dy[0] - dy[1], -dy[1]])
    du = np.array([d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]) * right
    return {
        "the halves are forgotten: G^T has them, too": gradient(right, half=1.0),
        "the sign of the fourth product: y1 = m1 - m2 - m3, so dm3 = -dy1": gradient(right * [1, 1, 1, -1]),
        "the sign within dm2: y0 has +m2 and y1 -m2, so dm2 = dy0 - dy1": gradient(
            np.array([dy[0], dy[0] + dy[1], dy[0] + dy[1], -dy[1]])
        ),
        "dm2 = dy0 - dy1, not dy1 - dy0": gradient(right * [1, 1, -1, 1]),
        "dm1 = dy0 + dy1; m1 went into both": gradient(np.array([dy[0], dy[0], dy[0] - dy[1], -dy[1]])),
        "dg is read backwards": np.array([d[j] * dy[0] + d[j + 1] * dy[1] for j in (2, 1, 0)]),
        "dy is read backwards": np.array([d[j] * dy[1] + d[j + 1] * dy[0] for j in range(3)]),
        "dg1 is the difference of the two halves, not their sum": np.array(
            [du[0] + 0.5 * (du[1] + du[2]), 0.5 * (du[1] + du[2]), 0.5 * (du[1] + du[2]) + du[3]]
        ),
        "dg1 = (du1 - du2) / 2, not (du2 - du1) / 2": gradient(right) * [1, -1, 1],
    }
