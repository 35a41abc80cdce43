"""Sections drawn by the program, which look and behave like the ISBI 2012 electron micrographs of §4, with exact truth.

A section is made as nature and the microscope make one:

1. **cells**: ellipses of very different sizes grow until they meet (the nearest ellipse owns a pixel), and a smooth
   displacement bends their borders;
2. **membranes**: a dark line on each border, uneven in width and contrast, faint in places (cut obliquely) and smeared
   in others (synapses). In the labels it is always closed, as a person would close it;
3. **organelles**: mitochondria, vesicles and specks, as dark as membranes but labelled cell interior, so that no
   threshold on the grey value can tell the classes apart;
4. **the microscope**: uneven staining, grain, blur and noise, and at last 8 bits as in the real files.

Labels as in ISBI 2012: class 1 is cell interior, class 0 membrane. Neighbouring sections are independent of each other.
"""

import numpy as np
from scipy import ndimage

from npunet.datasets.dataset import Dataset, Sample
from npunet.errors import InputError

MARGIN = 24  # pixels drawn beyond each border, so that cells are cut off there and not arranged along it
SMALLEST_CELL = 30  # pixels; smaller scraps of interior are counted as membrane


def synthetic(n_sections: int = 12, size: int = 512, seed: int = 0) -> Dataset:
    """A `Dataset` of n_sections drawn sections of size x size pixels; the same seed gives the same bits.

    Section i depends on seed and i only: more sections or fewer leave it as it is. Raises InputError for sizes below
    32.
    """
    if n_sections < 1 or size < 32:
        raise InputError(f"{n_sections} synthetic sections of {size} pixels; expected at least 1 of at least 32")
    samples = [_section(f"section{index}", size, np.random.default_rng([seed, index])) for index in range(n_sections)]
    return Dataset("synthetic", samples, n_classes=2, kind="binary", class_values=(0, 1))


def _section(name, size, rng):
    side = size + 2 * MARGIN
    cells = _cells(side, rng)
    depth = ndimage.distance_transform_edt(~_borders(cells)).astype(np.float32)  # pixels to the nearest border
    width = 2.0 + 0.5 * _smooth(side, 24, rng).clip(-2, 3)  # of the dark line
    smear = _smears(depth, rng)
    membrane = depth <= 1.4 * width + 11 * smear  # what a person would paint

    # each cell has its own cytoplasm
    grey = 0.60 + 0.04 * rng.standard_normal(cells.max() + 1, dtype=np.float32)[cells]
    grey += _texture(side, rng)
    _draw_mitochondria(grey, depth, rng)
    _draw_vesicles(grey, depth, rng)
    # Contrast falls to almost nothing over some stretches of membrane; where the line is wide it is blurred and weak.
    contrast = (0.92 + 0.26 * _smooth(side, 14, rng) + 0.10 * _smooth(side, 50, rng) - 0.2 * (width - 2.0)).clip(
        0.10, 1.15
    )
    line = np.exp(-0.5 * (depth / width) ** 2) * contrast
    dark = 0.20 + 0.04 * _smooth(side, 20, rng)
    grey += (dark - grey) * np.maximum(line, 0.9 * np.sqrt(smear)).clip(0, 1)

    image = _microscope(grey, rng)
    inside = (slice(MARGIN, MARGIN + size),) * 2
    instances = _instances(~membrane[inside])
    return Sample(name, image[inside][..., None], (instances > 0).astype(np.intp), instances)


