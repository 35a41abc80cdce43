import numpy as np
import pytest

from npunet import InputError, UNet, geometry, tiling
from npunet.loss import softmax
from npunet.tiling import AxisPlan, classify, gather, mirrored, plan_axis, predict, predict_tiles


@pytest.fixture(scope="module")
def net():
    return UNet(1, 2, base_channels=2, depth=2, seed=3)  # output = input - 40, pooling grid 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def one_big_pass(net, image, transform=lambda x: x, undo=lambda x: x, shift=0):
    """The definition: the whole image mirrored outwards by NumPy, one forward pass, the image's pixels kept.

    shift moves the pooling grid by that many pixels, which must change the result.
    """
    image = image.reshape(*image.shape[:2], -1)
    border = (100 - net.output_size(100)) // 2
    extents = []
    for length in image.shape[:2]:
        size = next(n for n in range(length + 2 * border + shift, length + 2 * border + shift + 16) if _valid(net, n))
        extents.append((border + shift, size - length - border - shift))
    padded = np.pad(image, [*extents, (0, 0)], mode="reflect")
    height, width = image.shape[:2]
    p = undo(softmax(net.forward(np.ascontiguousarray(transform(padded))[None]))[0])
    return p[shift : shift + height, shift : shift + width]


def _valid(net, size):
    try:
        net.output_size(size)
    except InputError:
        return False
    return True


# Where the tiles stand ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paper_depth():
    return UNet(1, 2, base_channels=1, depth=4)


@pytest.mark.parametrize(
    "length, tile, expected",
    [
        (388, 572, AxisPlan(572, 388, 384, 1)),
        (389, 572, AxisPlan(396, 212, 208, 2)),  # 208 + 212 >= 389, 192 + 196 = 388 is one too few
        (512, 572, AxisPlan(444, 260, 256, 2)),
        (512, 700, AxisPlan(700, 516, 512, 1)),
        (512, 1500, AxisPlan(700, 516, 512, 1)),  # larger than the image: one tile, no larger than needed
        (1, 572, AxisPlan(188, 4, 1, 1)),
        (4, 188, AxisPlan(188, 4, 1, 1)),
        (20000, 572, AxisPlan(572, 388, 384, 53)),
    ],
)
def test_plan_of_the_paper(paper_depth, length, tile, expected):
    assert plan_axis(length, paper_depth, tile) == expected


def test_plan_covers_every_pixel_once_with_the_fewest_tiles_on_the_pooling_grid(paper_depth):
    for tile in (204, 220, 284, 572):
        for length in range(1, 1200, 7):
            plan = plan_axis(length, paper_depth, tile)
            pieces = plan.pieces(length)
            assert [pixel for piece in pieces for pixel in range(piece.start, piece.stop)] == list(range(length))
            assert all(piece.start % 16 == 0 and 0 < piece.stop - piece.start <= plan.output for piece in pieces)
            assert len(pieces) == plan.count and plan.tile <= tile
            reach = [1] if length <= tile - 184 else range(1, 1200)
            aligned = (tile - 184) // 16 * 16
            assert plan.count == next(count for count in reach if (count - 1) * aligned + tile - 184 >= length)


def test_invalid_tiles_are_refused_with_the_nearest_valid_ones(net, paper_depth):
    with pytest.raises(InputError, match="tile 570 is not a valid input size; nearest are 556 and 572"):
        predict(paper_depth, np.zeros((5, 5), np.float32), tile=570)
    with pytest.raises(InputError, match="use tile 204 or larger"):
        plan_axis(5, paper_depth, 188)  # 4 pixels of output, tiles cannot keep to the grid of 16


# Mirroring ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_mirrored_is_numpys_reflection(length):
    padded = np.pad(np.arange(length), (30, 41), mode="reflect") if length > 1 else np.zeros(72, int)
    np.testing.assert_array_equal(mirrored(-30, length + 41, length), padded)


def test_gather_reads_only_the_part_it_needs(rng):
    image = rng.random((40, 50, 2))

    class Recorder:
        shape, read = image.shape, []

        def __getitem__(self, key):
            self.read.append(key)
            return image[key]

    padded = np.pad(image, [(60, 60), (60, 60), (0, 0)], mode="reflect")
    recorder = Recorder()
    np.testing.assert_array_equal(gather(recorder, 20, -5, 12, 9), padded[80:92, 55:64])
    assert recorder.read == [(slice(20, 32), slice(0, 6))]
    np.testing.assert_array_equal(gather(image, -60, -60, 160, 170), padded[:160, :170])


