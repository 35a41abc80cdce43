"""What no other test looked at in the engine, as faults planted by tests/mutants.py showed (see test_edges.py)."""

import inspect
import multiprocessing
import os
import signal
import sys
import types

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, Rectangle

import npunet
from npunet import InputError, UNet, figure_1, geometry, ops, plain, stylize, summary, tiling, train, training, variants
from npunet.augmentation import NO_AUGMENTATION
from npunet.datasets import conventions, folders, labels, synthetic
from npunet.files import images
from npunet.instances.cutting import ClassComponents
from npunet.machine import ranks, threads
from npunet.metrics import threshold_sweep
from npunet.metrics.matching import precision_of_counts
from npunet.ops import conv_algorithms
from npunet.ops.instance_norm import instance_norm_definition
from npunet.parallel import gradients, start
from npunet.parallel.ring import Ring


def test_a_pixel_is_doubtful_where_the_second_class_is_near():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), (6, 5))
    doubtful = ClassComponents().doubtful(probabilities, 0.1)
    for pixel in np.ndindex(6, 5):
        second, first = sorted(probabilities[pixel])[-2:]
        assert doubtful[pixel] == (first - second <= 0.2)
    assert 0 < doubtful.sum() < doubtful.size


def test_each_batch_is_drawn_once_and_one_ahead(monkeypatch):
    drawn = []
    monkeypatch.setattr(training, "draw_batch", lambda *arguments, settings: drawn.append(arguments[-1]) or arguments)
    recipe, samples = training.Recipe(steps=6, tile=36), synthetic(1, 64).samples
    for step, batch in enumerate(training.batches(samples, recipe, 20, 2, NO_AUGMENTATION), start=2):
        assert batch == (samples, recipe, 20, step)
        assert drawn in (list(range(2, step + 1)), list(range(2, min(step + 2, 6))))
    assert drawn == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "words, ours",
    [
        (["python", "-m", "npunet.train", "--data", "synthetic"], True),
        (["python", "/usr/bin/npunet", "train"], True),
        (["python", "-X", "dev", "-m", "npunet"], True),
        (["python", "/usr/bin/pytest", "npunet"], False),
        (["python", "-m", "pytest", "npunet"], False),
        (["python", "-m", "npunets"], False),
        (["python"], False),
    ],
)
def test_ctrl_c_while_modules_are_imported_is_ours_in_our_commands_only(words, ours, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(sys, "orig_argv", words)
    try:
        npunet._end_quietly_at_ctrl_c()
        end = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert getattr(end, "of_imports", False) == ours
    if ours:
        done = []
        monkeypatch.setattr(os, "write", lambda *what: done.append(what))
        monkeypatch.setattr(os, "_exit", done.append)
        end(signal.SIGINT, None)
        monkeypatch.undo()
        assert done == [(2, b"interrupted\n"), 130]


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


@pytest.mark.parametrize("stack", [[], [np.zeros((0, 3))], [np.zeros((3, 3, 1))], np.zeros((2, 3, 3, 1)), np.zeros(3)])
def test_sections_are_pictures_without_channels(stack):
    with pytest.raises(InputError, match="masks are .*expected one or more sections"):
        threshold_sweep.sections(stack, "masks")


@pytest.mark.parametrize("alone, other", [("image", "mask"), ("mask", "image")])
def test_a_picture_without_a_partner_is_named_with_what_it_lacks(alone, other, tmp_path):
    for name in ("images/a", "masks/a", f"{alone}s/b"):
        images.write_image(tmp_path / f"{name}.png", np.zeros((4, 4)))
    numbers = {"image": "1 images without mask, 0 masks", "mask": "0 images without mask, 1 masks"}[alone]
    with pytest.raises(InputError, match=rf"{alone}s/b.png: no {other} of that name \({numbers}"):
        folders.load_folder(tmp_path)


@pytest.mark.parametrize("norm", [instance_norm_definition, lambda *arrays: ops.instance_norm(*arrays)[0]])
def test_instance_normalisation_of_faint_pictures(norm, rng):
    """Where the variance is as small as eps, 1e-5."""
    x = 3e-3 * rng.standard_normal((2, 4, 5, 3)) + 7
    expected = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(x, np.ones(3), np.zeros(3)), expected, rtol=1e-9, atol=1e-9)


