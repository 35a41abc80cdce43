"""Whether an image was taken and saved like the others: in focus, and to its last row.

Limits: see docs/reliability.md for what healthy and spoiled sets show.
"""

import numpy as np
from scipy import ndimage

from npunet.datasets.finding import HIGH, MIDDLE, Finding, named

BLURRED = 0.6  # of the sharpness that two thirds of the images surpass
CUT_OFF, FLAT = 0.1, 0.02  # share of an image that is cut off, and of its grey values that may vary there


def out_of_focus(samples):
    """Images without the fine structure of the others. Camera noise, which stays when the lens is out of focus,
    hardly counts.
    """
    if len(samples) < 4:
        return
    values = np.array([sharpness(sample.image.mean(axis=2)) for sample in samples])
    usual = np.nanquantile(values, 1 / 3) if np.isfinite(values).any() else 0.0
    odd = [f"{s.name} ({value:.2f})" for s, value in zip(samples, values) if value < BLURRED * usual]
    if odd:
        yield Finding(
            "out of focus",
            f"{named(odd)}: structures of two pixels are weak beside those of eight, two thirds of the images have "
            f"{usual:.2f} or more; out of focus, or magnified more?",
            MIDDLE,
        )


def sharpness(grey):
    """Strength of structures of some two pixels, divided by that of some eight; nan for a blank image."""
    one, two, four, eight = (ndimage.gaussian_filter(grey, sigma, mode="reflect") for sigma in (1, 2, 4, 8))
    coarse = (four - eight).std()
    return float((one - two).std() / coarse) if coarse > 1e-4 else np.nan


def cut_off(samples):
    """Images with whole rows or columns of one grey value where the mask has objects: they were cut off on the way."""
    odd = []
    for sample in samples:
        grey, objects = sample.image.mean(axis=2), sample.labels > 0
        for axis, word in ((1, "rows"), (0, "columns")):
            dead = np.ptp(grey, axis=axis) <= FLAT * np.ptp(grey)
            marked = (dead & objects.any(axis=axis)).mean()
            if marked > CUT_OFF and np.ptp(grey) > FLAT:
                odd.append(f"{sample.name} ({dead.mean():.0%} of its {word})")
    if odd:
        yield Finding(
            "cut off",
            f"{named(odd)} hold one grey value, though the mask has objects there; was the image saved to its end?",
            HIGH,
        )
