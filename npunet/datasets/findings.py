"""What is wrong with a data set, found by looking at it: masks that do not fit, images of another kind, leaks.

Each finding is one line: what was seen, with the numbers, and what helps. `npunet.inspect` prints all of them,
`npunet.train` the worst. A healthy set has none.
"""

import numpy as np
from scipy import ndimage

from npunet.datasets import drawing
from npunet.datasets.capture import cut_off, out_of_focus
from npunet.datasets.dataset import HELD_OUT, fingerprint
from npunet.datasets.finding import HIGH, MIDDLE, Finding, named
from npunet.datasets.look_alike import look_alikes
from npunet.datasets.placement import misplaced, polarities

MANY_PIECES, CRUMB = 20, 5  # objects of a mask, and pixels of one, from which `crumbs` counts


def findings(dataset, held_out=HELD_OUT):
    """All `Finding`s of a Dataset, the worst first. held_out: as in Dataset.split."""
    samples = dataset.samples
    training, rest = (part.samples for part in dataset.split(held_out)) if len(samples) > 1 else (samples, [])
    binary = dataset.n_classes == 2
    found = [*empty_masks(samples, rest), *full_masks(samples), *leaks(training, rest), *copies(samples)]
    found += [*rare_classes(dataset, training, rest), *masks_as_images(samples), *exposures(samples), *flat(samples)]
    found += [*sizes(samples), *colours(samples), *bit_depths(samples), *look_alikes(training, rest)]
    found += [*out_of_focus(samples), *cut_off(samples)]
    if binary:
        found += [*polarities(samples), *tiny_objects(samples), *crumbs(samples, dataset.kind == "instances")]
        found += masks(samples)
    return sorted(found, key=lambda finding: -finding.severity)


def masks(samples):
    """Masks that are drawn or placed wrongly, each named for one reason: the others would follow from it."""
    rings = drawing.outlines(samples)
    yield from drawing.not_filled(rings)
    samples = without(samples, rings)
    placed = list(misplaced(samples))
    yield from (finding for _, finding in placed)
    samples = without(samples, [sample for sample, _ in placed])
    yield from drawing.nudged(samples)
    yield from drawing.unfinished(samples)


def without(samples, odd):
    return [sample for sample in samples if not any(sample is other for other in odd)]


def worst_findings(dataset, held_out=HELD_OUT, most=3):
    """The first few findings of the higher severities, for `npunet.train`."""
    serious = [finding for finding in findings(dataset, held_out) if finding.severity >= MIDDLE]
    more = [f"{len(serious) - most} more findings; python -m npunet.inspect shows all"] if len(serious) > most else []
    return [*serious[:most], *more]


def empty_masks(samples, held_out):
    """Images without any object. Some may be so on purpose; all of the held-out ones cannot be."""
    empty = [sample.name for sample in samples if not (sample.labels[~sample.ignored] > 0).any()]
    if held_out and all(sample.name in empty for sample in held_out):
        yield Finding(
            "empty held out", "no held-out image has an object, so nothing can be scored; hold out others", HIGH
        )
    elif empty:
        share = f"{len(empty)} of {len(samples)} images have no object in their mask ({named(empty)})"
        yield Finding("empty mask", f"{share}; are they annotated? Take those that are not out", MIDDLE)


def full_masks(samples):
    """Masks that are object everywhere."""
    full = [s.name for s in samples if s.labels.size and (s.labels[~s.ignored] > 0).all()]
    if full:
        yield Finding(
            "full mask", f"the mask of {named(full)} is object everywhere; is it inverted or unfinished?", HIGH
        )


def leaks(training, held_out):
    """Held-out images that are trained on too, by content."""
    known = {fingerprint(sample.image): sample.name for sample in training}
    same = [f"{s.name} = {known[fingerprint(s.image)]}" for s in held_out if fingerprint(s.image) in known]
    if same:
        yield Finding(
            "leak",
            f"held-out images are copies of training images ({named(same)}), so scores flatter; remove them",
            HIGH,
        )


def copies(samples):
    """Images that are there twice."""
    groups = {}
    for sample in samples:
        groups.setdefault(fingerprint(sample.image), []).append(sample)
    for group in groups.values():
        if len(group) > 1:
            words = f"{named(s.name for s in group)} are the same image"
            if len({fingerprint(sample.labels) for sample in group}) > 1:
                yield Finding("two masks of one image", f"{words} with different masks; keep one", HIGH)
            else:
                yield Finding("duplicate", f"{words}; keep one", MIDDLE)


