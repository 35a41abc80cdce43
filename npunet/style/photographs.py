"""Where a generator learns: random squares of the photographs of a folder, at random scales.

A photograph of a few thousand pixels holds many different squares. Its shorter side is brought to a random length
around --photo-size, a square of --size pixels is cut from it at a random place, and mirrored half of the time. So a
generator that is to paint at 512 pixels learns on squares of 128: what a square shows has the size that it will have
then, and a step takes a sixteenth of the time. The style picture is looked at in the same size as the photographs,
because it decides how large strokes are.

To read and scale down 12 megapixels takes longer than a step, so photographs are read once and kept in the largest
size that is drawn, in bytes, as long as there is room.
"""

import numpy as np
from PIL import Image

from npunet.commands import scaling
from npunet.style.pictures import fitted, read_picture

SPREAD = 1.5  # a photograph's shorter side is --photo-size divided by this at least and times this at most
ROOM = 10**9  # bytes for photographs that are kept


class Photographs:
    """Squares of `size` pixels from the files `paths`, whose shorter sides are about `photo_size` pixels."""

    def __init__(self, paths, size, photo_size):
        self.paths, self.size = paths, size
        self.shortest, self.longest = max(size, photo_size / SPREAD), max(size, photo_size * SPREAD)
        self.kept, self.bytes = {}, 0

    def photograph(self, path):
        """(H, W, 3) uint8, its shorter side at most `longest` pixels, and at least `size`."""
        if path in self.kept:
            return self.kept[path]
        picture = read_picture(path)
        shorter = min(picture.shape[:2])
        if shorter > self.longest or shorter < self.size:
            picture = fitted(picture, round(self.longest) if shorter > self.longest else self.size)
        picture = np.round(picture * 255).astype(np.uint8)
        if self.bytes + picture.nbytes <= ROOM:
            self.kept[path] = picture
            self.bytes += picture.nbytes
        return picture

    def square(self, rng):
        """A random square of a random photograph: (size, size, 3) float32 in 0..1."""
        picture = self.photograph(self.paths[rng.integers(len(self.paths))])
        height, width = picture.shape[:2]
        shorter = np.exp(rng.uniform(np.log(self.shortest), np.log(self.longest)))  # that the photograph would get
        side = min(round(self.size * min(height, width) / shorter), height, width)  # of the square, before scaling
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        square = picture[top : top + side, left : left + side] / np.float32(255)
        square = np.clip(scaling.resize(square, self.size, self.size, Image.Resampling.LANCZOS), 0, 1)
        return square[:, ::-1] if rng.random() < 0.5 else square

    def batch(self, count, seed, step):
        """The squares of one step: (count, size, size, 3). Each step has random numbers of its own."""
        rng = np.random.default_rng([seed, step])
        return np.stack([self.square(rng) for _ in range(count)])
