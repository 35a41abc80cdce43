"""How a new image differs from those that a network was trained on: grey values, polarity, contrast, scale."""

import numpy as np
from scipy import fft, ndimage

from npunet.datasets.finding import HIGH, MIDDLE, Finding

QUANTILES = np.linspace(0.02, 0.98, 25)
COARSER, FINER = 1.6, 0.6  # of the coarsest and the finest training image, from which structures have another scale
SLOPE, STEEPER = 1.5, 1.6  # standard deviations across an image, and times the steepest training image
PARTS = 8  # an image's brightness is looked at in so many times as many parts


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
    uneven = list(_brightness(name, image, training))
    yield from uneven or _scale(name, image, training)  # uneven brightness looks like larger structures too
    contrasts = [one.std() for one in training]
    if image.std() < 0.4 * min(contrasts):
        yield Finding(
            "new image contrast",
            f"{name}: the standard deviation of its grey values is {image.std():.3f}, the training images have "
            f"{min(contrasts):.3f} to {max(contrasts):.3f}",
            MIDDLE,
        )


def _scale(name, image, training):
    known = [size for size in map(structure_size, training) if size]
    here = structure_size(image)
    if known and here and not FINER * min(known) <= here <= COARSER * max(known):
        yield Finding(
            "new image scale",
            f"{name}: its structures measure {here:.1f} pixels, those of the training images {min(known):.1f} to "
            f"{max(known):.1f} (where the correlation has fallen to a half); bring it to their pixel size with --scale",
            HIGH,
        )


def structure_size(image):
    """Pixels after which the correlation of an image with itself falls to half of what it is at two pixels, where the
    noise is gone. None where there is nothing but noise, or where the correlation does not fall.
    """
    grey = image.mean(axis=2).astype(np.float64)
    grey -= ndimage.gaussian_filter(grey, min(grey.shape) / 4)
    height, width = grey.shape
    power = abs(fft.rfft2(grey, [fft.next_fast_len(2 * side, real=True) for side in grey.shape])) ** 2
    product = fft.irfft2(power)  # row 0 and column 0 are shifts along one axis; fewer pixels meet at larger ones
    shifts = np.arange(min(height, width) // 2)
    curve = (product[shifts, 0] / (1 - shifts / height) + product[0, shifts] / (1 - shifts / width)) / 2
    if len(curve) < 4 or curve[2] < 0.1 * curve[0]:
        return None
    curve = curve / curve[2]
    below = np.flatnonzero(curve < 0.5)
    below = below[below > 2]
    if below.size == 0:
        return None
    after = below[0]
    return float(after - (0.5 - curve[after]) / (curve[after - 1] - curve[after]))


def _brightness(name, image, training):
    known, here = [slope(one) for one in training], slope(image)
    if here > max(SLOPE, STEEPER * max(known)):
        yield Finding(
            "new image brightness",
            f"{name}: its brightness rises from one border to the other by {here:.1f} times the standard deviation of "
            f"the rest, in the training images by at most {max(known):.1f}; divide by, or subtract, an empty field",
            MIDDLE,
        )


def slope(image):
    """By how much a plane through the brightness of an image's parts rises from one border to the other, in standard
    deviations of the image without that plane.
    """
    grey = image.mean(axis=2).astype(np.float64)
    height, width = grey.shape
    if min(height, width) < PARTS:
        return 0.0
    parts = [np.array_split(band, PARTS, axis=1) for band in np.array_split(grey, PARTS)]
    middles = np.array([[np.median(part) for part in band] for band in parts])
    steps = np.linspace(-0.5, 0.5, PARTS)
    down, right = (middles * steps[:, None]).sum(), (middles * steps).sum()  # least squares: the steps' mean is 0
    down, right = down / (PARTS * (steps**2).sum()), right / (PARTS * (steps**2).sum())
    plane = down * np.linspace(-0.5, 0.5, height)[:, None] + right * np.linspace(-0.5, 0.5, width)
    return float(np.hypot(down, right) / max((grey - plane).std(), 1e-3))
