"""Held-out images that are training images saved again: as JPEG, turned, mirrored, brighter, or of another bit depth.

Their bytes differ, so that fingerprints do not tell. Small pictures of all images are compared first, which costs next
to nothing; where they agree, the fine structure decides: in two images of one scene the noise differs.
"""

import numpy as np
from scipy import ndimage

from npunet.datasets.dataset import fingerprint
from npunet.datasets.finding import HIGH, Finding, named

SIDE = 12  # pixels of a small picture
AS_A_WHOLE, IN_DETAIL = 0.9, 0.8  # correlation of small pictures, and of what `fine` leaves, of one image saved twice


def look_alikes(training, held_out):
    """A `Finding` with the pairs (held-out image, training image); none for copies bit by bit, which are a leak."""
    known = {fingerprint(sample.image) for sample in training}
    small = np.array([whole(grey_of(sample)) for sample in training])
    pairs = []
    for sample in held_out:
        grey = grey_of(sample)
        if fingerprint(sample.image) in known or grey.std() < 1e-3:
            continue
        for turned in symmetries(grey):
            alike = small @ whole(turned) > AS_A_WHOLE
            there = [s for s, same in zip(training, alike) if same and s.labels.shape == turned.shape]
            pairs += [f"{sample.name} = {s.name}" for s in there if fine(grey_of(s)) @ fine(turned) > IN_DETAIL]
    if pairs:
        yield Finding(
            "look-alike",
            f"held-out images are training images saved again, or turned ({named(dict.fromkeys(pairs))}), so scores "
            "flatter; remove them",
            HIGH,
        )


def grey_of(sample):
    return sample.image.mean(axis=2)


def symmetries(grey):
    """The eight ways of turning and mirroring an image."""
    for mirrored in (grey, grey[:, ::-1]):
        for turns in range(4):
            yield np.rot90(mirrored, turns)


def whole(grey):
    """(SIDE * SIDE,): the image made small, of mean 0 and length 1, so that a product is a correlation."""
    rows, columns = (np.linspace(0, side, SIDE + 1).astype(int)[:-1] for side in grey.shape)
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, grey.shape[0]]), np.diff([*columns, grey.shape[1]]))
    return unit(sums / counts)


def fine(grey):
    """(H * W,): what a blurred copy lacks, of mean 0 and length 1."""
    return unit(grey - ndimage.uniform_filter(grey, 5))


def unit(values):
    values = values.ravel().astype(np.float64) - values.mean()
    return values / max(np.linalg.norm(values), 1e-12)