def test_the_arrows_of_fig_1_join_its_maps_and_sizes_stand_below_them():
    ax = figure_1.draw_unet(UNet(base_channels=2, depth=2), 60)
    maps = {}  # by (left, right, y): the side that is written below
    solid = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_linestyle() == "solid"]
    for box in solid:
        halves = [box, *(other for other in solid if np.isclose(other.get_x(), box.get_x() + box.get_width()))]
        left, right, y = box.get_x(), halves[-1].get_x() + halves[-1].get_width(), box.get_y() + box.get_height() / 2
        for text in ax.texts:
            if text.get_text().endswith("²") and np.allclose(
                text.get_position(), ((left + right) / 2, box.get_y() - 0.5)
            ):
                maps[left, right, y] = int(text.get_text()[:-1])
    assert len(maps) == 16
    kinds = {matplotlib.colors.to_rgba(colour): operation for operation, colour in figure_1.COLOURS.items()}
    joined = {operation: [] for operation in figure_1.COLOURS}
    for arrow in ax.patches:
        if isinstance(arrow, FancyArrowPatch):
            (x, y), (to_x, to_y) = arrow._posA_posB
            if x == to_x:
                source = [side for (left, right, _), side in maps.items() if np.isclose(x, (left + right) / 2)]
                joined[kinds[arrow.get_facecolor()]] += source
            sources = [side for (_, right, at), side in maps.items() if np.allclose((x, y), (right, at))]
            targets = [side for (left, _, at), side in maps.items() if np.allclose((to_x, to_y), (left, at))]
            joined[kinds[arrow.get_facecolor()]] += zip(sources, targets)
    assert joined == {
        "conv 3x3, ReLU": [(side, side - 2) for side in (60, 58, 28, 26, 12, 10, 16, 14, 24, 22)],
        "copy and crop": [(24, 16), (56, 24)],
        "max-pool 2x2": [56, 28, 24, 12],  # the map above the arrow, and the one below, which has the same middle
        "up-conv 2x2": [8, 12],
        "conv 1x1": [(20, 20)],
    }  # fmt: skip


def test_the_number_of_threads_is_set_before_anything_is_read(tmp_path, monkeypatch):
    for command in (
        f"train --content {tmp_path}/no --style {tmp_path}/no --out {tmp_path}/out",
        f"optimize --content {tmp_path}/no --style {tmp_path}/no --out {tmp_path}/out",
        f"apply --model {tmp_path}/no --input {tmp_path}/no --output {tmp_path}/out",
    ):
        threads.set_num_threads(1)
        with pytest.raises(InputError):
            stylize.main([*command.split(), "--threads", "3"])
        assert threads.get_num_threads() == 3


@pytest.mark.parametrize(
    "x, weight, with_threads, without",
    [
        ((1, 30, 30, 64), (1, 1, 64, 2), "im2col", "im2col"),
        ((1, 30, 30, 7), (3, 3, 7, 64), "few_channels", "few_channels"),
        ((1, 30, 30, 8), (5, 5, 8, 64), "shifted_gemm", "shifted_gemm"),
        ((1, 16, 16, 64), (3, 3, 64, 64), "im2col", "im2col"),  # 196 pixels
        ((1, 12, 22, 64), (3, 3, 64, 128), "winograd_5x5", "winograd"),  # 200
        ((1, 30, 30, 64), (3, 3, 64, 129), "winograd", "winograd"),
        ((2, 12, 12, 8), (3, 3, 8, 127), "winograd_5x5", "im2col"),  # 2 x 100
        ((2, 12, 12, 8), (3, 3, 8, 128), "winograd_5x5", "winograd"),
    ],
)
def test_which_algorithm_is_taken(x, weight, with_threads, without, monkeypatch):
    for answer, expected in ((True, with_threads), (False, without)):
        monkeypatch.setattr(conv_algorithms, "can_start_threads", lambda answer=answer: answer)
        assert conv_algorithms.choose(x, weight, 0) == expected


