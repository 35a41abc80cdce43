"""Augmentation (§3.1): a few annotated sections become endlessly many, by deforming them as tissue deforms.

One training sample is drawn backwards. Nothing is pushed forward: for every pixel of the tile it is computed where in
the section its value comes from,

    source(t) = centre + L t + u(t)          t = pixel position relative to the middle of the tile, (y, x)

with a random centre (shift), L a random rotation and mirroring, and u the elastic displacement. The paper asks for
"shift and rotation invariance as well as robustness to deformations and gray value variations" (§3.1). Its smooth
deformations come from "random displacement vectors on a coarse 3 by 3 grid" (§3.1). "The displacements are sampled from
a Gaussian distribution with 10 pixels standard deviation. Per-pixel displacements are then computed using bicubic
interpolation" (§3.1; see `grid_basis` for what that means with three points).

The image is read at source(t) by cubic spline, labels and instances by nearest neighbour. Positions outside the section
are mirrored back into it, so any section serves any tile and no corner of a rotated tile is empty. The weight map of
Eq. 2 is made last, from the deformed instances.

    Settings           which of the parts are on, and how strong
    draw               the random numbers of one sample -> Drawn: a Deformation and an exposure
    Deformation        source(t) above, as an array of coordinates
    make_tile          the training sample made of them (gpu/augmentation.py makes the same on a GPU)
    draw_tile          both

The random numbers come from a NumPy Generator, always on the host, and all of them are drawn whether their part is on
or off: a seed gives the same sample on CPU and GPU, and switching one part off leaves the others as they were.
"""

import math
import weakref
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from npunet.datasets.dataset import Sample
from npunet.errors import InputError
from npunet.machine.backend import Array, array_module, ndimage_module
from npunet.weight_map import border_reach, weight_map

GRID = 3  # control points per axis (§3.1)


@dataclass(frozen=True)
class Settings:
    """What varies from sample to sample; the defaults are the paper's where it gives a number.

    0 or False switches a part off.
    """

    shift: bool = True  # the tile's centre is any pixel of the section; otherwise the middle of the section
    rotation: float = 180.0  # degrees; the angle is uniform in -rotation .. rotation
    mirror: bool = True  # each axis flipped with probability 1/2
    elastic: float = 10.0  # pixels; standard deviation of the nine displacement vectors (§3.1)
    grey: float = 0.1  # standard deviation of offset, log(gain) and log(gamma), see grey_variation
    w0: float = 10.0  # Eq. 2: height of the separation border
    sigma: float = 5.0  # Eq. 2: its width in pixels
    class_weights: tuple | None = None  # Eq. 2: w_c of each class, from weight_map.class_balance; None = 1


NO_AUGMENTATION = Settings(shift=False, rotation=0.0, mirror=False, elastic=0.0, grey=0.0)


@dataclass(frozen=True)
class Deformation:
    """Where each pixel of a deformed tile comes from. Plain NumPy, float64, pixels."""

    tile: int  # side of the square over which the 3 x 3 grid is spread
    centre: np.ndarray  # (2,) y, x in the section of the middle of the tile
    linear: np.ndarray  # (2, 2) rotation and mirroring
    displacements: np.ndarray  # (2, 3, 3) y and x displacement of each grid point

    def basis(self, size: int) -> np.ndarray:
        """(size, 3) float64: the shares of the grid points in the middle `size` pixels of a row, see `grid_basis`."""
        return grid_basis(self.tile, size)

    def coordinates(self, size: int) -> np.ndarray:
        """(2, size, size) float64: the (y, x) in the section of each pixel of the middle `size` x `size` pixels."""
        steps = np.arange(size) - (size - 1) / 2  # t, for both axes
        field = displacement_field(self.displacements, self.tile, size)  # (2, size, size)
        for axis in range(2):
            field[axis] += self.centre[axis] + self.linear[axis, 0] * steps[:, None]  # (size, 1): L t, its y half
            field[axis] += self.linear[axis, 1] * steps  # (size,): its x half
        return field


@dataclass(frozen=True)
class Drawn:
    """All random numbers of one sample; the last three are those of `grey_variation`."""

    deformation: Deformation
    gain: float
    offset: float
    gamma: float


