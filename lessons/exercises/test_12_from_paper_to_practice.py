"""Check of exercise 12, run as: pytest lessons/exercises -k 12"""

import numpy as np
from exercise import check_of

READ = 'lesson 12, "Batch normalisation"'


def layer(seed, channels, outputs):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((3, 3, channels, outputs))
    return weight, *rng.standard_normal((3, outputs)), rng.uniform(0.1, 4, outputs), 1e-5


def by_hand():
    """Weight 1, scale 6, shift 5, mean 2, variance 9: y = 6 (x - 2) / 3 + 5 = 2 x + 1."""
    weight = np.zeros((3, 3, 1, 1))
    weight[1, 1] = 1
    return weight, *(np.array([value], float) for value in (6, 5, 2, 9)), 0.0


def test_fold():
    check = check_of("12_from_paper_to_practice", "fold", READ)
    cases = {"by hand: y = 2 x + 1": by_hand(), "2 channels to 3": layer(0, 2, 3), "3 channels to 3": layer(1, 3, 3)}
    cases["a large eps"] = *layer(2, 2, 3)[:5], 0.5
    for case, (weight, scale, shift, mean, variance, eps) in cases.items():
        names = ("weight", "scale", "shift", "mean", "variance", "eps")
        arguments = dict(zip(names, (weight, scale, shift, mean, variance, eps)))
        factor = np.array([s / (v + eps) ** 0.5 for s, v in zip(scale, variance)])
        bias = np.array([b - m * f for b, m, f in zip(shift, mean, factor)])
        without = scale / np.sqrt(variance)
        plain = scale / (variance + eps)
        many = weight.shape[2] == weight.shape[3]
        mistakes = {
            "eps is forgotten, or 1e-5 is written in its place": (weight * without, shift - mean * without),
            "eps is forgotten, or 1e-5 is written in its place ": (
                weight * (scale / np.sqrt(variance + 1e-5)),
                shift - mean * (scale / np.sqrt(variance + 1e-5)),
            ),
            "eps is added behind the root; it belongs under it": (
                weight * (scale / (np.sqrt(variance) + eps)),
                shift - mean * (scale / (np.sqrt(variance) + eps)),
            ),
            "the root is forgotten: the variance is the square of the deviation": (
                weight * plain,
                shift - mean * plain,
            ),
            "the mean is not multiplied with the factor": (weight * factor, shift - mean),
            "the sign of the mean: it is subtracted": (weight * factor, shift + mean * factor),
            "the mean is forgotten": (weight * factor, shift),
            "the shift is forgotten": (weight * factor, -mean * factor),
            "the shift is multiplied, too; it is added behind the scaling": (
                weight * factor,
                (shift - mean) * factor,
            ),
            "the scale is forgotten": (
                weight / np.sqrt(variance + eps),
                shift - mean / np.sqrt(variance + eps),
            ),
            "the weight is not multiplied": (weight, bias),
            "the factor goes to the channels in; it belongs to the channels out, the last axis": (
                weight * factor[:, None] if many else None,
                bias,
            ),
        }
        axes = (("row", "column", "channel in", "channel out"), ("channel out",))
        check(case, arguments, (weight * factor, bias), mistakes, outputs=("weight", "bias"), axes=axes, rtol=1e-9)
    check.verdict()