def _cells(side, rng):
    """(side, side) cell numbers: ellipses, none overlapping, grown until they touch, then bent."""
    seeds = np.zeros((side, side), np.int32)
    taken = np.empty((0, 3))  # row, column, radius of the ellipses so far
    radii = np.sort(np.exp(rng.normal(2.3, 0.8, size=int(side * side / 350))).clip(5, 85))[::-1]
    for radius in radii:  # large ones first, while there is room
        centre = rng.uniform(0, side, 2)
        if (np.hypot(*(taken[:, :2] - centre).T) < 1.02 * (taken[:, 2] + radius) + 3).any():
            continue
        taken = np.vstack([taken, [*centre, radius]])
        stretch = np.exp(rng.normal(0, 0.35))
        rows, columns, distance = _ellipse(
            side, centre, 0.8 * radius * stretch, 0.8 * radius / stretch, rng.uniform(0, np.pi)
        )
        seeds[rows, columns][distance < 1] = len(taken)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    grown = seeds[tuple(nearest)]
    rows, columns = np.indices((side, side), dtype=np.float32)
    shifts = [9 * _smooth(side, 32, rng) + 3 * _smooth(side, 11, rng) + 0.8 * _smooth(side, 5, rng) for _ in range(2)]
    rows = np.round(rows + shifts[0]).astype(int).clip(0, side - 1)
    columns = np.round(columns + shifts[1]).astype(int).clip(0, side - 1)
    return grown[rows, columns]


def _borders(cells):
    """True where a pixel's right or lower neighbour belongs to another cell."""
    borders = np.zeros(cells.shape, bool)
    borders[:-1] |= cells[:-1] != cells[1:]
    borders[:, :-1] |= cells[:, :-1] != cells[:, 1:]
    return borders


def _smears(depth, rng):
    """Dark patches on membranes, as at synapses: 1 in the middle, falling to 0."""
    smear = np.zeros_like(depth)
    on_border = np.argwhere(depth == 0)
    count = rng.poisson(depth.size / 24000) if len(on_border) else 0  # a small section may lie within one cell
    for centre in on_border[rng.integers(len(on_border), size=count)] if count else ():
        long, short = rng.uniform(9, 30), rng.uniform(5, 14)
        rows, columns, distance = _ellipse(len(depth), centre, long, short, rng.uniform(0, np.pi), reach=2.5)
        patch = smear[rows, columns]
        np.maximum(patch, np.exp(-1.5 * distance**2), out=patch)
    return np.where(smear > 0.03, smear, 0)


def _texture(side, rng):
    """Cytoplasm: grain of two sizes, light and dark regions, and specks (ribosomes, microtubules)."""
    grain = 0.07 * _filtered_noise(side, 1.2, rng) + 0.055 * _filtered_noise(side, 2.4, rng)
    specks = (rng.random((side, side)) < 0.006).astype(np.float32)
    specks = ndimage.gaussian_filter(specks, 1.3)
    density = (0.9 + 0.6 * _smooth(side, 30, rng)).clip(0.1)  # some regions are full of them
    return grain - 1.4 * specks * density + 0.03 * _smooth(side, 12, rng)


def _draw_mitochondria(grey, depth, rng):
    """Dark ellipses with a darker skin, a pale halo and striped inside, in cells that have room for them."""
    crooked = 0.06 * _smooth(len(depth), 9, rng)
    for _ in range(rng.poisson(depth.size / 30000)):
        radius, stretch, angle = rng.uniform(9, 24), rng.uniform(1.0, 1.4), rng.uniform(0, np.pi)
        room = _places(depth, radius + 5, rng)
        if not len(room):
            continue
        rows, columns, distance = _ellipse(len(depth), room[0], radius * stretch, radius / stretch, angle, reach=1.5)
        if (depth[rows, columns][distance < 1.2] == 0).any():  # another one, or the membrane, is in the way
            continue
        distance = distance + crooked[rows, columns]
        y, x = np.ogrid[rows, columns]
        stripes = np.sin((np.cos(angle + 0.6) * x + np.sin(angle + 0.6) * y) * rng.uniform(0.6, 0.9) + 4 * distance)
        body = rng.uniform(0.34, 0.48) + rng.uniform(0.10, 0.20) * stripes
        patch = grey[rows, columns]
        away = (distance - 1) * radius / stretch  # pixels from the skin, about
        inner = 1 / (1 + np.exp(2 * away))
        halo = np.exp(-0.5 * ((away - 4) / 1.8) ** 2)
        skin = np.exp(-0.5 * (away / 1.3) ** 2)
        patch += inner * (body - 0.24 - 0.6 * patch) + 0.05 * halo - 0.10 * skin
        depth[rows, columns][distance < 1.3] = 0  # no second one on top, no vesicles inside


