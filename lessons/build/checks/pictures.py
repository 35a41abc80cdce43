"""Checks of augmentation.py and tiling.py."""

import numpy as np

from lessons.build import oracles

FIELD = ("component", "row", "column")


def check_displacement_field(check):
    rng = np.random.default_rng(1)
    constant, slope, bump = np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), np.zeros((2, 3, 3))
    constant[0], constant[1] = 3, -2
    slope[0] = np.arange(3)[:, None]
    bump[0, 1, 1] = 4
    examples = {
        "the example of the form": (bump, 5),
        "nine equal vectors: the tile moves as a whole": (constant, 4),
        "a straight slope stays straight": (slope, 7),
        "random vectors, 9 x 9 pixels": (10 * rng.standard_normal((2, 3, 3)), 9),
        "random vectors, 8 x 8 pixels: the middle vector lies between pixels": (rng.standard_normal((2, 3, 3)), 8),
    }
    for case, (vectors, size) in examples.items():
        expected = oracles.displacement_field(vectors, size)
        mistakes = field_mistakes(vectors, size)
        arguments = {"vectors": vectors, "size": size}
        check(case, arguments, expected, mistakes, outputs=("field",), axes=FIELD)
    how = "No loop over pixels: a matrix B (size, 3) holds the shares of the three points; the field is B @ D @ B.T"
    check.fast("204 x 204 pixels", {"vectors": vectors, "size": 204}, 0.03, how)


def field_mistakes(vectors, size):
    def by(basis):
        return basis @ vectors @ basis.T

    t = np.linspace(0, 2, size)
    right = by(spline(t))
    linear = np.maximum(0, 1 - np.abs(t[:, None] - np.arange(3)))
    parabola = np.stack([(t - 1) * (t - 2) / 2, t * (2 - t), t * (t - 1) / 2], axis=1)
    gauss = np.exp(-((t[:, None] - np.arange(3)) ** 2) / 2)
    smooth = 3 * linear**2 - 2 * linear**3
    return {
        "linear between the points: the paper interpolates bicubically, see the formula with the bend": by(linear),
        "the bend has the wrong sign": by(2 * linear - spline(t)),
        "a parabola through the three points; the form's natural cubic spline has no bend at its ends": by(parabola),
        "each pixel takes the nearest vector": by(np.eye(3)[np.floor(t + 0.5).astype(int)]),
        "rows and columns of the grid are exchanged": right.swapaxes(1, 2),
        "the two components are exchanged: y comes first": right[::-1],
        "the grid reaches one pixel too far: its last point lies on the last pixel, size - 1": by(
            spline(np.arange(size) * 2 / size)
        ),
        "the grid is measured to the edges of the pixels; its points lie on the middles of the corner pixels": by(
            spline((np.arange(size) + 0.5) * 2 / size)
        ),
        "the first half's formula serves for both halves; beyond the middle count from the other end, 2 - t": by(
            first_half(t)
        ),
        "the cubic is used along one axis only, the columns; along the rows it is linear": linear
        @ vectors
        @ spline(t).T,
        "the cubic is used along one axis only, the rows; along the columns it is linear": spline(t)
        @ vectors
        @ linear.T,
        "weights like a Gaussian do not pass through the vectors": by(gauss / gauss.sum(axis=1, keepdims=True)),
        "a smooth step between the points (3 s^2 - 2 s^3): flat at each of them, a spline is not": by(smooth),
        "the factor of the bend is (a - 2 b + c) / 4": by(linear + 4 * (spline(t) - linear)),
        "the factor of the bend is (a - 2 b + c) / 4, not / 6": by(linear + 4 / 6 * (spline(t) - linear)),
        "the factor of the bend is (a - 2 b + c) / 4, not / 2": by(linear + 2 * (spline(t) - linear)),
    }


def spline(t):
    """The shares (len(t), 3) of the three points."""
    basis = np.empty((len(t), 3))
    for point, (a, b, c) in enumerate(np.eye(3)):
        s = np.where(t <= 1, t, 2 - t)
        basis[:, point] = np.where(t <= 1, a, c) * (1 - s) + b * s + (a - 2 * b + c) / 4 * (s**3 - s)
    return basis


def first_half(t):
    basis = np.empty((len(t), 3))
    for point, (a, b, c) in enumerate(np.eye(3)):
        basis[:, point] = a * (1 - t) + b * t + (a - 2 * b + c) / 4 * (t**3 - t)
    return basis


def pooling_network(tile, output, grid, classes=2):
    """A network that is nothing but its pooling: each pixel answers with a mean of its window, and with itself."""
    border = (tile - output) // 2

    def network(x):
        if np.shape(x)[:2] != (tile, tile):
            raise ValueError(f"the network got a tile of shape {np.shape(x)}; expected ({tile}, {tile}, C)")
        x = np.asarray(x)
        pooled = pool(x[..., 0], grid)
        both = np.stack([pooled.repeat(grid, 0).repeat(grid, 1), x[..., 0]], axis=-1)
        return both[border : border + output, border : border + output, :classes]

    return network