def displacement_field(displacements: np.ndarray, tile: int, size: int | None = None) -> np.ndarray:
    """The elastic displacement of every pixel: (2, 3, 3) vectors on the grid -> (2, size, size) float64, pixels.

    The grid's outer points lie on the corner pixels of a `tile` x `tile` square; the field is that of its middle
    `size` x `size` pixels (default: all). Interpolation is separable: field = B D B^T, B from `grid_basis`.
    """
    basis = grid_basis(tile, size or tile)  # (size, 3)
    return basis @ displacements @ basis.T  # (size, 3) @ (2, 3, 3) @ (3, size)


def grid_basis(tile: int, size: int) -> np.ndarray:
    """B (size, 3): the share of each of three equidistant grid points in each pixel; cubic interpolation as a matrix.

    "Bicubic" needs four points and the grid has three, so we take the smoothest cubic through them, the natural cubic
    spline. It passes through the three vectors, repeats constants and straight lines exactly (an affine grid gives an
    affine field), and its second derivative is 0 at the ends, so beyond the tile it goes on as a straight line.
    """
    spline = CubicSpline(np.arange(GRID), np.eye(GRID), bc_type="natural")
    # 0 .. 2 over the tile
    position = (np.arange(size) - (size - 1) / 2) * (GRID - 1) / max(1, tile - 1) + (GRID - 1) / 2
    inside = np.clip(position, 0, GRID - 1)
    return spline(inside) + spline(inside, 1) * (position - inside)[:, None]


def draw_deformation(
    shape: tuple[int, int], tile: int, rng: np.random.Generator, settings: Settings = Settings()
) -> Deformation:
    """A random Deformation of a section of `shape` (H, W) for a tile; `rng` is a numpy.random.Generator."""
    position, turn, flip, grid = (
        rng.random(2),
        rng.uniform(-1, 1),
        rng.random(2) < 0.5,
        rng.standard_normal((2, GRID, GRID)),
    )
    pixel = np.floor(np.array(shape) * (position if settings.shift else 0.5))
    # Pixel tile // 2 comes from a whole pixel, so that a tile that is only shifted holds the section's own pixels.
    centre = pixel + (tile - 1) / 2 - tile // 2
    angle = math.radians(turn * settings.rotation)
    mirror = np.where(flip & settings.mirror, -1.0, 1.0)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return Deformation(tile, centre, rotation * mirror, grid * settings.elastic)


def draw(shape: tuple[int, int], tile: int, rng: np.random.Generator, settings: Settings = Settings()) -> Drawn:
    """The random numbers of one sample from a section of `shape` (H, W)."""
    deformation = draw_deformation(shape, tile, rng, settings)
    gain, offset, gamma = (rng.standard_normal(3) * settings.grey).tolist()
    return Drawn(deformation, math.exp(gain), offset, math.exp(gamma))


def draw_tile(
    sample: Sample, tile: int, output: int, rng: np.random.Generator, settings: Settings = Settings()
) -> tuple[Array, Array, Array]:
    """One random training sample for a network that turns `tile` x `tile` pixels into `output` x `output`.

    sample     a datasets.Sample of any size; its arrays, NumPy or CuPy, decide where the work is done
    rng        numpy.random.Generator; the same state gives the same sample
    Returns    image (tile, tile, C) float32, labels (output, output) int64, weights (output, output) float32.
               Weights follow Eq. 2; pixels that the sample ignores have weight 0.
    Raises InputError if the output is not the tile's middle.
    """
    return make_tile(sample, draw(sample.labels.shape, tile, rng, settings), output, settings)


def check_output(tile: int, output: int) -> None:
    """Raises InputError if `output` pixels are not the middle of `tile` pixels."""
    if not 0 < output <= tile or (tile - output) % 2:
        raise InputError(
            f"an output of {output} is not the middle of a tile of {tile}; expected output <= tile, both even or both "
            "odd (see npunet.geometry.output_size)"
        )


def make_tile(sample: Sample, drawn: Drawn, output: int, settings: Settings) -> tuple[Array, Array, Array]:
    """The sample that `draw_tile` returns, from its random numbers."""
    deformation = drawn.deformation
    tile = deformation.tile
    check_output(tile, output)
    image = read_image(sample.image, deformation.coordinates(tile))  # (tile, tile, C)
    if settings.grey:
        image = grey_variation(image, drawn.gain, drawn.offset, drawn.gamma)

    # Eq. 2 looks beyond the output: a cell cut off by its edge, or lying just outside, still has a border inside.
    reach = border_reach(settings.w0, settings.sigma) or 0
    # rows and columns, (o + 2r, o + 2r) each
    source = nearest_pixels(sample.labels, deformation.coordinates(output + 2 * reach))
    middle = (slice(reach, reach + output),) * 2
    source_middle = source[0][middle], source[1][middle]
    labels = sample.labels[source_middle].astype(np.intp)
    weights = weight_map(separate_pieces(sample.instances[source]), settings.w0, settings.sigma)[middle]
    if settings.class_weights is not None:
        xp = array_module(labels)
        weights = weights + (xp.asarray(settings.class_weights, np.float32)[labels] - 1)  # w_c in the place of 1
    if sample.ignore is not None:
        weights = weights * ~sample.ignore[source_middle]
    return image, labels, weights


