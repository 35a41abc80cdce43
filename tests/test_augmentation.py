"""Augmentation (§3.1): against the untouched section, mirrored padding, SciPy's own interpolation, and known fields."""

import gc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import strict_array
from scipy import ndimage

import npunet.weight_map
from npunet import augmentation
from npunet.augmentation import (
    NO_AUGMENTATION,
    Deformation,
    Settings,
    displacement_field,
    draw_deformation,
    draw_tile,
    grey_variation,
    grid_basis,
    nearest_pixels,
    read_image,
    separate_pieces,
)
from npunet.errors import InputError
from npunet.machine.backend import to_cpu
from npunet.weight_map import weight_map


def make_sample(shape=(60, 70), channels=1, seed=0, ignore=False):
    """Discs with dark gaps; the attributes of datasets.Sample."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    v, u = (y // 14) * 14 + 7, (x // 14) * 14 + 7
    inside = (y - v) ** 2 + (x - u) ** 2 < 36
    instances = np.where(inside, (y // 14) * 100 + x // 14 + 1, 0).astype(np.int32)
    grey = ndimage.gaussian_filter(0.2 + 0.6 * inside + rng.normal(0, 0.05, shape), 1)
    image = np.stack([grey * (1 - 0.2 * channel) for channel in range(channels)], axis=-1).astype(np.float32)
    return SimpleNamespace(
        image=image,
        labels=inside.astype(np.int64),
        instances=instances,
        ignore=rng.random(shape) < 0.1 if ignore else None,
    )


def mirrored(array, margin):
    """`array` with a margin that mirrors it, made by NumPy."""
    return np.pad(array, [(margin, margin)] * 2 + [(0, 0)] * (array.ndim - 2), mode="reflect")


def identity(tile, centre=(0.0, 0.0)):
    return Deformation(tile, np.array(centre), np.eye(2), np.zeros((2, 3, 3)))


# ---- everything off -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile, output", [(20, 12), (21, 13), (20, 20), (100, 64)])
def test_everything_off_is_the_middle_of_the_section(tile, output):
    sample = make_sample(channels=3)
    image, labels, weights = draw_tile(sample, tile, output, np.random.default_rng(0), NO_AUGMENTATION)
    assert image.dtype == np.float32 and labels.dtype == np.int64 and weights.dtype == np.float32
    top, left, cut = 100 + 30 - tile // 2, 100 + 35 - tile // 2, (tile - output) // 2  # in arrays padded by 100
    inner = slice(top + cut, top + cut + output), slice(left + cut, left + cut + output)
    np.testing.assert_allclose(image, mirrored(sample.image, 100)[top : top + tile, left : left + tile], atol=2e-6)
    np.testing.assert_array_equal(labels, mirrored(sample.labels, 100)[inner])
    if output < 30:  # no mirrored cell within reach of the output
        np.testing.assert_array_equal(weights, mirrored(weight_map(sample.instances), 100)[inner])


@pytest.mark.parametrize("seed", range(5))
def test_shift_alone_copies_pixels_of_the_mirrored_section(seed):
    sample = make_sample((33, 47))
    settings = replace(NO_AUGMENTATION, shift=True)
    # the tile is larger than the section
    image, labels, _ = draw_tile(sample, 60, 40, np.random.default_rng(seed), settings)
    # 32: np.pad mirrors a second time
    wide, wide_labels = mirrored(sample.image, 30 + 32), mirrored(sample.labels, 30 + 32)
    found = [
        (top, left)
        for top in range(33 + 32 + 1)
        for left in range(47 + 32 + 1)
        if top + 60 <= wide.shape[0]
        and left + 60 <= wide.shape[1]
        and np.allclose(image, wide[top : top + 60, left : left + 60], atol=1e-5)
    ]
    assert found
    top, left = found[0]
    np.testing.assert_array_equal(labels, wide_labels[top + 10 : top + 50, left + 10 : left + 50])


def test_shift_reaches_every_pixel():
    rng = np.random.default_rng(0)
    centres = {tuple(draw_deformation((3, 4), 5, rng).centre) for _ in range(300)}
    assert centres == {(y, x) for y in range(3) for x in range(4)}


# ---- the parts of the deformation ----------------------------------------------------------------------------------


def test_grid_basis_is_the_natural_cubic_spline():
    basis = grid_basis(5, 5)  # pixels at 0, 1/2, 1, 3/2, 2 of the grid
    np.testing.assert_allclose(basis[::2], np.eye(3), atol=1e-15)
    half = 1.5 * 0.5 - 0.5 * 0.5**3  # by hand: through (0, 1, 0) runs 3/2 u - u^3 / 2
    np.testing.assert_allclose(basis[1:4:2, 1], half, rtol=1e-14)
    np.testing.assert_allclose(grid_basis(572, 700).sum(axis=1), 1, rtol=1e-13)


@pytest.mark.parametrize("tile, size", [(40, 40), (41, 41), (40, 22), (40, 60), (188, 66)])
def test_affine_grid_gives_the_affine_field(tile, size):
    """Also beyond the tile (size > tile), where the weight map looks for neighbouring cells."""
    rng = np.random.default_rng(1)
    constant, matrix = rng.normal(size=2), rng.normal(size=(2, 2))
    nodes = np.array([-(tile - 1) / 2, 0, (tile - 1) / 2])
    pixels = np.arange(size) - (size - 1) / 2
    affine = lambda t: constant[:, None, None] + matrix[:, :1, None] * t[:, None] + matrix[:, 1:, None] * t
    np.testing.assert_allclose(displacement_field(affine(nodes), tile, size), affine(pixels), rtol=1e-11, atol=1e-11)


def test_displacements_have_the_papers_spread():
    rng = np.random.default_rng(2)
    vectors = np.array([draw_deformation((512, 512), 572, rng).displacements for _ in range(400)])
    assert vectors.shape == (400, 2, 3, 3)
    assert abs(vectors.std() - 10) < 0.3 and abs(vectors.mean()) < 0.5
    field = displacement_field(vectors[0], 572)
    # grid corners on corner pixels
    np.testing.assert_allclose(field[:, ::571, ::571], vectors[0][:, ::2, ::2], atol=1e-9)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flip", [False, True])
def test_quarter_turns_and_mirrors_are_exact(turns, flip):
    """The 8 symmetries of the square that NumPy has too."""
    sample = make_sample((31, 31))
    angle = turns * np.pi / 2
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * ([1, -1] if flip else [1, 1])
    coordinates = Deformation(31, np.array([15.0, 15.0]), linear, np.zeros((2, 3, 3))).coordinates(31)
    expected = np.rot90(sample.image, -turns)
    expected = expected[:, ::-1] if flip else expected
    np.testing.assert_allclose(read_image(sample.image, coordinates), expected, atol=2e-6)
    rows, columns = nearest_pixels(sample.labels, coordinates)
    expected = np.rot90(sample.labels, -turns)
    np.testing.assert_array_equal(sample.labels[rows, columns], expected[:, ::-1] if flip else expected)


def test_drawn_linear_part_is_a_rotation_with_mirror():
    rng = np.random.default_rng(3)
    matrices = np.array([draw_deformation((9, 9), 5, rng).linear for _ in range(200)])
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (200, 2, 2)), atol=1e-12
    )
    assert 60 < (np.linalg.det(matrices) < 0).sum() < 140  # one flip in half of the cases
    quarter = [draw_deformation((9, 9), 5, rng, replace(NO_AUGMENTATION, rotation=10.0)).linear for _ in range(100)]
    angles = np.degrees(np.arctan2([m[1, 0] for m in quarter], [m[0, 0] for m in quarter]))
    assert np.abs(angles).max() <= 10 and angles.min() < -7 and angles.max() > 7


# ---- reading the section -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(20, 33), (7, 5), (2, 9), (1, 6)])
def test_reading_agrees_with_scipy(shape):
    rng = np.random.default_rng(4)
    image = rng.random((*shape, 2)).astype(np.float32)
    coordinates = rng.uniform(-40, 60, (2, 30, 31))  # mirrored several times over
    expected = np.stack(
        [
            ndimage.map_coordinates(image[..., c].astype(np.float64), coordinates, order=3, mode="mirror")
            for c in range(2)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(read_image(image, coordinates), expected, atol=1e-5)
    labels = rng.integers(0, 50, shape)
    expected = ndimage.map_coordinates(labels, coordinates, order=0, mode="mirror")
    np.testing.assert_array_equal(labels[nearest_pixels(labels, coordinates)], expected)


def test_no_wedge():
    """A section without black stays without black, however far the tile reaches over its border."""
    sample = make_sample((40, 40))
    flat = SimpleNamespace(**{**vars(sample), "image": np.full((40, 40, 1), 0.5, np.float32)})
    rng = np.random.default_rng(5)
    for _ in range(10):
        image, _, _ = draw_tile(flat, 92, 60, rng, replace(Settings(), grey=0.0))
        np.testing.assert_allclose(image, 0.5, atol=1e-6)
        image, _, _ = draw_tile(sample, 92, 60, rng, replace(Settings(), grey=0.0))
        assert image.min() > sample.image.min() - 0.05


def test_spline_coefficients_are_kept_and_freed():
    image = make_sample().image
    coefficients = augmentation.spline_coefficients(image)
    assert augmentation.spline_coefficients(image) is coefficients
    assert augmentation.spline_coefficients(image.copy()) is not coefficients
    kept = len(augmentation._coefficients)
    del image
    gc.collect()
    assert len(augmentation._coefficients) < kept


def test_grey_variation():
    image = np.array([[[0.0], [0.25], [1.0], [-0.1]]], np.float32)
    np.testing.assert_allclose(grey_variation(image)[0, :, 0], [0, 0.25, 1, 0])
    np.testing.assert_allclose(
        grey_variation(image, gain=2.0, offset=0.1, gamma=0.5)[0, :, 0], [-0.4, 0.6, 1.6, -0.4], atol=1e-6
    )
    assert grey_variation(image, 1.1, 0.1, 1.3).dtype == np.float32


# ---- the sample as a whole -----------------------------------------------------------------------------------------


def test_labels_keep_their_shares():
    sample, rng = make_sample((100, 100)), np.random.default_rng(6)
    share = [draw_tile(sample, 92, 60, rng)[1].mean() for _ in range(30)]
    assert abs(np.mean(share) - sample.labels.mean()) < 0.02
    assert np.abs(np.array(share) - sample.labels.mean()).max() < 0.12


def test_image_and_labels_move_together():
    """The image is the label map itself:
    read by spline it must agree with the labels, but for single pixels at the edges.
    """
    sample = make_sample((80, 80))
    sample.image = sample.labels[..., None].astype(np.float32)
    rng = np.random.default_rng(7)
    for _ in range(5):
        image, labels, _ = draw_tile(sample, 92, 60, rng, replace(Settings(), grey=0.0))
        assert ((image[16:76, 16:76, 0] > 0.5) == labels).mean() > 0.97  # moved by one pixel: 0.90


def test_weights_belong_to_the_deformed_labels():
    sample, rng = make_sample((90, 90)), np.random.default_rng(8)
    for _ in range(5):
        _, labels, weights = draw_tile(sample, 92, 60, rng)
        assert (weights[labels == 1] == 1).all()  # Eq. 2's border lies on background only
        assert (weights[labels == 0] > 1).all()  # and these discs are everywhere close together
        touching = ndimage.minimum_filter(labels, 3) < labels  # rim pixels of cells
        assert weights[ndimage.binary_dilation(touching) & (labels == 0)].max() > 4


def test_cells_outside_the_output_count():
    """The same draw with a smaller output gives the middle of the larger one, weights included."""
    sample = make_sample((200, 200))
    for seed in range(3):
        large = draw_tile(sample, 188, 120, np.random.default_rng(seed))
        small = draw_tile(sample, 188, 40, np.random.default_rng(seed))
        np.testing.assert_array_equal(small[0], large[0])
        np.testing.assert_array_equal(small[1], large[1][40:80, 40:80])
        np.testing.assert_array_equal(small[2], large[2][40:80, 40:80])


def test_weight_settings():
    sample = make_sample(ignore=True)
    draw = lambda settings: draw_tile(sample, 92, 60, np.random.default_rng(9), settings)
    _, labels, weights = draw(Settings())
    ignored = weights == 0
    assert 0.05 < ignored.mean() < 0.2
    np.testing.assert_array_equal(draw(Settings(w0=0.0))[2], ~ignored)
    balanced = draw(Settings(w0=0.0, class_weights=(2.0, 0.5)))[2]
    np.testing.assert_allclose(balanced, np.where(ignored, 0, np.where(labels == 1, 0.5, 2.0)))
    both = draw(Settings(class_weights=(2.0, 0.5)))[2]  # w_c + border, not w_c * border
    np.testing.assert_allclose(both - balanced, np.where(ignored, 0, weights - 1), atol=1e-5)


def test_mirror_images_are_cells_of_their_own():
    instances = np.array([[7, 7, 0, 7], [0, 5, 0, 0], [5, 0, 0, 7]], np.uint16)
    np.testing.assert_array_equal(separate_pieces(instances) > 0, instances > 0)
    pieces = separate_pieces(instances)
    assert pieces[0, 0] == pieces[0, 1] and pieces[1, 1] == pieces[2, 0]  # whole, also across a corner
    assert sorted(np.unique(pieces)) == [0, 1, 2, 3, 4]
    assert len({pieces[0, 0], pieces[0, 3], pieces[1, 1], pieces[2, 3]}) == 4
    one = SimpleNamespace(
        image=np.zeros((9, 9, 1), np.float32),
        labels=np.eye(9, dtype=int),
        ignore=None,
        instances=np.pad([[1]], ((1, 7), (1, 7))),
    )  # a single pixel, one pixel from the corner
    weights = draw_tile(one, 19, 19, np.random.default_rng(0), NO_AUGMENTATION)[2]
    assert weights.max() > 8  # the gap between it and its mirror image


def test_seeds():
    sample = make_sample()
    first, again, other = (draw_tile(sample, 92, 60, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    rng = np.random.default_rng(1)
    draw_tile(sample, 92, 60, rng)
    assert not np.array_equal(draw_tile(sample, 92, 60, rng)[0], first[0])  # the same rng goes on


@pytest.mark.parametrize("off", [{"grey": 0.0}, {"w0": 0.0}, {"class_weights": (1.0, 3.0)}])
def test_switching_one_part_off_leaves_the_others(off):
    sample = make_sample()
    full, part = (draw_tile(sample, 92, 60, np.random.default_rng(3), s) for s in (Settings(), Settings(**off)))
    np.testing.assert_array_equal(full[1], part[1])
    moved = {"elastic": 0.0, "mirror": False, "rotation": 0.0}
    for name in moved:
        before, after = (
            draw_deformation((50, 50), 92, np.random.default_rng(3), s)
            for s in (Settings(), Settings(**{name: moved[name]}))
        )
        np.testing.assert_array_equal(before.centre, after.centre)
        assert np.array_equal(before.displacements, after.displacements) == (name != "elastic")


def test_inputs_are_not_written_to():
    sample = make_sample(ignore=True)
    before = {name: array.copy() for name, array in vars(sample).items()}
    for array in vars(sample).values():
        array.flags.writeable = False
    draw_tile(sample, 92, 60, np.random.default_rng(0))
    for name, array in vars(sample).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("tile, output", [(92, 61), (60, 92), (92, 0)])
def test_an_output_that_is_not_the_middle_is_refused(tile, output):
    with pytest.raises(InputError, match=f"output of {output} is not the middle of a tile of {tile}; expected"):
        draw_tile(make_sample(), tile, output, np.random.default_rng(0))


def test_the_arrays_decide_the_device(xp, monkeypatch):
    """A seed gives the same sample on every device, to rounding;
    "strict" catches NumPy arrays mixed in among device arrays.
    """
    if xp is strict_array:
        for name in ("clip", "cumsum", "bincount"):
            monkeypatch.setattr(xp, name, xp._function(getattr(np, name)), raising=False)
        strict_ndimage = SimpleNamespace(
            **{
                name: xp._function(getattr(ndimage, name))
                for name in ("map_coordinates", "spline_filter", "label", "distance_transform_edt")
            }
        )
        strict_ndimage.label = lambda *a, **k: tuple(
            xp.asarray(part) for part in ndimage.label(a[0].get(), k["structure"].get())
        )
        for module in (augmentation, npunet.weight_map):
            monkeypatch.setattr(module, "ndimage_module", lambda asked: ndimage if asked is np else strict_ndimage)
    sample = make_sample(channels=2, ignore=True)
    there = SimpleNamespace(**{name: xp.asarray(array) for name, array in vars(sample).items()})
    settings = Settings(class_weights=(2.0, 0.5))
    for expected, found in zip(
        draw_tile(sample, 92, 60, np.random.default_rng(0), settings),
        draw_tile(there, 92, 60, np.random.default_rng(0), settings),
        strict=True,
    ):
        assert isinstance(found, xp.ndarray) and found.dtype == expected.dtype
        np.testing.assert_allclose(to_cpu(found), expected, atol=1e-4)