# Tiles against the definition ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, tile",
    [
        ((97, 61), 60),
        ((61, 97), 64),
        ((44, 44), 84),
        ((5, 90), 56),
        ((1, 30), 60),
        ((30, 1), 44),
        ((1, 1), 572),
        ((16, 17), 56),
    ],
)
def test_tiles_stitched_equal_one_big_pass(net, rng, shape, tile):
    image = rng.random(shape, dtype=np.float32)
    result = predict(net, image, tile)
    assert result.shape == (*shape, 2) and result.dtype == np.float32
    np.testing.assert_allclose(result, one_big_pass(net, image), atol=2e-6)
    np.testing.assert_allclose(result.sum(axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("depth, tile", [(1, 30), (3, 108), (4, 204)])
def test_tiles_stitched_equal_one_big_pass_at_other_depths(rng, depth, tile):
    net = UNet(1, 3, base_channels=1, depth=depth, seed=1)
    border = tile - net.output_size(tile)
    image = rng.random((33, 41), dtype=np.float32)
    assert tiling.count_tiles(image.shape, net, tile) > 1
    size = next(n for n in range(41 + border, 41 + border + 32) if _valid(net, n))
    padded = np.pad(
        image, [(border // 2, size - 33 - border // 2), (border // 2, size - 41 - border // 2)], mode="reflect"
    )
    expected = softmax(net.forward(padded[None, ..., None]))[0, :33, :41]
    np.testing.assert_allclose(predict(net, image, tile), expected, atol=2e-6)


def test_another_pooling_grid_gives_other_numbers(net, rng):
    """So the stride does matter: a shift by the grid's period changes nothing, any other shift does."""
    image = rng.random((60, 60), dtype=np.float32)
    result = predict(net, image, 60)
    np.testing.assert_allclose(result, one_big_pass(net, image, shift=4), atol=2e-6)
    for shift in (1, 2, 3):
        assert np.abs(result - one_big_pass(net, image, shift=shift)).max() > 1e-4


def test_pieces_come_in_order_and_cover_a_memory_map(net, rng, tmp_path):
    image = rng.random((50, 70), dtype=np.float32)
    np.save(tmp_path / "image.npy", image)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    seen = np.zeros(image.shape, int)
    result = np.zeros((50, 70, 2), np.float32)
    corners = []
    for rows, columns, probabilities in predict_tiles(net, mapped, 60):
        seen[rows, columns] += 1
        result[rows, columns] = probabilities
        corners.append((rows.start, columns.start))
    assert (
        (seen == 1).all()
        and corners == sorted(corners)
        and len(corners) == tiling.count_tiles(image.shape, net, 60) > 1
    )
    np.testing.assert_array_equal(result, predict(net, image, 60))


def test_progress_is_told(net, rng):
    told = []
    predict(net, rng.random((50, 30), dtype=np.float32), 60, progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 6) for i in range(1, 7)]


def test_channels_and_colour(rng):
    net = UNet(3, 4, base_channels=2, depth=1, seed=3)
    image = rng.random((20, 31, 3))  # float64 is taken too
    assert predict(net, image, 24).shape == (20, 31, 4)


def test_float64_network(rng):
    net = UNet(1, 2, base_channels=2, depth=1, dtype="float64")
    assert predict(net, rng.random((20, 31)), 24).dtype == np.float32


# Rotated and mirrored versions --------------------------------------------------------------------------------------


def test_eight_different_symmetries_with_their_inverses(rng):
    x = rng.random((4, 4, 2))
    turned = [turn(x) for turn, _ in tiling.symmetries(True)]
    assert len({array.tobytes() for array in turned}) == 8
    np.testing.assert_array_equal(turned[0], x)
    for (_, undo), array in zip(tiling.symmetries(True), turned):
        np.testing.assert_array_equal(undo(array), x)


def test_augmented_prediction_is_the_mean_over_all_eight(net, rng):
    image = rng.random((33, 45), dtype=np.float32)
    by_hand = [
        (lambda x: x, lambda x: x),
        (lambda x: x[::-1], lambda x: x[::-1]),
        (lambda x: x[:, ::-1], lambda x: x[:, ::-1]),
        (lambda x: x[::-1, ::-1], lambda x: x[::-1, ::-1]),
        (lambda x: x.swapaxes(0, 1), lambda x: x.swapaxes(0, 1)),
        (lambda x: x.swapaxes(0, 1)[::-1], lambda x: x[::-1].swapaxes(0, 1)),
        (lambda x: x.swapaxes(0, 1)[:, ::-1], lambda x: x[:, ::-1].swapaxes(0, 1)),
        (lambda x: x.swapaxes(0, 1)[::-1, ::-1], lambda x: x[::-1, ::-1].swapaxes(0, 1)),
    ]
    versions = [one_big_pass(net, image, transform, undo) for transform, undo in by_hand]
    assert np.abs(versions[1] - versions[0]).max() > 1e-4
    np.testing.assert_allclose(predict(net, image, 60, augment=True), np.mean(versions, axis=0), atol=2e-6)


def test_augmented_prediction_turns_with_the_image(net, rng):
    image = rng.random((20, 20), dtype=np.float32)  # a tile's output exactly, so that the grid is symmetric
    plain, turned = (predict(net, x, 60, augment=True) for x in (image, np.rot90(image)))
    np.testing.assert_allclose(turned, np.rot90(plain), atol=2e-6)


# Classes and refusals -----------------------------------------------------------------------------------------------


def test_classify():
    two = np.array([[[0.5, 0.5], [0.6, 0.4], [0.1, 0.9]]], np.float32)
    np.testing.assert_array_equal(classify(two), [[0, 0, 1]])  # a tie is background, as in argmax
    np.testing.assert_array_equal(classify(two, 0.3), [[1, 1, 1]])
    three = np.array([[[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]]], np.float32)
    np.testing.assert_array_equal(classify(three), [[2, 0]])


@pytest.mark.parametrize(
    "image, words",
    [
        (np.zeros((10, 10, 3), np.float32), "expects \\(H, W\\) or \\(H, W, 1\\)"),
        (np.zeros(10, np.float32), "shape \\(10,\\)"),
        (np.zeros((0, 10), np.float32), "no pixels"),
        (np.zeros((10, 10), np.uint8), "uint8 values; expected floats in 0..1"),
        (np.full((10, 10), np.nan, np.float32), "not finite"),
    ],
)
def test_images_that_do_not_fit_are_refused(net, image, words):
    with pytest.raises(InputError, match=words):
        predict(net, image, 60)


# Padded networks ----------------------------------------------------------------------------------------------------


def padded_net(depth=2, **options):
    net = UNet(base_channels=3, depth=depth, **dict(variant="pytorch-unet", dtype="float64", seed=2) | options)
    for name, parameter in net.parameters.items():
        if name.endswith(("shift", "bias")):
            # zeros beside the image are noticed
            parameter.value += np.random.default_rng(1).uniform(0.1, 0.5, parameter.value.shape)
    return net


@pytest.mark.parametrize("options", [dict(), dict(bilinear=True), dict(n_classes=1), dict(n_classes=3)], ids=str)
@pytest.mark.parametrize("shape", [(37, 50), (4, 9), (64, 64)])
def test_an_image_that_fits_goes_through_a_padded_network_whole(options, shape, rng):
    net, image = padded_net(**options), rng.random(shape)
    logits = net.forward(image[None, ..., None])[0]
    logits = np.concatenate([0 * logits, logits], axis=-1) if net.n_classes == 1 else logits
    p = predict(net, image, 64)
    assert p.shape == (*shape, net.n_labels)
    np.testing.assert_allclose(p, softmax(logits), rtol=1e-5, atol=1e-7)
    assert tiling.count_tiles(shape, net, 64) == 1


@pytest.mark.parametrize(
    "depth, tile, shape", [(2, 64, (150, 61)), (2, 67, (131, 90)), (1, 24, (50, 75)), (3, 120, (160, 200))]
)
def test_tiles_of_a_padded_network_are_the_whole_image(depth, tile, shape, rng):
    net, image = padded_net(depth), rng.random(shape)
    whole = predict(net, image, 1000)
    np.testing.assert_allclose(predict(net, image, tile), whole, rtol=1e-5, atol=1e-6)
    assert tiling.count_tiles(shape, net, tile) > 1
    covered = np.zeros(shape, int)
    for rows, columns, p in predict_tiles(net, image, tile):
        covered[rows, columns] += 1
    assert (covered == 1).all()


def test_the_overlap_of_padded_tiles_is_needed(monkeypatch, rng):
    """With one step of the pooling grid less the seams show."""
    net, image = padded_net(2), rng.random((150, 61))
    whole = predict(net, image, 1000)
    monkeypatch.setattr(tiling.geometry, "padded_context", lambda depth: 22 - 4)
    assert np.abs(predict(net, image, 64) - whole).max() > 1e-5


def test_tiles_with_bilinear_upsampling_come_close(rng):
    net, image = padded_net(2, bilinear=True), rng.random((150, 61))
    difference = np.abs(predict(net, image, 100) - predict(net, image, 1000))
    assert difference.mean() < 0.01 and 1e-4 < difference.max() < 0.1


@pytest.mark.parametrize("shape", [(3, 5), (30, 41), (101, 64)])
def test_the_network_for_pictures_is_tiled_too(shape, rng):
    net, image = padded_net(2, variant="style"), rng.random(shape)
    np.testing.assert_allclose(predict(net, image, 64), predict(net, image, 1000), rtol=1e-5, atol=1e-6)
    assert predict(net, image, 64).shape == (*shape, 2)


def test_padded_tiles_that_are_too_small_are_refused(rng):
    net = padded_net(2)
    with pytest.raises(InputError, match="overlap by 48; use at least 52, or 100 for the whole image"):
        predict(net, rng.random((100, 30)), 48)
    with pytest.raises(InputError, match="smallest is 4"):
        predict(net, rng.random((100, 30)), 3)
    assert predict(net, rng.random((2, 1)), 64).shape == (2, 1, 2)
    assert tiling.default_tile(net) == 1024


@pytest.mark.parametrize("variant", ["padded", "pytorch-unet"])
@pytest.mark.parametrize("depth, tile", [(1, 32), (2, 64)])
def test_a_padded_network_needs_no_more_tiles_than_the_margins_ask_for(variant, depth, tile):
    net, grid = UNet(1, 2, 1, depth, variant=variant), 2**depth
    margin = -(-geometry.padded_context(depth) // grid) * grid
    for length in (1, tile - 1, tile, tile + 1, 2 * tile, 3 * tile + 1, 5 * tile - grid):
        found = tiling.parts(length, net, tile)
        assert len(found) == 1 + max(0, -(-(length - tile) // (tile - 2 * margin)))
        assert [pixel for part in found for pixel in range(length)[part.kept]] == list(range(length))
        for part in found:
            assert part.start >= 0 and part.start % grid == 0 and part.stop - part.start <= tile
            assert part.kept.start - part.start >= margin or part.start == part.kept.start == 0
            assert part.stop - part.kept.stop >= margin or part.kept.stop == length
            assert part.skipped == part.kept.start - part.start


def test_a_padded_tile_that_is_all_margin_is_refused():
    net = UNet(1, 2, 1, 2, variant="padded")
    margin = -(-geometry.padded_context(2) // 4) * 4
    assert len(tiling.parts(2 * margin, net, 2 * margin)) == 1
    with pytest.raises(InputError, match=f"tile {2 * margin} is too small .* use at least {2 * margin + 4}, or 99 for"):
        tiling.parts(99, net, 2 * margin)
    assert len(tiling.parts(99, net, 2 * margin + 4)) > 1


def test_an_image_is_refused_before_its_first_tile_is_asked_for():
    with pytest.raises(InputError, match=r"the image has shape \(24, 24, 3\); this network expects \(H, W\)"):
        tiling.predict_tiles(UNet(1, 2, 1, 1), np.zeros((24, 24, 3), np.float32))


def test_the_tile_of_a_network_that_is_given_none():
    for depth, tile in ((1, 572), (2, 572), (3, 572), (4, 572), (5, 572)):
        assert tiling.default_tile(UNet(1, 2, 1, depth)) == geometry.nearest_valid_size(572, depth)
    assert tiling.default_tile(UNet(1, 2, 1, 4)) == 572
    for variant in ("padded", "pytorch-unet", "style"):
        assert tiling.default_tile(UNet(1, 2, 1, 2, variant=variant)) == 1024


def test_the_tile_that_the_message_names_is_the_first_that_works():
    net = UNet(1, 2, 1, 3)
    smallest = geometry.smallest_valid_size(3)
    output = net.output_size(smallest)
    assert output < 8 and tiling.plan_axis(output, net, smallest).count == 1
    with pytest.raises(
        InputError, match=f"tile {smallest} gives {output} pixels, .* use tile {smallest + 8} or larger"
    ):
        tiling.plan_axis(output + 1, net, smallest)
    assert tiling.plan_axis(99, net, smallest + 8).count == -(-(99 - output - 8) // 8) + 1