def read_image(image: Array, coordinates: np.ndarray) -> Array:
    """The image (H, W, C) at `coordinates` (2, h, w) by cubic spline, mirrored at its borders: (h, w, C) float32."""
    xp = array_module(image)
    coordinates = xp.asarray(coordinates)
    channels = [
        ndimage_module(xp).map_coordinates(
            coefficients, coordinates, order=3, mode="mirror", prefilter=False, output=np.float32
        )
        for coefficients in spline_coefficients(image)
    ]
    return xp.stack(channels, axis=-1)


def nearest_pixels(image: Array, coordinates: np.ndarray) -> tuple[Array, Array]:
    """Index arrays (rows, columns) of the pixels of `image` (H, W) nearest to `coordinates` (2, h, w), mirrored at
    its borders.

    Mirrored means that the outermost pixel is not repeated: ... 2 1 [0 1 2 ... n-1] n-2 n-3 ..., as in mode="mirror" of
    the spline.
    """
    indices = []
    for size, coordinate in zip(image.shape, coordinates, strict=True):
        index = np.abs(np.floor(coordinate + 0.5).astype(np.int32)) % max(1, 2 * size - 2)  # 2n - 2: back at the start
        indices.append(array_module(image).asarray(np.minimum(index, 2 * size - 2 - index)))
    return tuple(indices)


def separate_pieces(instances: Array) -> Array:
    """Each 8-connected piece of a cell becomes a cell of its own, numbered 1..n: (H, W) integers -> (H, W) int32.

    For deformed instances: near the section's border the tile shows a cell and its mirror image, two cells to the eye,
    with one number. Left as one, the gap between them would not be weighted, and its bounding box would span the tile.
    """
    xp = array_module(instances)
    pieces, n_pieces = ndimage_module(xp).label(instances > 0, structure=xp.ones((3, 3), bool))
    pairs = instances.astype(np.intp) * (n_pieces + 1) + pieces  # touching cells share a piece, not a number
    present = xp.bincount(pairs.ravel()) > 0
    present[0] = False  # background
    return xp.cumsum(present, dtype=np.int32)[pairs] * (instances > 0)


def grey_variation(image: Array, gain: float = 1.0, offset: float = 0.0, gamma: float = 1.0) -> Array:
    """Another exposure of `image` (grey values 0..1): gain (image^gamma - 1/2) + 1/2 + offset, float32.

    The paper asks for robustness to grey-value variations and gives no formula. Gamma bends the curve between black and
    white, gain is contrast about middle grey, offset is brightness. The result is not clipped; values outside 0..1 (the
    spline may overshoot a little) are, before gamma.
    """
    xp = array_module(image)
    bent = xp.clip(image, 0, 1) ** np.float32(gamma)
    return np.float32(gain) * bent + np.float32(0.5 - 0.5 * gain + offset)


_coefficients = {}  # id(image) -> its spline coefficients, for as long as the image lives


def spline_coefficients(image: Array) -> Array:
    """Cubic B-spline coefficients (C, H, W) float32 of `image` (H, W, C), computed at the first call for this very
    array.

    They cost about a quarter of a sample's interpolation and never change, so they are kept until the image is freed
    (as much memory again as the images); an image must not be written to in between.
    """
    key = id(image)
    if key not in _coefficients:
        xp = array_module(image)
        channels = [
            ndimage_module(xp).spline_filter(image[..., channel], order=3, mode="mirror", output=np.float32)
            for channel in range(image.shape[2])
        ]
        keep_coefficients(image, xp.stack(channels))
    return _coefficients[key]


def keep_coefficients(image: Array, coefficients: Array) -> None:
    """`spline_coefficients` of this image from now on."""
    weakref.finalize(image, _coefficients.pop, id(image), None)
    _coefficients[id(image)] = coefficients
