"""Check of exercise 13, run as: pytest lessons/exercises -k 13"""

import numpy as np
from exercise import check_of

from npunet.gradient_check import numerical_gradient

READ = 'lesson 13, "The gradient of the style loss"'
AXES = ("image", "row", "column", "channel")


def loss_of(features, means, deviations, eps):
    """The formula as sums over pixels."""
    _, height, width, channels = features.shape
    loss = 0.0
    for c in range(channels):
        pixels = [float(value) for value in features[..., c].ravel()]
        m = sum(pixels) / len(pixels)
        s = (sum((value - m) ** 2 for value in pixels) / len(pixels) + eps) ** 0.5
        loss += ((m - means[c]) ** 2 + (s - deviations[c]) ** 2) / channels
    return loss


def problem(seed, shape):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), rng.standard_normal(shape[3]), rng.uniform(0.5, 2, shape[3])


def test_statistics_loss():
    check = check_of("13_style_transfer", "statistics_loss", READ)
    hand = np.array([[[[1.0], [3.0]]]]), np.array([0.0]), np.array([4.0]), 0.0  # 2^2 + 3^2
    cases = {"by hand: pixels 1 and 3, loss 13, gradient 5 and -1": hand}
    cases |= {"one channel": (*problem(1, (1, 2, 3, 1)), 1e-5), "five channels": (*problem(2, (1, 3, 4, 5)), 1e-5)}
    cases["a large eps"] = *problem(3, (1, 2, 3, 2)), 0.5
    for case, (features, means, deviations, eps) in cases.items():
        arguments = {"features": features, "means": means, "deviations": deviations, "eps": eps}
        loss = loss_of(*arguments.values())
        moved = features.copy()
        numerical = numerical_gradient(lambda m=moved, a=arguments: loss_of(m, *list(a.values())[1:]), moved)
        outputs, factors = ("loss", "dfeatures"), {"pixels": features[..., 0].size, "channels": len(means)}
        factors = {name: value for name, value in factors.items() if value > 1}
        mistakes = mistakes_of(features, means, deviations, eps, loss)
        expected = np.float64(loss), numerical
        check(case, arguments, expected, mistakes, outputs=outputs, axes=((), AXES), factors=factors, rtol=1e-6)
    check.verdict()


def mistakes_of(features, means, deviations, eps, loss):
    pixels, channels = features[..., 0].size, len(means)
    m = features.mean(axis=(0, 1, 2))
    centred = features - m
    variance = (centred**2).mean(axis=(0, 1, 2))
    s = np.sqrt(variance + eps)
    dm, ds = 2 * (m - means) / channels, 2 * (s - deviations) / channels
    ones, biased = np.ones(features.shape), variance * pixels / max(pixels - 1, 1)

    def values(m, s):
        return np.mean((m - means) ** 2) + np.mean((s - deviations) ** 2)

    return {
        "variances are compared; standard deviations are wanted": (values(m, variance + eps), None),
        "divided by pixels - 1; the formula has a mean over the pixels": (values(m, np.sqrt(biased + eps)), None),
        "eps is forgotten": (values(m, np.sqrt(variance)), None),
        "eps is added behind the root; it belongs under it": (values(m, np.sqrt(variance) + eps), None),
        "a sum over the channels; their mean is wanted": (loss * channels, None),
        "absolute differences; squares are wanted": (np.mean(abs(m - means)) + np.mean(abs(s - deviations)), None),
        "only the means count": (np.mean((m - means) ** 2), dm * ones / pixels),
        "the gradient of the deviations is missing": (None, dm * ones / pixels),
        "the gradient of the means is missing": (None, ds * centred / s / pixels),
        "the 2 of the squares is forgotten": (None, (dm + ds * centred / s) / 2 / pixels),
        "not divided by the number of pixels: each moves the mean by 1 / (H W)": (None, dm + ds * centred / s),
        "not divided by the number of channels": (None, (dm + ds * centred / s) * channels / pixels),
        "the deviation of the pixel is F, not F - m": (None, (dm + ds * features / s) / pixels),
        "not divided by s: the derivative of a root is 1 / (2 s)": (None, (dm + ds * centred) / pixels),
        "divided by s twice": (None, (dm + ds * centred / s**2) / pixels),
        "the sign of the deviations' gradient": (None, (dm - ds * centred / s) / pixels),
    }