def _draw_vesicles(grey, depth, rng):
    """Small dark rings around a pale inside: membranes to a filter, cell interior to the truth."""
    for centre in _places(depth, 7, rng)[: rng.poisson(depth.size / 700)]:
        radius, wall = min(rng.gamma(6, 0.6), depth[tuple(centre)] - 3), rng.uniform(0.8, 1.3)
        rows, columns, distance = _ellipse(
            len(depth), centre, radius * 1.1, radius * 0.9, rng.uniform(0, np.pi), reach=1 + 4 / radius
        )
        ring = np.exp(-0.5 * ((distance - 1) * radius / wall) ** 2)
        grey[rows, columns] += 0.03 * (distance < 0.8) - rng.uniform(0.08, 0.36) * ring


def _microscope(grey, rng):
    """Uneven staining and exposure, blur, noise, 8 bits."""
    side = len(grey)
    stain = 1 + 0.10 * _smooth(side, 60, rng)
    blurred = ndimage.gaussian_filter(0.48 + (grey - 0.48) * stain, rng.uniform(0.7, 0.95))
    exposure = rng.normal(0, 0.012) + 0.035 * _smooth(side, 90, rng)
    noisy = blurred + exposure + 0.065 * _filtered_noise(side, 0.55, rng)
    return (np.round(np.clip(noisy, 0, 1) * 255) / 255).astype(np.float32)


def _instances(interior):
    """4-connected components of the interior, numbered 1..n, scraps left out."""
    components, _ = ndimage.label(interior)
    sizes = np.bincount(components.ravel())
    keep = sizes >= SMALLEST_CELL
    keep[0] = False
    return (np.cumsum(keep) * keep).astype(np.int32)[components]


def _places(depth, least, rng):
    """Random pixels that are further than `least` from every membrane: (n, 2) rows and columns."""
    points = rng.integers(len(depth), size=(2000, 2))
    return points[depth[tuple(points.T)] > least]


def _ellipse(side, centre, long, short, angle, reach=1.0):
    """Slices of the box around an ellipse, within the canvas, and there the distance from its centre (1 on the
    ellipse).
    """
    extent = reach * max(long, short) + 1
    low = np.maximum(np.floor(np.asarray(centre) - extent), 0).astype(int)
    high = np.minimum(np.ceil(np.asarray(centre) + extent) + 1, side).astype(int)
    y, x = np.arange(low[0], high[0])[:, None] - centre[0], np.arange(low[1], high[1]) - centre[1]
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return slice(low[0], high[0]), slice(low[1], high[1]), np.hypot(along / long, across / short)


def _smooth(side, scale, rng):
    """A random field of zero mean and unit variance, correlated over about `scale` pixels:
    noise at points, blended by bells.
    """
    points = np.arange(-2, side / scale + 3) * scale
    bells = np.exp(-0.5 * ((np.arange(side)[:, None] - points) / scale) ** 2)  # (side, points)
    bells = (bells / np.sqrt((bells**2).sum(axis=1, keepdims=True))).astype(np.float32)
    return bells @ rng.standard_normal((len(points), len(points)), dtype=np.float32) @ bells.T  # (side, side)


def _filtered_noise(side, sigma, rng):
    """White noise through a Gaussian of sigma pixels, brought back to unit variance."""
    noise = ndimage.gaussian_filter(rng.standard_normal((side, side), dtype=np.float32), sigma)
    return noise / noise.std()