@pytest.mark.parametrize(
    "rank, size, variable, expected", [(0, 2, None, 3), (1, 2, None, 3), (1, 9, None, 1), (2, 3, "5", 4)]
)
def test_ranks_share_the_cores_and_the_first_one_speaks(rank, size, variable, expected, monkeypatch):
    monkeypatch.setattr(ranks, "rank", lambda: rank)
    monkeypatch.setattr(ranks, "on_this_machine", lambda: size)
    monkeypatch.setattr(threads, "default_num_threads", lambda: 6)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    before = sys.stdout
    threads.set_num_threads(4)
    start.settle()
    assert threads.get_num_threads() == expected
    assert (sys.stdout is before) == (rank == 0)
    if rank:
        assert sys.stdout.name == os.devnull
        sys.stdout.close()


@pytest.mark.parametrize(
    "options", [{}, {"in_channels": 3000}, {"n_classes": 30000}, {"depth": 2}, {"dtype": "float64"}]
)
def test_the_size_of_weights_that_do_not_fit_is_about_right(options, monkeypatch):
    options = {"in_channels": 1, "n_classes": 2, "base_channels": 8, "depth": 3, "dtype": "float32"} | options
    size = sum(parameter.value.nbytes for parameter in UNet(**options).parameters.values())
    for share, fits in ((0.8, False), (1.2, True)):
        monkeypatch.setattr(variants, "free_memory", lambda device, free=share * size: free)
        if fits:
            variants._check_memory(options)
        else:
            with pytest.raises(InputError, match=r"weights of about .* GB, but .* GB are free"):
                variants._check_memory(options)


def mask_of(split, whole):
    """(H, 20): stripes of one value each; the first `split` values have two pieces, the next `whole` one."""
    mask = np.zeros((2 * (split + whole), 20), np.uint8)
    for number in range(split + whole):
        mask[2 * number, 1 : 8 if number < split else 19] = mask[2 * number, 12:19] = 10 * (number + 1)
    return mask


@pytest.mark.parametrize(
    "split, whole, expected",
    [
        (16, 0, "classes"),
        (17, 0, None),
        (8, 8, "classes"),  # half of them in one piece
        (7, 9, None),
        (0, 16, None),
        (0, 17, "instances"),
        (6, 14, "instances"),  # 70 %
        (7, 13, None),
    ],
)
def test_how_many_values_in_how_many_pieces_are_classes_and_cells(split, whole, expected):
    masks = [("a.png", mask_of(split, whole))]
    if expected:
        assert labels.decide(masks, conventions.files_of(masks)) == expected
    else:
        with pytest.raises(InputError, match="can be read in more than one way"):
            labels.decide(masks, conventions.files_of(masks))


@pytest.mark.parametrize("values, beside", [([0, 9], "the other masks 0 9,"), ([0, 5, 9], "the other masks alike,")])
def test_an_ambiguous_mask_is_shown_beside_a_clean_one(values, beside):
    masks = [("odd.png", np.arange(7)[None]), ("other.png", np.array([values]))]
    error = str(conventions.ambiguous(conventions.files_of(masks)))
    assert error.startswith("odd.png (0 1 2 3 .. 6 (7 values)) and " + beside)


def test_isbi_thresholds_are_tenths():
    np.testing.assert_allclose(threshold_sweep.THRESHOLDS, np.linspace(0, 1, 11), atol=1e-15)


def test_what_the_first_rank_has_goes_once_around_the_ring():
    size = 4
    pipes = [multiprocessing.Pipe(duplex=False) for _ in range(size)]  # pipe r leads from rank r to rank r + 1
    for rank in range(size):
        ring = Ring(rank, size, pipes[rank - 1][0], pipes[rank][1])
        assert rank == 0 or ring.left.poll()
        assert ring.from_first({"seed": 3} if rank == 0 else None) == {"seed": 3}
    assert not any(reader.poll() for reader, _ in pipes)


def test_valid_sizes_up_to_one_of_them():
    assert geometry.valid_input_sizes(187) == []
    assert geometry.valid_input_sizes(203) == [188]
    assert geometry.valid_input_sizes(204) == [188, 204]


