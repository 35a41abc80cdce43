"""Whether a mask is drawn as far as it should be: every object, filled, and exactly where the object is.

The limits below lie between what healthy and spoiled copies of three real sets and six synthetic ones show
(docs/reliability.md). All rules need objects that are brighter or darker than what is around them. In phase
contrast, where cells are as bright as their background, they say nothing.
"""

import numpy as np
from scipy import fft, ndimage

from npunet.datasets.finding import HIGH, Finding, named
from npunet.datasets.placement import PLAIN_CONTRAST, contrast, moved

HOLES, NEARLY_NONE = 0.3, 0.05  # share of the filled objects that is not drawn: in outlines, and usually
UNMARKED = 0.3  # unmarked regions for each object, by number and by area, from which a mask is unfinished
NUDGE, LEFT = 8, 0.75  # the largest small shift in pixels, and how much of the edges' contrast it leaves at most
BAND = 3  # pixels on both sides of an edge


def outlines(samples):
    """The samples whose objects are drawn as outlines: rings around what is an object too.

    A membrane is a network of lines with holes as well, but its image does not look more like the filled one. Where
    the other masks have no holes, the holes alone tell, unless the mask is inverted: its background is full of them.
    """
    if not samples:
        return []
    holes, gains, contrasts = [], [], []
    for sample in samples:
        objects = sample.labels > 0
        filled = ndimage.binary_fill_holes(objects)
        holes.append((filled.sum() - objects.sum()) / max(1, filled.sum()))
        contrasts.append(contrast(sample.image, objects))
        better = abs(contrast(sample.image, filled)) if holes[-1] > HOLES else 0.0
        gains.append(better > max(abs(contrasts[-1]), PLAIN_CONTRAST))
    alone, usual = np.median(holes) < NEARLY_NONE, np.median(contrasts)
    inverted = [min(abs(usual), abs(here)) > PLAIN_CONTRAST and usual * here < 0 for here in contrasts]
    return [
        sample
        for sample, share, gain, odd in zip(samples, holes, gains, inverted)
        if share > HOLES and (gain or alone and not odd)
    ]


def not_filled(odd):
    """A `Finding` about the samples that `outlines` found."""
    if odd:
        yield Finding(
            "outlines",
            f"the mask of {named(sample.name for sample in odd)} holds outlines that enclose more than {HOLES:.0%} of "
            "their objects without marking it; fill them",
            HIGH,
        )


def unfinished(samples):
    """Masks that leave out regions as bright as their objects, and as large."""
    odd = []
    for sample in samples:
        objects = sample.labels > 0
        if objects.any() and not objects.all():
            regions, number, area = unmarked(sample.image.mean(axis=2), objects)
            if min(number, area) > UNMARKED:
                odd.append(f"{sample.name} ({regions} regions)")
    if odd:
        yield Finding(
            "unfinished mask",
            f"regions as bright and as large as the objects are not marked in {named(odd)}; is the mask finished, or "
            "are they of another kind?",
        )


def unmarked(grey, objects):
    """(number of regions, number for each object, area for each pixel of the objects) of what looks like an object
    and is none: brighter than the darkest quarter of the objects, and larger than a quarter of the usual one.

    Zeros where one object has half of the area: a membrane, beside which dark organelles are none.
    """
    grey = ndimage.gaussian_filter(grey, 1.0)
    if grey[objects].mean() < grey[~objects].mean():
        grey = -grey
    sizes = np.bincount(ndimage.label(objects)[0].ravel())[1:]
    if sizes.max() > sizes.sum() / 2:
        return 0, 0.0, 0.0
    large = np.median(sizes) / 4
    like = (grey > np.quantile(grey[objects], 0.25)) & ~ndimage.binary_dilation(objects, iterations=2)
    found = np.bincount(ndimage.label(like)[0].ravel())[1:]
    found = found[found >= large]
    return len(found), len(found) / (sizes >= large).sum(), found.sum() / (0.75 * objects.sum())


def nudged(samples):
    """Masks that lie a few pixels beside their objects."""
    odd = []
    for sample in samples:
        if found := nudge(sample):
            down, right, here, there = found
            way = f"{moved(down, 'down', 'up')} and {moved(right, 'right', 'left')}"
            odd.append(f"{sample.name} {way} (contrast at the edges {there:.2f} instead of {here:.2f})")
    if odd:
        yield Finding(
            "nudged mask",
            f"masks lie beside their objects and fit when moved: {named(odd, 2)}; was an image or mask cut or padded?",
        )


def nudge(sample):
    """(pixels down, pixels to the right, contrast at the mask's edges where it lies, and when it is moved so far).
    None where that is no clear improvement.

    The contrast is that of a band inside the edges and one outside. A correlation gives it for all shifts at once.
    """
    grey, objects = sample.image.mean(axis=2).astype(np.float64), sample.labels > 0
    inside = objects & ~ndimage.binary_erosion(objects, iterations=BAND, border_value=1)
    outside = ndimage.binary_dilation(objects, iterations=BAND) & ~objects
    if not inside.any() or not outside.any() or grey.std() == 0:
        return None
    shape = [fft.next_fast_len(side + NUDGE, real=True) for side in grey.shape]
    bands = fft.rfft2(inside / inside.sum() - outside / outside.sum(), shape)
    edges = fft.irfft2(fft.rfft2((grey - grey.mean()) / grey.std(), shape) * bands.conj(), shape)
    near = np.roll(edges, (NUDGE, NUDGE), axis=(0, 1))[: 2 * NUDGE + 1, : 2 * NUDGE + 1]
    near = near * np.sign(near[NUDGE, NUDGE])  # the objects' polarity is that which they have where the mask lies
    row, column = np.unravel_index(near.argmax(), near.shape)
    down, right = int(row) - NUDGE, int(column) - NUDGE
    here, best = near[NUDGE, NUDGE], near[row, column]
    if np.hypot(down, right) < 2 or best < PLAIN_CONTRAST or here > LEFT * best:
        return None
    return down, right, float(here), float(best)
