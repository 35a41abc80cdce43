"""How a new image differs from those that a network was trained on: grey values, polarity, contrast, scale."""

import numpy as np

from npunet.datasets.finding import HIGH, MIDDLE, Finding

QUANTILES = np.linspace(0.02, 0.98, 25)


def quantiles(image):
    """(25,) grey values, ascending."""
    return np.quantile(image[::2, ::2], QUANTILES)


def findings(name, image, training):
    """`Finding`s about an image (H, W, C) in 0..1 beside the training images, a list of the same."""
    if np.ptp(image) < 0.02:
        yield Finding("new image blank", f"{name} has one grey value, {image.mean():.2f}; is it the right file?", HIGH)
        return
    known = np.array([quantiles(one) for one in training])
    typical, spread = known.mean(axis=0), max(0.03, float(abs(known - known.mean(axis=0)).mean(axis=1).max()))
    here = quantiles(image)
    away, turned = abs(here - typical).mean(), abs(1 - here[::-1] - typical).mean()
    if turned < 0.6 * away and away > 1.5 * spread:
        yield Finding(
            "new image inverted",
            f"{name} looks like the training images with black and white exchanged (grey values {away:.2f} away, "
            f"{turned:.2f} when inverted); invert it",
            HIGH,
        )
    elif away > max(2 * spread, 0.1):
        yield Finding(
            "new image exposure",
            f"{name}: grey values have a mean of {image.mean():.2f}, the training images {typical.mean():.2f}; "
            f"bring it to "
            "their exposure and bit depth",
            HIGH,
        )
    contrasts = [one.std() for one in training]
    if image.std() < 0.4 * min(contrasts):
        yield Finding(
            "new image contrast",
            f"{name}: the standard deviation of its grey values is {image.std():.3f}, the training images have "
            f"{min(contrasts):.3f} to {max(contrasts):.3f}",
            MIDDLE,
        )