def test_the_momentum_of_plain_is_the_papers():
    """ "we use a high momentum (0.99)" (§3)"""
    assert inspect.signature(plain.training_step).parameters["momentum"].default == 0.99 == training.Recipe().momentum


def folder_of(names, path, rng):
    """Images of 40 pixels and binary masks."""
    for name in names:
        images.write_image(path / f"images/{name}.png", rng.random((40, 40)))
        images.write_image(path / f"masks/{name}.png", rng.random((40, 40)) > 0.5)
    return dict(data=str(path), out=str(path / "run"), base_channels=1, depth=1, threads=1)


def test_an_epoch_shows_each_training_image_once(tmp_path, rng):
    given = folder_of("abcdef", tmp_path, rng) | {"held_out": 1, "epochs": 3, "batch": 2}
    with train.new_run(given) as session:
        assert session.recipe.steps == 9  # three batches of two hold five images


@pytest.mark.parametrize("more, tile", [({}, 56), ({"tile": 60}, 60), ({"variant": "padded"}, 40)])
def test_without_tile_a_new_run_follows_its_images(more, tile, tmp_path, rng):
    """The convolutions of a network of depth 1 lose 4 + 2 * 4 + 4 pixels of the tile."""
    given = folder_of("abc", tmp_path, rng) | {"steps": 2}
    with train.new_run(given | more) as session:
        assert session.options["tile"] == session.recipe.tile == tile


def test_options_beside_load_are_those_of_the_file(tmp_path):
    UNet(1, 2, 3, 2).save(tmp_path / "net.npz")
    given = {"load": str(tmp_path / "net.npz"), "data": "synthetic", "out": str(tmp_path / "run")}
    for same in ({}, {"depth": 2}, {"base_channels": 3}):
        options, loaded = train.new_options(given | same)
        assert options["depth"] == loaded.depth == 2 and options["base_channels"] == 3
    with pytest.raises(InputError, match="--base-channels 4 beside --load .*, whose network has 3; leave it out"):
        train.new_options(given | {"base_channels": 4})


def test_samples_stay_where_they_are_on_the_cpu():
    samples = synthetic(1, 64).samples
    assert training.placed(samples, "cpu") is samples


SMALL = "--tile 320 --depth 2 --base-channels 16 --variant pytorch-unet --channels 3 --train-memory"


@pytest.mark.parametrize(
    "option",
    "--tile=96 --depth=3 --base-channels=5 --variant=padded --channels=1 --classes=5 --bilinear --recompute".split(),
)
def test_every_option_of_summary_changes_the_table(option, capsys):
    tables = []
    for words in (SMALL, f"{SMALL} {option}"):
        summary.main(words.split())
        tables.append(capsys.readouterr().out)
    assert tables[0] != tables[1]
    net = UNet(3, 2, 16, 2, variant="pytorch-unet")
    assert f"{net.n_parameters:,}" in tables[0]


def test_every_gradient_and_the_energy_become_the_mean_of_the_ranks(monkeypatch):
    grads = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([7.0])}
    parameters = {name: types.SimpleNamespace(grad=grad) for name, grad in grads.items()}
    energy = np.float64(5)
    assert gradients.average(parameters, energy) is energy
    assert all(parameters[name].grad is grads[name] for name in grads)
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "mean", lambda flat: flat / 2)  # the other rank has zeros
    assert gradients.average(parameters, energy) == 2.5
    for name in grads:
        np.testing.assert_array_equal(parameters[name].grad, grads[name] / 2)


@pytest.mark.parametrize(
    "counts", [[3, 1, 2], [[3, 1, 2], [0, 0, 0]], [[[3, 1, 2], [1, 0, 0]], [[0, 5, 0], [0, 0, 0]]]]
)
def test_average_precision_of_counts_of_any_shape(counts):
    counts = np.array(counts)
    found = precision_of_counts(counts)
    assert found.shape == counts.shape[:-1]
    for place in np.ndindex(found.shape):
        hit, false, missed = counts[place]
        both = hit + false + missed
        np.testing.assert_equal(found[place], hit / both if both else np.nan)
