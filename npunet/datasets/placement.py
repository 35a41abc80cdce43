"""Whether masks lie on their images: polarity, shifts, turns, and masks that belong to another image.

The evidence is contrast: the difference between the mean grey values of objects and background, in standard deviations
of the image. A mask that is somewhere else has next to none, and has much where it belongs.
"""

import numpy as np
from scipy import ndimage

from npunet.datasets.finding import HIGH, Finding, named

PLAIN_CONTRAST = 0.5  # from which a polarity, or a better place, can be trusted
STRANGE = 0.15  # of the usual contrast; a mask with less lies somewhere else
AT_HOME = 0.5  # of the usual contrast; a place with less fits by chance, as a few objects easily do
SHIFT = 24  # pixels, the furthest shift that is looked for


def contrast(image, objects):
    """(mean of the objects - mean of the rest) / standard deviation of the image; 0 where one of them is missing."""
    grey = image.mean(axis=2)
    if not objects.any() or objects.all() or grey.std() == 0:
        return 0.0
    return float((grey[objects].mean() - grey[~objects].mean()) / grey.std())


def polarities(samples):
    """Images whose objects are dark where those of the others are bright: masks or images are inverted."""
    values = np.array([contrast(sample.image, sample.labels > 0) for sample in samples])
    plain = abs(values) > PLAIN_CONTRAST
    bright, dark = plain & (values > 0), plain & (values < 0)
    few, many = (dark, bright) if dark.sum() <= bright.sum() else (bright, dark)
    if few.any() and many.any():
        odd = [f"{s.name} ({value:+.2f})" for s, value, is_odd in zip(samples, values, few) if is_odd]
        word = "darker" if few is dark else "brighter"
        yield Finding(
            "polarity",
            f"objects are {word} than the background in {named(odd)} and the other way round in {many.sum()} images; "
            "are masks or images inverted?",
            HIGH,
        )


def misplaced(samples):
    """(sample, `Finding`) of masks that fit another image, or their own one when shifted or turned, much better than as
    they lie; and of those that fit nothing, where the others fit well.
    """
    if not samples:
        return
    usual = np.median([abs(contrast(sample.image, sample.labels > 0)) for sample in samples])
    for sample in samples:
        objects = sample.labels > 0
        if not 0.005 < objects.mean() < 0.995:
            continue
        here = abs(contrast(sample.image, objects))
        best, kind, words, cure = max([*_turns(sample), _best_shift(sample), *_other_owners(sample, samples)])
        if best > max(1.6 * here, here + 0.25, AT_HOME * usual, PLAIN_CONTRAST):
            words = f"the mask of {sample.name} fits {words} (contrast {best:.2f} instead of {here:.2f}); {cure}"
            yield sample, Finding(kind, words, HIGH)
        elif here < STRANGE * usual and usual > PLAIN_CONTRAST and len(samples) > 3:
            words = (
                f"objects of {sample.name} are as bright as its background (contrast {here:.2f}, {usual:.2f} in the "
                "middle of all images); do image and mask belong together?"
            )
            yield sample, Finding("unrelated mask", words, HIGH)


def _other_owners(sample, samples):
    """(contrast, kind, words, cure) for each other image of the same size."""
    for other in samples:
        if other is not sample and other.labels.shape == sample.labels.shape:
            fit = abs(contrast(other.image, sample.labels > 0))
            yield fit, "swapped mask", f"the image {other.name} better than its own", "are the masks in another order?"


def _turns(sample):
    """(contrast, kind, words, cure) for each way of turning the mask that fits the image's shape."""
    objects = sample.labels > 0
    for words, turned in (
        ("transposed", objects.T),
        ("turned by 180 degrees", objects[::-1, ::-1]),
        ("turned by 90 degrees", np.rot90(objects)),
        ("turned by 270 degrees", np.rot90(objects, 3)),
        ("mirrored", objects[:, ::-1]),
        ("upside down", objects[::-1]),
    ):
        if turned.shape == objects.shape:
            cure = "was the image turned after it was drawn (EXIF), or rows and columns exchanged?"
            yield abs(contrast(sample.image, turned)), "turned mask", f"better {words}", cure


def _best_shift(sample):
    """(contrast, kind, words, cure) of the best shift of the mask by up to SHIFT pixels, on the common part.

    The grey values' sum over the shifted mask is a correlation, which one Fourier transform gives for all shifts.
    """
    grey, objects = sample.image.mean(axis=2).astype(np.float64), (sample.labels > 0).astype(np.float64)
    grey = grey - ndimage.uniform_filter(grey, min(65, min(grey.shape)))
    objects -= objects.mean()
    reach = min(SHIFT, min(grey.shape) // 4)
    shape = [side + reach for side in grey.shape]
    product = np.fft.rfft2(grey, shape) * np.conj(np.fft.rfft2(objects, shape))
    strength = abs(np.fft.fftshift(np.fft.irfft2(product, shape)))
    middle = [side // 2 for side in strength.shape]
    window = strength[middle[0] - reach : middle[0] + reach + 1, middle[1] - reach : middle[1] + reach + 1]
    at = np.unravel_index(window.argmax(), window.shape)
    down, right = int(at[0] - reach), int(at[1] - reach)
    rows, columns = _overlap(down, grey.shape[0]), _overlap(right, grey.shape[1])
    fit = abs(contrast(sample.image[rows[0], columns[0]], (sample.labels > 0)[rows[1], columns[1]]))
    words = f"its image better {moved(down, 'lower', 'higher')} and {moved(right, 'further right', 'further left')}"
    return fit, "shifted mask", words, "was it moved, or the image cropped?"


def moved(pixels, positive, negative):
    """How far something should go, in words."""
    return f"{abs(pixels)} pixels {positive if pixels >= 0 else negative}"


def _overlap(shift, side):
    """(slice of the image, slice of the mask) where a mask that is shifted by so much lies over the image."""
    return slice(max(shift, 0), side + min(shift, 0)), slice(max(-shift, 0), side + min(-shift, 0))