def rare_classes(dataset, training, held_out):
    """Classes that training never sees, or hardly."""
    if dataset.n_classes < 3:
        return
    values = dataset.class_values or tuple(range(dataset.n_classes))
    counts = np.sum([np.bincount(s.labels.ravel(), minlength=dataset.n_classes) for s in training], axis=0)
    there = [sum((sample.labels == k).any() for sample in training) for k in range(dataset.n_classes)]
    for k, value in enumerate(values):
        if counts[k] == 0:
            yield Finding("class only held out", f"no training image has class {k} (mask value {value})", HIGH)
        elif counts[k] < 1e-3 * counts.sum() and there[k] <= max(1, len(training) // 4):
            yield Finding(
                "rare class",
                f"class {k} (mask value {value}) has {counts[k]} pixels in {there[k]} of {len(training)} images; "
                "is it a slip of the pen?",
            )


def masks_as_images(samples):
    """Images that are their own masks, or have the annotation burnt in."""
    odd = []
    for sample in samples:
        grey, objects = sample.image.mean(axis=2), sample.labels > 0
        if objects.any() and not objects.all():
            inside, outside = grey[objects], grey[~objects]
            if inside.std() < 1e-3 and not (abs(outside - inside.mean()) < 1e-3).any():
                odd.append(sample.name)
    if len(odd) > len(samples) // 4:
        yield Finding(
            "mask as image",
            f"in {named(odd)} every object pixel has one grey value that no other pixel has; is the mask the image, or "
            "the annotation drawn into it?",
            HIGH,
        )


def exposures(samples):
    """Images whose grey values are far from those of the others."""
    if len(samples) < 4:
        return
    means = np.array([sample.image.mean() for sample in samples])
    middle = np.median(means)
    spread = np.median(abs(means - middle)) * 1.48 + 0.02
    odd = [f"{s.name} ({mean:.2f})" for s, mean in zip(samples, means) if abs(mean - middle) > max(6 * spread, 0.12)]
    if odd and len(odd) <= len(samples) // 3:
        yield Finding(
            "exposure",
            f"the mean grey value of {named(odd)} is far from the others' ({middle:.2f}); another exposure, bit depth "
            "or polarity?",
        )


def flat(samples):
    """Images without contrast, or with much of it cut off."""
    black = [s.name for s in samples if s.image.max() - s.image.min() < 0.02]
    if black:
        yield Finding("blank image", f"{named(black)} are blank: one grey value; the file or its mask is wrong", HIGH)
    for end, word in ((1.0, "white"), (0.0, "black")):
        cut = [s.name for s in samples if s.name not in black and (s.image == end).mean() > 0.5 and not _two_valued(s)]
        if len(cut) > len(samples) // 2:
            yield Finding(
                "saturation",
                f"more than half of the pixels of {named(cut)} are {word}; overexposed or clipped?",
                MIDDLE,
            )
    dark = [s.name for s in samples if s.name not in black and s.image.max() < 0.15]
    if dark:
        yield Finding(
            "dark",
            f"{named(dark)} use less than 15 % of the grey values; save 12-bit images as 16 bit, not as 8",
            MIDDLE,
        )


def _two_valued(sample):
    return len(np.unique(sample.image[::4, ::4])) <= 2


def sizes(samples):
    """Images of very different sizes."""
    sides = [max(sample.labels.shape) for sample in samples]
    small = [s.name for s, side in zip(samples, sides) if 4 * side < np.median(sides)]
    large = [s.name for s, side in zip(samples, sides) if side > 4 * np.median(sides)]
    for names, word in ((small, "small"), (large, "large")):
        if names:
            yield Finding(
                "size", f"{named(names)}: {word} beside the others; is it of the same kind and scale?", MIDDLE
            )


def colours(samples):
    """Few coloured images among grey ones: the whole set becomes RGB."""
    coloured = [s.name for s in samples if s.image.shape[2] == 3 and (s.image != s.image[..., :1]).any()]
    if coloured and len(coloured) <= len(samples) // 3:
        yield Finding(
            "colour", f"{named(coloured)} are coloured, the others grey; the network becomes one for RGB", MIDDLE
        )


def bit_depths(samples):
    """Images of 8 bits beside others: the first are divided by 255, the others stretched."""
    plain = [s.name for s in samples if s.stretched is None]
    if plain and len(plain) < len(samples):
        others = [s.name for s in samples if s.stretched is not None]
        few, words = (
            (plain, "of 8 bits, the others of more") if len(plain) <= len(others) else (others, "not of 8 bits")
        )
        yield Finding(
            "bit depth",
            f"{named(few)}: {words}; 8 bits are divided by 255 and all others stretched, so that one exposure gives "
            "two grey values; save all images alike",
            MIDDLE,
        )


def crumbs(samples, numbered):
    """Masks in many pieces of a few pixels: noise, a threshold instead of a person, or numbers mixed up."""
    odd = []
    for sample in samples:
        pieces = sample.instances if numbered else ndimage.label(sample.labels > 0, np.ones((3, 3)))[0]
        sizes = np.bincount(pieces.ravel())[1:]
        sizes = sizes[sizes > 0]
        if sizes.size >= MANY_PIECES and (sizes < CRUMB).mean() > 0.5:
            odd.append(f"{sample.name} ({(sizes < CRUMB).sum()} of {sizes.size})")
    if odd:
        yield Finding(
            "crumbs",
            f"most objects have fewer than {CRUMB} pixels in {named(odd)}; is that noise, or the mask of a program?",
            MIDDLE,
        )


def tiny_objects(samples):
    """Masks with next to nothing in them."""
    tiny = [s.name for s in samples if 0 < (s.labels > 0).sum() < 10]
    if tiny:
        yield Finding(
            "tiny", f"the masks of {named(tiny)} have fewer than ten object pixels; slips of the pen?", MIDDLE
        )
