"""npunet.predict on networks for cells: numbers, tables, outlines and pictures, the same whatever the tile is."""

import colorsys
import csv
import types
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from npunet import InputError, UNet, instances, metrics, predict, tiling
from npunet.commands import cell_files
from npunet.commands.settled_marks import SettledMarks, small_tile
from npunet.files import images
from npunet.files.calibration import Calibration, read_calibration
from npunet.instances.cutting import Cutting, cutting_of


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that nobody trained, whose probabilities have blobs; it knows a cutting."""
    return save_network(tmp_path_factory.mktemp("model") / "model.npz")


def save_network(path, n_classes=2, variant="paper", cutting=Cutting(0.45, 0.6, 3)):
    net = UNet(1, n_classes, base_channels=4, depth=1, seed=3, variant=variant)
    p = tiling.predict(net, blobs(0), 1024 if net.options.padding else 44)
    net.output.weight.value *= 4 / np.log(p).std()  # so that there is contrast
    logits = np.log(tiling.predict(net, blobs(0), 1024 if net.options.padding else 44))
    net.output.bias.value -= np.median(logits, axis=(0, 1))
    net.cutting = cutting and cutting.as_dict()
    net.save(path)
    return path


def blobs(seed, shape=(120, 90)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def run(model, output, *inputs, options=()):
    predict.main(["--model", str(model), "--input", *map(str, inputs), "--output", str(output), *options])


def write(path, *seeds, **how):
    pages = [np.round(255 * blobs(seed)).astype(np.uint8) for seed in seeds]
    if path.suffix == ".png":
        Image.fromarray(pages[0]).save(path)
    else:
        tifffile.imwrite(path, np.stack(pages) if len(pages) > 1 else pages[0], **how)
    return path


def whole(model, path, tile=400):
    net = UNet.load(model)
    return [cutting_of(net).cells(tiling.predict(net, page, tile)) for page in images.read_image(path)]


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_picture_becomes_cells(model, tmp_path, capsys):
    path, out = write(tmp_path / "a.png", 1), tmp_path / "out"
    run(model, out, path)
    written = sorted(entry.name for entry in out.iterdir())
    assert written == ["a.png", "a_cells.csv", "a_cells.tif", "a_overlay.png", "a_rois.zip", "cells.csv"]
    cells = tifffile.imread(out / "a_cells.tif")
    (expected,) = whole(model, path)
    np.testing.assert_array_equal(cells, expected)
    assert cells.dtype == np.uint16 and cells.max() > 5
    rows, stored = table(out / "a_cells.csv"), np.asarray(Image.open(path))
    assert [int(row["cell"]) for row in rows] == list(range(1, cells.max() + 1))
    for row in rows:
        assert row["image"] == "a.png" and int(row["area"]) == np.sum(cells == int(row["cell"]))
        assert float(row["mean_grey"]) == pytest.approx(stored[cells == int(row["cell"])].mean(), abs=1e-3)
    assert table(out / "cells.csv") == rows
    assert len(zipfile.ZipFile(out / "a_rois.zip").namelist()) == cells.max()
    overlay = np.asarray(Image.open(out / "a_overlay.png"))
    coloured = overlay.max(axis=2) != overlay.min(axis=2)
    assert overlay.shape == (120, 90, 3) and coloured.any() and not coloured[cells == 0].any()
    said = capsys.readouterr().out
    assert f"{cells.max()} cells" in said and "watershed from seeds above 0.6 down to 0.45" in said


def test_a_stack_counts_every_page_anew(model, tmp_path):
    path, out = write(tmp_path / "s.tif", 1, 2, 3, photometric="minisblack"), tmp_path / "out"
    run(model, out, path)
    cells = tifffile.imread(out / "s_cells.tif")
    np.testing.assert_array_equal(cells, whole(model, path))
    rows = table(out / "s_cells.csv")
    assert [sum(row["page"] == str(page) for row in rows) for page in (1, 2, 3)] == [c.max() for c in cells]
    assert tifffile.imread(out / "s_overlay.tif").shape == (3, 120, 90, 3)
    names = zipfile.ZipFile(out / "s_rois.zip").namelist()
    assert names[0] == "0001-00001.roi" and len(names) == len(rows)


@pytest.mark.parametrize("variant", ["paper", "release", "padded", "pytorch-unet"])
def test_cells_are_the_same_whatever_the_tile(tmp_path, variant):
    model = save_network(tmp_path / "model.npz", variant=variant)
    path = write(tmp_path / "a.png", 4)
    padded = variant in ("padded", "pytorch-unet")
    found = []
    for tile in (60, 74, 256) if padded else (28, 44, 200):
        run(model, tmp_path / str(tile), path, options=["--tile", str(tile)])
        found.append((tmp_path / str(tile) / "a_cells.tif").read_bytes())
    assert found[0] == found[1] == found[2]
    assert tifffile.imread(tmp_path / str(tile) / "a_cells.tif").max() > 3


def test_doubtful_pixels_are_asked_again(model, monkeypatch):
    """Probabilities with noise as of rounding: the plain cells differ, the settled ones do not."""
    net, image = UNet.load(model), blobs(5)
    p, cutting = tiling.predict(net, image, 400), Cutting(0.45, 0.6, 3)
    edge = float(np.partition(p[..., 1].ravel(), 5000)[5000])  # a threshold that is somebody's probability
    cutting = Cutting(edge, max(edge, 0.6), 3)
    everything, marks, asked, look = (slice(0, 120), slice(0, 90)), [], [], SettledMarks._probabilities_at
    monkeypatch.setattr(SettledMarks, "_probabilities_at", lambda self, *at: asked.append(at) or look(self, *at))
    for seed in range(4):
        noise = np.random.default_rng(seed).uniform(-4e-6, 4e-6, p.shape[:2]).astype(np.float32)
        noisy = np.stack([1 - p[..., 1] - noise, p[..., 1] + noise], axis=-1)
        settled = SettledMarks(net, image, cutting)
        asked.clear()
        marks.append(settled.of(*everything, noisy))
        assert 0 < len(asked) < 200
    assert all((one == marks[0]).all() for one in marks)
    assert any((cutting.marks(p + 4e-6 * s) != marks[0]).any() for s in (-1, 1))


def test_small_tiles_fit_every_variant():
    for variant, depth in (("paper", 1), ("paper", 4), ("pytorch-unet", 2)):
        net = UNet(base_channels=1, depth=depth, variant=variant)
        tile = small_tile(net)
        assert net.output_size(tile) > 0 and len(tiling.parts(300, net, tile)) > 1


def test_classes_become_components_of_each(tmp_path):
    model = save_network(tmp_path / "model.npz", n_classes=3, cutting=None)
    path = write(tmp_path / "a.png", 2)
    run(model, tmp_path / "plain", path)
    assert not (tmp_path / "plain" / "a_cells.tif").exists()  # nobody asked
    run(model, tmp_path / "out", path, options=["--instances"])
    cells = tifffile.imread(tmp_path / "out" / "a_cells.tif")
    classes = tiling.predict(UNet.load(model), images.read_image(path)[0], 400).argmax(axis=-1)
    expected, count = np.zeros(classes.shape, int), 0
    for k in (1, 2):
        labelled, n = ndimage.label(classes == k)
        expected[labelled > 0] = labelled[labelled > 0] + count
        count += n
    np.testing.assert_array_equal(cells, instances.in_reading_order(expected))


def test_no_instances_writes_masks_alone(model, tmp_path):
    run(model, tmp_path / "out", write(tmp_path / "a.png", 1), options=["--no-instances"])
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_head_of_depths_writes_a_mask_of_two_values(tmp_path):
    model = save_network(tmp_path / "model.npz", n_classes=3, cutting=Cutting(0.25, 0.6, 2, "border"))
    path = write(tmp_path / "a.png", 6)
    run(model, tmp_path / "out", path, options=["--probabilities", "float32"])
    p = tiling.predict(UNet.load(model), images.read_image(path)[0], 400)
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "a_probability.tif"), 1 - p[..., 0], atol=1e-5)
    mask = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert set(np.unique(mask)) == {0, 255} and np.mean((mask > 0) == (p[..., 0] < 0.5)) > 0.999
    expected = Cutting(0.25, 0.6, 2).cells(p[..., 2] + p[..., 1] / 2)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a_cells.tif"), expected)


def test_the_pixel_size_goes_from_input_to_output(model, tmp_path):
    how = dict(imagej=True, resolution=(4, 4), metadata={"axes": "TYX", "unit": "um", "finterval": 3.0})
    path = write(tmp_path / "s.tif", 1, 2, **how)
    run(model, tmp_path / "out", path, options=["--probabilities", "float32"])
    for name in ("s", "s_cells", "s_probability"):
        with tifffile.TiffFile(tmp_path / "out" / f"{name}.tif") as file:
            assert file.imagej_metadata["unit"] == "um" and file.imagej_metadata["finterval"] == 3
            assert file.series[0].axes == "TYX" and file.pages[0].tags["XResolution"].value[0] != 0
    with tifffile.TiffFile(tmp_path / "out" / "s_overlay.tif") as file:
        assert file.series[0].axes == "TYXS" and file.imagej_metadata["unit"] == "um"
    row = table(tmp_path / "out" / "s_cells.csv")[0]
    assert float(row["area_um2"]) == pytest.approx(int(row["area"]) / 16)
    run(model, tmp_path / "by hand", path, options=["--pixel-size", "2"])
    row = table(tmp_path / "by hand" / "s_cells.csv")[0]
    assert float(row["area_um2"]) == 4 * int(row["area"])


def test_axes_and_pixel_size_of_an_ome_tiff(model, tmp_path):
    metadata = {"axes": "TZYX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    metadata |= {"PhysicalSizeZ": 1.5, "TimeIncrement": 2}
    pages = np.round(255 * np.stack([blobs(seed) for seed in range(4)])).astype(np.uint8)
    tifffile.imwrite(tmp_path / "s.ome.tif", pages.reshape(2, 2, *pages.shape[1:]), ome=True, metadata=metadata)
    run(model, tmp_path / "out", tmp_path / "s.ome.tif", options=["--probabilities", "uint16"])
    expected = Calibration(0.25, 0.25, 1.5, 2.0, "TZ", (2, 2))
    for name in ("s", "s_cells", "s_probability", "s_overlay"):  # none is called .ome.tif: ImageJ's form is written
        assert read_calibration(tmp_path / "out" / f"{name}.tif") == expected, name
    assert (tmp_path / "out" / "s_cells.csv").exists() and (tmp_path / "out" / "s_rois.zip").exists()


def test_the_pixel_size_of_one_page_stands_in_the_png_files(model, tmp_path, monkeypatch):
    monkeypatch.setattr(cell_files, "LARGEST_OVERLAY", 60)  # of 120 pixels: every second is shown
    path = write(tmp_path / "a.tif", 1, resolution=(40000, 20000), resolutionunit=3)
    run(model, tmp_path / "out", path)
    for name, times in (("a", 1), ("a_overlay", 2)):  # pixels of 0.25 and 0.5 micrometres
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.info["dpi"] == pytest.approx((25400 / 0.25 / times, 25400 / 0.5 / times))
    run(model, tmp_path / "unknown", write(tmp_path / "b.png", 1))
    with Image.open(tmp_path / "unknown" / "b.png") as picture:
        assert "dpi" not in picture.info


def test_one_table_of_all_pictures_has_all_columns(model, tmp_path):
    one = write(tmp_path / "a.png", 1)
    two = write(tmp_path / "b.tif", 2, 3, imagej=True, resolution=(4, 4), metadata={"unit": "um", "axes": "ZYX"})
    run(model, tmp_path / "out", one, two)
    rows = table(tmp_path / "out" / "cells.csv")
    assert {row["image"] for row in rows} == {"a.png", "b.tif"} and rows[0]["page"] == "" and rows[-1]["page"] == "2"
    assert rows[0]["area_um2"] == "" and float(rows[-1]["area_um2"]) > 0


def test_the_cell_tracking_challenge_reads_the_frames(model, tmp_path):
    """SEG and the validity of the folder by py-ctcmetrics, which others wrote."""
    ctc = pytest.importorskip("ctc_metrics.scripts.evaluate", reason="py-ctcmetrics is not installed")
    path = write(tmp_path / "s.tif", 1, 2, 3, photometric="minisblack")
    run(model, tmp_path / "out", path, options=["--cell-tracking"])
    masks = [tifffile.imread(tmp_path / "out" / "01_RES" / f"mask{frame:03d}.tif") for frame in range(3)]
    cells = tifffile.imread(tmp_path / "out" / "s_cells.tif")
    assert [len(np.unique(mask)) for mask in masks] == [len(np.unique(page)) for page in cells]
    truth = [instances.components(blobs(seed), 0.55, 4) for seed in (1, 2, 3)]
    for kind, name in (("SEG", "man_seg"), ("TRA", "man_track")):
        (tmp_path / "out" / "01_GT" / kind).mkdir(parents=True)
        used, lines = 0, []
        for frame, page in enumerate(truth):
            numbered = np.where(page > 0, page + used, 0).astype(np.uint16)
            tifffile.imwrite(tmp_path / "out" / "01_GT" / kind / f"{name}{frame:03d}.tif", numbered)
            lines += [f"{number} {frame} {frame} 0\n" for number in range(used + 1, used + page.max() + 1)]
            used += page.max()
        (tmp_path / "out" / "01_GT" / "TRA" / "man_track.txt").write_text("".join(lines)) if kind == "TRA" else None
    folders = str(tmp_path / "out" / "01_RES"), str(tmp_path / "out" / "01_GT")
    found = ctc.evaluate_sequence(*folders, ["Valid", "SEG"], threads=1)
    assert found["Valid"] == 1
    assert found["SEG"] == pytest.approx(metrics.seg(list(cells.astype(int)), truth), abs=1e-6)


def test_more_cells_than_sixteen_bits(tmp_path):
    cells = np.arange(300 * 300, dtype=np.int32).reshape(1, 300, 300)
    cell_files.write_numbers(tmp_path / "a.tif", cells, cell_files.Calibration(0.5, 0.5))
    stored = tifffile.imread(tmp_path / "a.tif")
    assert stored.dtype == np.uint32 and stored.max() == 300 * 300 - 1


def test_large_pages_have_a_smaller_overlay(model, tmp_path, monkeypatch):
    monkeypatch.setattr(cell_files, "LARGEST_OVERLAY", 50)
    run(model, tmp_path / "out", write(tmp_path / "a.png", 1))
    assert np.asarray(Image.open(tmp_path / "out" / "a_overlay.png")).shape == (40, 30, 3)


def test_an_overlay_of_two_channels_shows_the_first():
    """Channels that are no colours have no picture of their own: the first in grey, white where it is brightest."""
    pages = np.random.default_rng(0).random((1, 20, 30, 2)).astype(np.float32)
    pages[..., 1] = 1 - pages[..., 0]
    stack = types.SimpleNamespace(shape=pages.shape, window=lambda p, y, x, h, w: pages[p, y : y + h, x : x + w])
    picture = cell_files.overlay(stack, 0, np.zeros((20, 30), np.int32))
    assert (picture == picture[..., :1]).all()
    np.testing.assert_allclose(picture[..., 0] / 255, pages[0, ..., 0], atol=0.01)


def test_an_overlay_of_strips_is_that_of_the_whole(model, tmp_path, monkeypatch):
    path = write(tmp_path / "a.png", 1)
    run(model, tmp_path / "whole", path)
    monkeypatch.setattr(cell_files, "STRIP_PIXELS", 7 * 90)  # seven rows
    run(model, tmp_path / "strips", path)
    assert (tmp_path / "strips" / "a_overlay.png").read_bytes() == (tmp_path / "whole" / "a_overlay.png").read_bytes()


@pytest.mark.parametrize(
    "options, found",
    [
        (["--pixel-size", "0"], "--pixel-size is 0.0"),
        (["--no-instances", "--cell-tracking"], "--cell-tracking"),
        (["--no-save", "--viz", "--instances"], "--no-save"),
    ],
)
def test_options_that_cannot_be(model, tmp_path, options, found):
    with pytest.raises(InputError, match=found):
        run(model, tmp_path / "out", write(tmp_path / "a.png", 1), options=options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cutting", [{"threshold": 2}, {"nonsense": 1}, {"threshold": 0.8, "seed_threshold": 0.3}])
def test_a_damaged_cutting_is_named(tmp_path, cutting):
    net = UNet(base_channels=1, depth=1)
    net.cutting = {"seed_threshold": 0.9, "min_size": 1} | cutting
    net.save(tmp_path / "model.npz")
    with pytest.raises(InputError, match="says of its cells") as error:
        run(tmp_path / "model.npz", tmp_path / "out", write(tmp_path / "a.png", 1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cutting", [Cutting(0.0, 0.0, 0), Cutting(1.0, 1.0, 0)])
def test_thresholds_of_a_cutting_reach_from_0_to_1_and_may_be_equal(cutting):
    net = UNet(base_channels=1, depth=1)
    net.cutting = cutting.as_dict()
    assert cutting_of(net) == cutting


def test_cells_have_bright_hues_a_golden_angle_apart():
    numbers = np.array([1, 2, 3, 7, 1000])
    expected = [colorsys.hsv_to_rgb(number * (5**0.5 - 1) / 2 % 1, 0.6, 1) for number in numbers]
    np.testing.assert_allclose(cell_files.colours(numbers), expected, atol=1e-5)


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
