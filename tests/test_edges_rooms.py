"""Bars, limits, figures and grey values around the engine, as faults planted by tests/mutants.py showed."""

import colorsys
import math
import sys
import types
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_datasets_download import server  # noqa: F401  (a fixture)
from tqdm import tqdm

from npunet import InputError, UNet, datasets, evaluate, geometry, predict, stylize
from npunet.commands import (
    cell_files,
    cell_tracking_files,
    choose_cutting,
    grey_values,
    memory_needs,
    ranges,
    run_pictures,
    scoring,
)
from npunet.commands.records import Records
from npunet.commands.session import Session
from npunet.commands.tiff_on_disk import tiff_on_disk
from npunet.doctor import from_images
from npunet.experiments.recipes import EXPERIMENTS
from npunet.export import __main__ as export
from npunet.export import bioimageio
from npunet.files import download, images, schema
from npunet.inspect import __main__ as inspect
from npunet.machine import backend, bands, memory, threads
from npunet.slides import overview
from npunet.slides.work import Work
from npunet.style import Generator, photographs, scales
from npunet.training import NotFinite


@pytest.fixture
def bars(monkeypatch):
    """All progress bars that are made, in their order."""
    made = []

    class Kept(tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr("npunet.commands.cli.tqdm", Kept)
    monkeypatch.setattr(download, "tqdm", Kept)
    return made


def ends(bars):
    """(steps done, steps announced, unit) of each bar."""
    return [(bar.n, bar.total, bar.unit) for bar in bars]


def test_bars_of_commands_end_where_they_said(tmp_path, bars):
    UNet(1, 2, base_channels=2, depth=1, seed=0).save(tmp_path / "net.npz")
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number, sample in enumerate(datasets.synthetic(3, 60, seed=1).samples):
        images.write_image(tmp_path / "data/images" / f"{number}.png", sample.image)
        images.write_mask(tmp_path / "data/masks" / f"{number}.png", sample.labels)
    model, data = ["--model", str(tmp_path / "net.npz")], str(tmp_path / "data")
    output = ["--output", str(tmp_path / "out"), "--tile", "36"]
    predict.main([*model, *output, "--input", str(tmp_path / "data/images/0.png")])
    assert ends(bars) == [(9, 9, "tile")]  # 36 pixels become 20, a third of 60
    bars.clear()
    evaluate.main([*model, "--data", data, "--tile", "36", "--held-out", "all"])
    assert ends(bars) == [(3, 3, "image")]


def test_the_bar_of_painted_pictures_ends_where_it_said(tmp_path, bars):
    Generator(2, depth=1, seed=0).save(tmp_path / "model.npz")
    for name in "ab":
        images.write_image(tmp_path / f"{name}.png", np.zeros((32, 32, 3), np.float32))
    paths = [str(tmp_path / f"{name}.png") for name in "ab"]
    stylize.main(["apply", "--model", str(tmp_path / "model.npz"), "--input", *paths, "--output", str(tmp_path / "o")])
    assert ends(bars) == [(2, 2, "picture")]


def test_the_bar_of_a_download_counts_bytes_also_those_of_an_earlier_try(server, tmp_path, bars):  # noqa: F811
    server.breaks = [300_000]
    download.download(server.url, tmp_path / "file")
    assert (bars[0].n, bars[0].total) == (300_000, 700_000)
    assert bars[1].initial > 0 and (bars[1].n, bars[1].total) == (700_000, 700_000)


@pytest.mark.parametrize("done", [0, 2])
def test_the_bar_of_a_slide_counts_blocks_also_those_of_an_earlier_run(tmp_path, monkeypatch, bars, done):
    monkeypatch.setattr("npunet.slides.work.progress_bar", lambda **how: bars.append(tqdm(**how)) or bars[-1])
    work = Work.__new__(Work)
    work.path = tmp_path
    pieces = [type("Piece", (), {"index": index})() for index in range(5)]
    work.share("block", pieces[:done], lambda piece: {"x": np.zeros(1)}, "blocks")
    bars.clear()
    work.share("block", pieces, lambda piece: {"x": np.zeros(1)}, "blocks")
    assert (bars[0].initial, bars[0].n, bars[0].total) == (done, 5, 5)


def test_thresholds_that_are_tried_are_probabilities_and_seeds_lie_higher():
    for head, (thresholds, seeds) in choose_cutting.GRIDS.items():
        both = [*thresholds, *seeds]
        assert both == sorted(both) and 0 < both[0] and both[-1] < 1, head


def test_a_band_has_one_row_where_one_is_all_that_fits_or_all_that_a_thread_gets():
    assert bands.band_height(6, row_bytes=10**9) == 1
    assert bands.band_height(threads.get_num_threads(), row_bytes=1) == 1


def test_a_slide_is_shown_at_the_first_level_of_at_most_2048_pixels():
    longest = (1, 2048, 2049, 4096, 4097, 8192)
    assert [overview.level_of((3, 5, side)) for side in longest] == [0, 0, 1, 1, 2, 2]


def test_a_contact_sheet_shows_48_images(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(inspect, "contact_sheet", lambda path, samples: shown.append(len(samples)))
    monkeypatch.setattr(inspect, "findings", lambda dataset, share: [])
    for count in (48, 50):
        monkeypatch.setattr(datasets, "load", lambda *_, count=count, **__: datasets.synthetic(count, 32))
        inspect.main(["synthetic", "--sheet", str(tmp_path / "sheet.png")])
    assert shown == [48, 48]


def test_numbers_in_config_json_have_limits():
    config = {"options": {}, "network": {}, "held_out": []}
    good = [{"threads": 1}, {"threads": 10**6}, {"data": {"labels": "x", "class_values": [0, 2**40]}}]
    bad = [{"threads": 0}, {"threads": 10**6 + 1}, {"data": {"labels": "x", "class_values": [2**40 + 1]}}]
    found = [schema.problem(config | more, schema.TRAINING_CONFIG) for more in (*good, *bad)]
    assert found[:3] == [None] * 3 and all(found[3:]), found


def test_figures_beside_ours_are_the_papers():
    """§4, Tables 1 and 2; V_rand and V_info are those of the challenge's later ranking."""
    figures = {name: {one.score: one.paper for one in of.figures if one.paper} for name, of in EXPERIMENTS.items()}
    assert figures["isbi2012"] == {
        "warping_error": 0.000353, "rand_error": 0.0382, "pixel_error": 0.0611, "v_rand": 0.9728, "v_info": 0.9866,
    }  # fmt: skip
    assert figures["phase_contrast"] == {"seg": 0.9203}


def test_pictures_that_are_made_larger_or_smaller_stay_between_black_and_white(tmp_path):
    edge = np.zeros((16, 16, 3), np.float32)
    edge[:, 8:] = 1  # Lanczos overshoots at such an edge
    larger = scales.enlarged(edge, (48, 48, 3))
    assert larger.shape == (48, 48, 3) and (larger.min(), larger.max()) == (0, 1)
    Image.fromarray((255 * edge).astype(np.uint8)).save(tmp_path / "edge.png")
    greys = np.arange(50 * 50 * 3, dtype=np.uint8).reshape(50, 50, 3)
    Image.fromarray(greys).save(tmp_path / "greys.png")
    kept = photographs.Photographs([tmp_path / "greys.png"], 40, 50).photograph(tmp_path / "greys.png")
    np.testing.assert_array_equal(kept, greys)
    of_edge = photographs.Photographs([tmp_path / "edge.png"], 40, 40)
    squares = of_edge.batch(4, 0, 0)
    assert (squares.min(), squares.max()) == (0, 1)  # white is not one grey value too much, and no overshoot


def test_a_picture_of_a_figure_shows_0_black_and_1_white(monkeypatch):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    run_pictures.show_image(axes, np.linspace(-0.5, 1.5, 9).reshape(3, 3, 1), "beyond both")
    assert axes.images[0].get_clim() == (0, 1)
    expected = [[0, 0, 0], [0.25, 0.5, 0.75], [1, 1, 1]]
    np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
    channels = np.random.default_rng(0).random((3, 3, 5))
    for count, shown in ((1, 0), (2, 0), (3, slice(3)), (5, slice(3))):  # the first alone, or three as colours
        run_pictures.show_image(axes, channels[..., :count], "")
        np.testing.assert_array_equal(axes.images[-1].get_array(), channels[..., shown])


def test_a_tiff_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    named = []
    monkeypatch.setattr(np.memmap, "flush", lambda self: named.append((tmp_path / "x.tif").exists()))
    with tiff_on_disk(tmp_path / "x.tif", (1, 4, 5), np.uint8) as pixels:
        pixels[:] = 7
        named.clear()
    assert named == [False] and (tifffile.imread(tmp_path / "x.tif") == 7).all()


def test_scores_need_a_prediction_for_each_image():
    samples = datasets.synthetic(2, 32).samples
    one = [np.full((32, 32, 2), 0.5, np.float32)]
    for score in (scoring.held_out_loss, lambda *both: choose_cutting.choose_cutting(*both)):
        with pytest.raises(ValueError, match="shorter"):
            score(samples, one)


def test_a_rule_for_grey_values_that_knows_nothing_holds_zeros():
    assert images.GreyRule().as_dict() == {"by": "file", "low": 0, "high": 0, "least": 0}
    assert images.GreyRule.of_training("training", []).as_dict() == {"by": "training", "low": 0, "high": 0, "least": 0}


def test_the_name_of_a_gpu(monkeypatch):
    runtime = types.SimpleNamespace(getDeviceProperties=[{"name": b"Tesla T4"}, {"name": b"another"}].__getitem__)
    module = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert backend.device_name("gpu") == "Tesla T4" and backend.device_name("cpu") is None


def test_arrays_are_scaled_as_files_are(tmp_path):
    rng = np.random.default_rng(0)
    for dtype in (np.uint8, np.uint16):
        array = rng.integers(0, 250, (100, 100)).astype(dtype)
        array[0, :3] = np.iinfo(dtype).max  # far above the 99.9 % that become 0..1
        tifffile.imwrite(tmp_path / "x.tif", array)
        found = images.as_floats(array)
        np.testing.assert_array_equal(found, images.read_image(tmp_path / "x.tif")[0][..., 0])
        if dtype == np.uint8:
            np.testing.assert_allclose(found, array / 255, atol=1e-7)
        else:  # 0.1 % of the pixels lie below 0, 0.1 % above 1
            low, high = np.quantile(array, [0.001, 0.999])
            np.testing.assert_allclose(found, ((array - low) / (high - low)).clip(0, 1), atol=1e-6)
            assert (found.min(), found.max()) == (0, 1)
    assert (images.as_floats(np.full((5, 5), 700, np.uint16)) == 0).all()
    floats = rng.random((5, 5, 2))
    assert images.as_floats(floats) is floats


@pytest.mark.parametrize(
    "of, words, inside, outside",
    [
        (ranges.Range(1, 10**6), "at least 1 and at most 1e+06", [1, 10**6], [0, 10**6 + 1, math.nan, math.inf]),
        (ranges.Range(0, 1, open_high=True), "at least 0 and below 1", [0, 0.999], [-1e-9, 1]),
        (ranges.Range(0, 1, open_low=True), "a number above 0, at most 1", [1e-9, 1], [0, 1.001]),
        (ranges.Range(0, open_low=True), "a number above 0", [1e-9, 1e300], [0, math.inf]),
        (ranges.Range(), "at least 0", [0, 1e300], [-1, -math.inf]),
    ],
)
def test_a_range_says_what_it_holds(of, words, inside, outside):
    assert str(of) == words
    assert all(map(of.holds, inside)) and not any(map(of.holds, outside))


def test_the_loss_curve_of_a_run_has_a_legend_without_a_frame(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(run_pictures, "save", lambda figure, path: figures.append(figure))
    records = Records([{"step": step, "loss": 1 / step} for step in (1, 2)])
    run_pictures.loss_curve(tmp_path / "losses.png", records)
    (legend,) = figures[0].legends
    assert not legend.get_frame_on()
    assert [text.get_text() for text in legend.texts] == ["loss of each step", "median of 1 steps"]
    scored = [{"step": 1, "held_out_loss": 0.5, "held_out": {"pixel_accuracy": 0.75, "mean_iou": None}}]
    scored += [{"step": 2, "held_out_loss": 0.25, "held_out": {"pixel_accuracy": 0.5, "mean_iou": 0.125}}]
    run_pictures.loss_curve(tmp_path / "losses.png", Records([*records.steps, *scored]))
    left, right = figures[1].axes
    drawn = {line.get_label(): line.get_xydata().tolist() for axes in (left, right) for line in axes.lines}
    assert drawn["held-out, unweighted"] == [[1, 0.5], [2, 0.25]]
    assert drawn["held-out pixel accuracy"] == [[1, 0.75], [2, 0.5]]
    assert drawn["held-out mean iou"][1] == [2, 0.125] and math.isnan(drawn["held-out mean iou"][0][1])
    assert [text.get_text() for text in figures[1].legends[0].texts][2:] == list(drawn)[2:]


def test_frames_of_the_cell_tracking_challenge_number_their_cells_on(tmp_path, monkeypatch):
    first, second = np.array([[[0, 1], [2, 2]], [[1, 0], [0, 0]]]), np.array([[[0, 1], [2, 3]]])
    for name, cells in (("a", first), ("b", second)):
        tifffile.imwrite(tmp_path / f"{name}.tif", cells.astype(np.uint16), photometric="minisblack")
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    monkeypatch.setattr(cell_tracking_files, "LARGEST", 6)
    folder = cell_tracking_files.write_sequence(tmp_path, paths)
    masks = [tifffile.imread(folder / f"mask00{frame}.tif").tolist() for frame in range(3)]
    assert masks == [[[0, 1], [2, 2]], [[3, 0], [0, 0]], [[0, 4], [5, 6]]]
    lines = (folder / "res_track.txt").read_text().splitlines()
    assert lines == ["1 0 0 0", "2 0 0 0", "3 1 1 0", "4 2 2 0", "5 2 2 0", "6 2 2 0"]
    monkeypatch.setattr(cell_tracking_files, "LARGEST", 5)
    with pytest.raises(InputError, match="6 cells up to frame 2; expected at most 5"):
        cell_tracking_files.write_sequence(tmp_path, paths)


def test_a_package_says_which_values_the_masks_of_training_had():
    net = UNet(base_channels=2, depth=1)
    said = [bioimageio.documentation(net, "n", "d", "s", scale) for scale in (1, 0.5)]
    net.mask_values = [0, 7]
    said.append(bioimageio.documentation(net, "n", "d", "s", 1))
    assert ["probabilities of 2 classes, in the masks of training [0, 7]" in text for text in said] == [0, 0, 1]
    assert ["trained on pictures at 0.5 of their size" in text for text in said] == [0, 1, 0]


def test_cells_have_bright_hues_a_golden_angle_apart():
    numbers = np.array([1, 2, 3, 7, 1000])
    expected = [colorsys.hsv_to_rgb(number * (5**0.5 - 1) / 2 % 1, 0.6, 1) for number in numbers]
    np.testing.assert_allclose(cell_files.colours(numbers), expected, atol=1e-5)


def test_the_sizes_that_an_exported_network_takes_in_words():
    """Depth 1: two convolutions, pooling, two, up, two: the side must be even, and 16 pixels are lost."""
    paper, padded = UNet(base_channels=2, depth=1), UNet(base_channels=2, depth=1, variant="padded")
    words = "inputs of 18 pixels, or more in steps of 2 each way; the output has 16 fewer"
    assert export.sizes(paper, False, None) == words
    assert export.sizes(paper, True, None) == "inputs of 10 pixels or more each way"  # 8 of them mirrored
    assert export.sizes(paper, False, (36, 40)) == "input 36 x 40, output 20 x 24"
    assert export.sizes(padded, False, None) == "inputs of 2 pixels, or more in steps of 2 each way"


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_tiles_that_fit_together_bring_a_whole_block_of_the_grid(depth):
    assert memory_needs.least_output(UNet(base_channels=2, depth=depth)) == 2**depth
    padded = memory_needs.least_output(UNet(base_channels=2, depth=depth, variant="padded"))
    margin = (padded - 2**depth) // 2  # on each side, and no smaller multiple of the grid would do
    assert 0 <= margin - geometry.padded_context(depth) < 2**depth and margin % 2**depth == 0


@pytest.mark.parametrize(
    "mean, std, held_back, known, words",
    [
        (0.5, 0.1, False, (0.5, 0.1), None),
        (0.5, 0.021, False, (0.5, 0.1), None),
        (0.5, 0.019, False, (0.5, 0.1), "a mean of 0.50 and a standard deviation of 0.02"),  # less than a fifth
        (0.79, 0.1, False, (0.5, 0.1), None),
        (0.81, 0.1, False, (0.5, 0.1), "a mean of 0.81 and a standard deviation of 0.10"),  # three deviations away
        (0.81, 0.001, False, (0.0, 1.0), None),  # nothing is known
        (0.5, 0.1, True, (0.5, 0.1), "less than a quarter"),
    ],
)
def test_grey_values_that_a_network_does_not_know(mean, std, held_back, known, words):
    image = np.full((1212, 1112, 1), 0.99, np.float32)  # of which the middle is looked at
    middle = image[94:-94, 44:-44]
    middle[::2], middle[1::2] = mean - std, mean + std
    window = lambda page, top, left, height, width: image[top : top + height, left : left + width]
    stack = types.SimpleNamespace(held_back=held_back, path="x.tif", shape=(1, *image.shape), window=window)
    found = grey_values.stranger(types.SimpleNamespace(input_mean=known[0], input_std=known[1]), stack)
    assert found is None if words is None else found.startswith("x.tif: ") and words in found


def test_the_pool_gives_back_what_is_one_byte_too_much():
    memory.release()
    memory.empty((512, 512), np.float32)
    kept = memory.idle_bytes()
    try:
        memory.set_limit(kept)
        assert memory.idle_bytes() == kept
        memory.set_limit(kept - 1)
        assert kept - 2 * memory.GRAIN <= memory.idle_bytes() < kept
    finally:
        memory.set_limit(2 << 30)


def test_steps_are_counted_from_one_where_a_loss_is_not_finite():
    def fails(*batch):
        raise NotFinite("the loss is nan")

    session, told = types.SimpleNamespace(recorded=fails, stop_at=lambda *what: told.append(what)), []
    Session.step(session, 4, ())
    assert [(step, str(error)) for step, error in told] == [(5, "the loss is nan")]


@pytest.mark.parametrize("by, kinds", [(0.11, []), (0.13, ["new image exposure"]), (0.15, ["new image exposure"])])
def test_an_exposure_is_another_if_it_is_twice_as_far_away_as_training_images(by, kinds):
    ramp = np.tile(np.linspace(0.2, 0.4, 64, dtype=np.float32), (64, 1))[..., None]
    found = from_images.findings("x.png", ramp + by, [ramp - 0.06, ramp + 0.06])
    assert [one.kind for one in found] == kinds


@pytest.mark.parametrize("pages", [1, 2])
def test_the_four_files_of_a_picture_with_cells(tmp_path, pages):
    cells = np.zeros((pages, 12, 16), np.int32)
    cells[0, 2:5, 3:9], cells[-1, 6:11, 1:4], cells[-1, 8:10, 10:15] = 1, 2, 3
    tifffile.imwrite(tmp_path / "x.tif", np.full(cells.shape, 99, np.uint8), photometric="minisblack")
    stack, calibration = images.open_image(tmp_path / "x.tif"), cell_files.Calibration(0.5, 0.5)
    (tmp_path / "out").mkdir()
    counts = cell_files.write_cells(tmp_path / "out", tmp_path / "x.tif", stack, cells, calibration)
    overlay = "x_overlay.png" if pages == 1 else "x_overlay.tif"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "x_cells.csv", "x_cells.tif", overlay, "x_rois.zip"]  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/x_cells.tif").reshape(cells.shape), cells)
    names = zipfile.ZipFile(tmp_path / "out/x_rois.zip").namelist()
    rows = (tmp_path / "out/x_cells.csv").read_text().splitlines()
    if pages == 1:
        assert counts == [{"image": "x.tif", "cells": 3}] and names == [f"0000{n}.roi" for n in (1, 2, 3)]
    else:
        assert counts == [{"image": "x.tif", "page": 1, "cells": 1}, {"image": "x.tif", "page": 2, "cells": 2}]
        assert names == ["0001-00001.roi", "0002-00002.roi", "0002-00003.roi"]
    assert len(rows) == 4 and rows[1].startswith("x.tif,1,")
    assert [cell_files.thinning((side, 5)) for side in (12, 3072, 3073, 6144, 6145)] == [1, 1, 2, 2, 3]