def pool(x, grid):
    """A weighted mean of every window, so that every pixel of it and its place count."""
    shares = np.arange(1.0, grid * grid + 1).reshape(grid, grid) ** 0.5
    windows = x.reshape(x.shape[0] // grid, grid, x.shape[1] // grid, grid)
    return np.einsum("iajb,ab->ij", windows, shares / shares.sum())


TILES = {  # shape of the image; tile, output, grid
    "one tile is enough": ((8, 8), (12, 8, 4)),
    "two tiles of 8 pixels side by side": ((8, 16), (12, 8, 4)),
    "an image that is no multiple of the output": ((13, 19), (12, 8, 4)),
    "an output of 10 on a grid of 4: the next tile starts 8 further": ((20, 26), (16, 10, 2 * 2)),
    "an image smaller than the border: it is mirrored again and again": ((2, 3), (24, 12, 4)),
}


def check_overlap_tile(check):
    for seed, (case, (shape, (tile, output, grid))) in enumerate(TILES.items()):
        image = np.random.default_rng(seed).permutation(shape[0] * shape[1]).reshape(*shape, 1) + 1.0
        network = pooling_network(tile, output, grid)
        border = (tile - output) // 2
        side = lambda n: grid * (-(-n // grid) + 1) + 2 * border + tile  # noqa: E731
        whole = expected_of(image, border, side(shape[0]) // grid * grid, side(shape[1]) // grid * grid, grid)
        check(
            case,
            {"network": network, "image": image, "tile": tile, "output": output, "grid": grid},
            whole,
            {sentence: make() for sentence, make in tile_mistakes(network, image, tile, output, grid).items()},
            outputs=("result",),
            axes=("row", "column", "class"),
        )
    check.verdict()


def expected_of(image, border, height, width, grid):
    """The answer of one big pass over the mirrored image."""
    big = np.empty((height, width))
    for i, j in np.ndindex(height, width):
        big[i, j] = image[oracles.mirrored(i - border, image.shape[0]), oracles.mirrored(j - border, image.shape[1]), 0]
    pooled = pool(big, grid).repeat(grid, 0).repeat(grid, 1)
    inside = slice(border, border + image.shape[0]), slice(border, border + image.shape[1])
    return np.stack([pooled[inside], big[inside]], axis=-1)


def tile_mistakes(network, image, tile, output, grid):
    border, stride = (tile - output) // 2, output // grid * grid
    down, across = image.shape[:2]

    def tiled(mode="reflect", stride=stride, pulled=False, border=border):
        long = [(border, border + tile + stride)] * 2 + [(0, 0)]
        padded = np.pad(image, long, mode=mode)
        result = np.zeros((down + tile + stride, across + tile + stride, 2))
        for top in starts(down, stride, pulled):
            for left in starts(across, stride, pulled):
                piece = padded[top : top + tile, left : left + tile]
                result[top : top + output, left : left + output] = network(piece)
        return result[:down, :across]

    def starts(length, stride, pulled):
        found = list(range(0, length, stride))
        return [min(start, max(length - output, 0)) for start in found] if pulled else found

    def without_rest():
        result = np.zeros_like(tiled())
        high, wide = down // output * output, across // output * output
        result[:high, :wide] = tiled()[:high, :wide]
        return result

    return {
        "zeros around the image; it should be mirrored": lambda: tiled("constant"),
        "the edge pixel is repeated by the mirror: 2 1 | 0 1 2, not 1 0 | 0 1 2": lambda: tiled("symmetric"),
        "the edge pixel is drawn outwards; the image should be mirrored": lambda: tiled("edge"),
        "the image goes on at its other side; it should be mirrored": lambda: tiled("wrap"),
        "tiles stand output pixels apart, which is no multiple of the pooling grid here: their windows do not agree "
        "(lesson 9)": lambda: tiled(stride=output),
        "the last tile is pulled back into the image: its pooling windows stand elsewhere, unless it moves by a "
        "multiple of grid": lambda: tiled(pulled=True),
        "the rest is missing: pixels beyond the last whole tile were never answered": without_rest,
        "rows and columns are exchanged": lambda: tiled().swapaxes(0, 1),
        "tiles begin at the image's corner; the network answers for the middle, so they begin border pixels before": (
            lambda: tiled(border=0)
        ),
        "the border is tile - output on each side; half of it belongs to each": lambda: tiled(border=2 * border),
        "the border is one pixel off": lambda: tiled(border=border + 1),
        "the border is one pixel off ": lambda: tiled(border=max(border - 1, 0)),
    }
