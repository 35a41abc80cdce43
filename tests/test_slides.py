"""Slides, chunk by chunk: what is found is that of the whole image, whatever the blocks, files and processes."""

import csv
import json
import shutil
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import slide_helpers
import tifffile
from slide_helpers import network, picture, run, write_tiff, write_zarr

from npunet import InputError, UNet, tiling
from npunet.files import images
from npunet.files.calibration import Calibration, read_calibration
from npunet.instances import cutting_of, measure
from npunet.parallel import ring
from npunet.slides import overview, plan, work

zarr = pytest.importorskip("zarr", reason='zarr is not installed; pip install "npunet[zarr]" adds it')
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of zarr's own


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.npz"
    network(path)
    return path


def whole(model, image):
    """Probabilities (H, W, K) and cells (H, W) of a page (H, W, C) uint8 in memory."""
    net = UNet.load(model)
    probabilities = tiling.predict(net, image.astype(np.float32) / 255, 316)
    return probabilities, cutting_of(net).cells(probabilities)


def level(path, number=0):
    return np.asarray(zarr.open_group(str(path), mode="r")[str(number)][...])


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_zarr_becomes_the_zarr_of_the_whole_image(model, tmp_path, version):
    image = picture()
    slide = write_zarr(tmp_path / "slide.zarr", image, version)
    said = run(model, slide, tmp_path / "out", "--probabilities", "uint16")
    probabilities, cells = whole(model, image[0])
    assert cells.max() > 10
    np.testing.assert_array_equal(level(tmp_path / "out/slide.zarr"), 255 * (probabilities[..., 1] > 0.5))
    np.testing.assert_array_equal(level(tmp_path / "out/slide.zarr/labels/cells"), cells)
    stored = level(tmp_path / "out/slide_probability.zarr")
    np.testing.assert_allclose(stored, 65535 * probabilities[..., 1], atol=1)
    assert stored.dtype == np.uint16
    assert read_calibration(tmp_path / "out/slide.zarr") == Calibration(x=0.5, y=0.5)
    assert "16 blocks of 48" in said and "MB" in said and f"{cells.max()} cells" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "slide.zarr", "slide_cells.csv", "slide_overlay.png", "slide_probability.zarr"]  # fmt: skip


def test_the_table_is_that_of_the_whole_image(model, tmp_path):
    image = picture(seed=5)
    run(model, write_zarr(tmp_path / "slide.zarr", image), tmp_path / "out")
    _, cells = whole(model, image[0])
    expected = measure(cells, image[0], 0.5)
    found = table(tmp_path / "out/slide_cells.csv")
    assert [row.pop("image") for row in found] == ["slide.zarr"] * len(expected)
    for row, right in zip(found, expected, strict=True):
        assert row.keys() == right.keys()
        np.testing.assert_allclose([float(row[name]) for name in right], list(right.values()), atol=1e-4)


def test_a_tiled_tiff_becomes_a_tiled_pyramid(model, tmp_path, monkeypatch):
    monkeypatch.setattr("npunet.files.ome_zarr_writing.SMALLEST", 64)
    image = picture()
    slide = write_tiff(tmp_path / "slide.tif", image)
    run(model, slide, tmp_path / "out", "--format", "tiff", "--probabilities", "float32")
    probabilities, cells = whole(model, image[0])
    with tifffile.TiffFile(tmp_path / "out/slide_cells.tif") as file:
        assert file.is_ome and file.series[0].keyframe.is_tiled
        levels = [one.asarray() for one in file.series[0].levels]
    np.testing.assert_array_equal(levels[0], cells)
    assert [one.shape for one in levels] == [(150, 190), (75, 95), (38, 48)]
    np.testing.assert_array_equal(levels[2], cells[::4, ::4])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/slide.tif"), 255 * (probabilities[..., 1] > 0.5))
    found = tifffile.imread(tmp_path / "out/slide_probability.tif")
    np.testing.assert_allclose(found, probabilities[..., 1], atol=2e-5)


def test_the_levels_of_a_zarr_are_every_second_pixel(model, tmp_path, monkeypatch):
    monkeypatch.setattr("npunet.files.ome_zarr_writing.SMALLEST", 32)
    run(model, write_zarr(tmp_path / "slide.zarr", picture()), tmp_path / "out")
    cells = [level(tmp_path / "out/slide.zarr/labels/cells", number) for number in range(4)]
    for number in (1, 2, 3):
        np.testing.assert_array_equal(cells[number], cells[0][:: 2**number, :: 2**number])
    assert cells[3].shape == (19, 24)


@pytest.mark.parametrize("pages", [1, 2])
def test_the_overlay_is_a_level_with_outlines(model, tmp_path, monkeypatch, pages):
    """Every fourth pixel. Inside cells and outside it is the picture, brighter; where the number changes, a colour."""
    monkeypatch.setattr("npunet.files.ome_zarr_writing.SMALLEST", 32)
    monkeypatch.setattr("npunet.slides.overview.LARGEST", 50)
    image = picture(150, 190, pages=pages)
    run(model, write_zarr(tmp_path / "slide.zarr", image), tmp_path / "out")
    name = tmp_path / f"out/slide_overlay.{'png' if pages == 1 else 'tif'}"
    shown = np.asarray(images.open_image(name).pixels)
    assert shown.shape == (pages, 38, 48, 3) and read_calibration(name).x in (None, 2.0)
    for page in range(pages):
        cells = whole(model, image[page])[1][::4, ::4]
        framed = np.pad(cells, 1, mode="edge")
        edge = np.zeros(cells.shape, bool)
        for y, x in np.ndindex(cells.shape):
            near = framed[[y, y + 2, y + 1, y + 1], [x + 1, x + 1, x, x + 2]]
            edge[y, x] = cells[y, x] > 0 and (near != cells[y, x]).any()
        assert 100 < edge.sum() < edge.size / 2
        grey = shown[page][~edge]
        assert (grey == grey[:, :1]).all() and np.ptp(shown[page][edge], axis=1).min() > 30
        seen = image[page, ::4, ::4, 0][~edge]
        brightest = np.quantile(image[page, ::4, ::4], 0.998)
        np.testing.assert_allclose(grey[:, 0], np.minimum(255 * (seen / brightest), 255), atol=1)
        of_first = shown[page][edge & (cells == cells[edge][0])]
        assert (of_first == of_first[0]).all()


@pytest.mark.parametrize("form", ["zarr", "tiff"])
def test_three_channels_and_pages_of_time_and_depth(tmp_path, form):
    image = picture(70, 90, 3, 6)
    network(tmp_path / "net.npz", 3, 3, seeded=False)
    slide = write_zarr(tmp_path / "slide.zarr", image, "0.4", Calibration(axes="TZ", counts=(2, 3), seconds=4.0, z=2.0))
    options = ["--format", form, "--instances", "--probabilities", "float32"]
    run(tmp_path / "net.npz", slide, tmp_path / "out", *options)
    suffix = "zarr" if form == "zarr" else "tif"
    masks = images.open_image(tmp_path / f"out/slide.{suffix}")
    assert masks.shape == (6, 70, 90, 1)
    shown = images.open_image(tmp_path / f"out/slide_probability.{suffix}")
    assert shown.shape == (6, 70, 90, 3)
    for page in range(6):
        probabilities, cells = whole(tmp_path / "net.npz", image[page])
        np.testing.assert_array_equal(masks.raw(page)[:, :][..., 0], probabilities.argmax(axis=2))
        np.testing.assert_allclose(shown.raw(page)[:, :], probabilities, atol=1e-5)
        numbers = "slide.zarr/labels/cells" if form == "zarr" else "slide_cells.tif"
        np.testing.assert_array_equal(images.open_image(tmp_path / "out" / numbers).raw(page)[:, :][..., 0], cells)
    rows = table(tmp_path / "out/slide_cells.csv")
    assert {row["page"] for row in rows} == set("123456") and "mean_grey_3" in rows[0]
    calibration = read_calibration(tmp_path / f"out/slide.{suffix}")
    assert (calibration.axes, calibration.counts, calibration.z) == ("TZ", (2, 3), 2.0)


@pytest.mark.parametrize("side", [150, 151])
def test_a_padded_network_sees_what_it_sees_of_the_whole(tmp_path, side):
    image = picture(side, side + 20)
    net = network(tmp_path / "net.npz", variant="pytorch-unet")
    slide = write_zarr(tmp_path / "slide.zarr", image)
    run(tmp_path / "net.npz", slide, tmp_path / "out", "--probabilities", "float32")
    probabilities = tiling.predict(net, image[0].astype(np.float32) / 255, 316)  # in one piece
    np.testing.assert_allclose(level(tmp_path / "out/slide_probability.zarr"), probabilities[..., 1], atol=1e-4)
    np.testing.assert_array_equal(level(tmp_path / "out/slide.zarr/labels/cells"), cutting_of(net).cells(probabilities))


def test_16_bit_slides_have_the_range_of_the_whole_file(model, tmp_path):
    image = picture().astype(np.uint16) * 37
    tifffile.imwrite(tmp_path / "plain.tif", image[0, ..., 0])
    slides = [write_zarr(tmp_path / "a.zarr", image), write_tiff(tmp_path / "b.tif", image)]
    expected = images.open_image(tmp_path / "plain.tif")
    for slide in slides:
        stack = images.open_image(slide)
        assert stack.value_range == expected.value_range
        np.testing.assert_array_equal(stack.window(0, 30, 40, 77, 99), expected.window(0, 30, 40, 77, 99))


def test_sampled_pixels_are_those_of_the_array():
    """With steps, chunk after chunk: the same as slicing what is in memory."""
    image = picture(101, 87, 2, 2)
    pixels = slide_helpers.InMemory(image, chunk=(30, 22))
    np.testing.assert_array_equal(pixels[:, ::7, ::3], image[:, ::7, ::3])
    np.testing.assert_array_equal(pixels[1, 5:93:40, 2:80:41], image[1, 5:93:40, 2:80:41])
    np.testing.assert_array_equal(np.asarray(pixels[1])[3:5], image[1, 3:5])
    for nothing in (np.s_[2:, 3:9, 4:7], np.s_[:, 9:9, 4:7], np.s_[0, 3:9, 7:4], np.s_[:0, :, :]):
        assert pixels[nothing].shape == image[nothing].shape


@pytest.mark.parametrize("form", ["zarr", "tiff"])
def test_three_ranks_write_what_one_writes(model, tmp_path, form):
    slide = write_zarr(tmp_path / "slide.zarr", picture())
    run(model, slide, tmp_path / "one", "--format", form)
    assert all(ring.run(3, slide_helpers.run_as_rank, model, slide, tmp_path / "three", "--format", form))
    one, three = ({p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
                  for folder in (tmp_path / "one", tmp_path / "three"))  # fmt: skip
    assert one.keys() == three.keys()
    for name, path in one.items():
        if path.suffix == ".tif":
            np.testing.assert_array_equal(tifffile.imread(path), tifffile.imread(three[name]))
        else:
            assert path.read_bytes() == three[name].read_bytes(), name


def test_a_run_that_was_stopped_does_the_rest_and_other_options_begin_anew(model, tmp_path, monkeypatch):
    slide, predicted = write_zarr(tmp_path / "slide.zarr", picture()), []
    piece = tiling.predict_piece

    def counted(*arguments):
        if len(predicted) == 5:
            raise KeyboardInterrupt
        predicted.append(1)
        return piece(*arguments)

    monkeypatch.setattr("npunet.commands.settled_marks.tiling.predict_piece", lambda *a: piece(*a))
    monkeypatch.setattr("npunet.slides.prediction.tiling", slide_helpers.Changed(tiling, predict_piece=counted))
    with pytest.raises(KeyboardInterrupt):
        run(model, slide, tmp_path / "out")
    assert not (tmp_path / "out/slide.zarr").exists()
    predicted[:] = [1] * 6  # from here on everything is counted, nothing stopped
    assert "going on" in run(model, slide, tmp_path / "out")
    assert len(predicted) == 6 + 16 - 5
    np.testing.assert_array_equal(level(tmp_path / "out/slide.zarr/labels/cells"), whole(model, picture()[0])[1])
    predicted[:] = []
    with pytest.raises(KeyboardInterrupt):
        run(model, slide, tmp_path / "out")
    predicted[:] = [1] * 6
    assert "going on" not in run(model, slide, tmp_path / "out", "--threshold", "0.6")
    assert len(predicted) == 6 + 16
    assert [path.name for path in (tmp_path / "out").glob(".*")] == []


def test_a_piece_that_another_process_has_taken_is_left_to_it(tmp_path):
    """Whoever comes first does a piece: here another process takes number 2 while this one does number 0."""
    done, folder = [], work.Work(tmp_path / "work")

    def task(piece):
        done.append(piece.index)
        if piece.index == 0:
            (tmp_path / "work/claims-stage/2").touch()
        return {}

    with folder.begun({}):
        (tmp_path / "work/claims-stage").mkdir()  # what a killed run has left counts for nothing
        (tmp_path / "work/claims-stage/3").touch()
        folder.share("stage", [SimpleNamespace(index=index) for index in range(5)], task, "pieces")
    assert done == [0, 1, 3, 4]


def test_the_metadata_are_valid_for_others(model, tmp_path):
    models = pytest.importorskip("ome_zarr_models", reason='pip install "npunet[formats]" adds ome-zarr-models')
    from ome_zarr_models import v04, v05

    assert models
    for version, judge in (("0.4", v04), ("0.5", v05)):
        slide = write_zarr(tmp_path / f"{version}.zarr", picture(), version)
        run(model, slide, tmp_path / "out", "--probabilities", "uint16")
        for name, kind in ((f"{version}.zarr", judge.Image), (f"{version}_probability.zarr", judge.Image),
                           (f"{version}.zarr/labels", judge.Labels),
                           (f"{version}.zarr/labels/cells", judge.ImageLabel)):  # fmt: skip
            kind.from_zarr(zarr.open_group(str(tmp_path / "out" / name), mode="r"))


def test_the_reader_of_napari_finds_image_and_labels(model, tmp_path):
    io = pytest.importorskip("ome_zarr.io", reason="ome-zarr, the reader of napari-ome-zarr, is not installed")
    reader = pytest.importorskip("ome_zarr.reader")
    for version in ("0.4", "0.5"):
        run(model, write_zarr(tmp_path / f"{version}.zarr", picture(), version), tmp_path / "out")
        nodes = list(reader.Reader(io.parse_url(str(tmp_path / "out" / f"{version}.zarr")))())
        shapes = [node.data[0].shape for node in nodes if node.data]
        assert shapes == [(150, 190), (150, 190)]
        np.testing.assert_array_equal(nodes[-1].data[0].compute(), whole(model, picture()[0])[1])


def test_memory_does_not_grow_with_the_slide(model, tmp_path, monkeypatch):
    """From 0.1 to 1 megapixel: what Python and NumPy allocate at most."""
    monkeypatch.setattr("npunet.commands.grey_values.LOOKED_AT", 100)  # pixels, whatever the size
    found = []
    for side in (300, 1000):
        image = np.tile(picture(100, 100), (1, -(-side // 100), -(-side // 100), 1))[:, :side, :side]
        slide = write_zarr(tmp_path / f"{side}.zarr", image, chunk=100)
        del image
        tracemalloc.start()
        run(model, slide, tmp_path / "out", "--no-instances", "--tile", 284)
        found.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found[1] - found[0] < 4e5, found


# What is refused, in one line


def refused(match, *arguments):
    with pytest.raises(InputError, match=match) as found:
        run(*arguments)
    assert "\n" not in str(found.value)


def test_what_is_no_image_of_ome_zarr(model, tmp_path):
    slide = write_zarr(tmp_path / "slide.zarr", picture())
    for change, match in (
        (lambda said: said.update(version="0.3"), "OME-Zarr of version 0.3; expected 0.4 or 0.5"),
        (lambda said: said.pop("multiscales"), "no image of OME-Zarr 0.4 or 0.5"),
        (lambda said: said.update(plate={}), "holds several images \\(plate\\); give one of them"),
        (lambda said: said["multiscales"][0]["axes"].reverse(), "axes xy; expected some of t, c, z before y and x"),
        (lambda said: said["multiscales"][0]["datasets"][0].update(path="9"), "level '9' is missing"),
    ):
        broken = tmp_path / "broken.zarr"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(slide, broken)
        metadata = json.loads((broken / "zarr.json").read_text())
        change(metadata["attributes"]["ome"])
        (broken / "zarr.json").write_text(json.dumps(metadata))
        refused(match, model, broken, tmp_path / "out")
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    refused("cannot be read as OME-Zarr", model, tmp_path / "broken.zarr", tmp_path / "out")
    (tmp_path / "empty.zarr").mkdir()
    refused("cannot be read as OME-Zarr", model, tmp_path / "empty.zarr", tmp_path / "out")


def test_a_damaged_chunk_and_a_damaged_tile_are_named(model, tmp_path):
    slide = write_zarr(tmp_path / "slide.zarr", picture())
    (slide / "0/c/1/1").write_bytes(b"nonsense")
    refused("slide.zarr: a chunk cannot be read", model, slide, tmp_path / "out")
    slide = write_tiff(tmp_path / "slide.tif", picture())
    with tifffile.TiffFile(slide) as file:
        place = file.pages[0].dataoffsets[4]
    with open(slide, "r+b") as file:
        file.seek(place)
        file.write(bytes(40))
    refused("slide.tif: tile 4 of page 1 is damaged", model, slide, tmp_path / "out", "--format", "tiff")
    assert not list((tmp_path / "out").glob("slide*"))


def test_options_that_are_for_pictures(model, tmp_path):
    slide = write_zarr(tmp_path / "slide.zarr", picture())
    for options, match in (
        (["--viz"], "--viz is for pictures that memory holds"),
        (["--cell-tracking"], "--cell-tracking is for pictures"),
        (["--scale", "0.5"], "--scale 0.5: a slide is seen as it is"),
        (["--tile", "20"], "tile 20 is too small for a slide, whose chunks are multiples of 16; use 32 or more"),
    ):
        refused(match, model, slide, tmp_path / "out", *options)
    refused("would overwrite the input", model, slide, tmp_path)


def test_two_runs_at_once_and_too_little_memory(model, tmp_path, monkeypatch):
    slide = write_zarr(tmp_path / "slide.zarr", picture())
    with work.Work(tmp_path / "out/.slide.npunet-work").begun({}):
        refused("another run is at work on this slide", model, slide, tmp_path / "out")
    monkeypatch.setattr(plan.backend, "free_memory", lambda device: 1000)
    refused("this needs about .* MB, but 0 MB are free; give a smaller --tile", model, slide, tmp_path / "out")


def test_zarr_is_not_installed(model, tmp_path, monkeypatch):
    slide = write_zarr(tmp_path / "slide.zarr", picture())
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    refused(r'OME-Zarr needs the package zarr.*pip install "npunet\[zarr\]"', model, slide, tmp_path / "out")


def test_a_disk_without_room_is_one_line(model, tmp_path, monkeypatch):
    slide = write_tiff(tmp_path / "slide.tif", picture())
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr("npunet.files.tiled_tiff.shutil.disk_usage", lambda path: usage)
    refused("slide.tif needs .* MB but 0.0 MB are free", model, slide, tmp_path / "out", "--format", "tiff")


def test_a_slide_is_shown_at_the_first_level_of_at_most_2048_pixels():
    longest = (1, 2048, 2049, 4096, 4097, 8192)
    assert [overview.level_of((3, 5, side)) for side in longest] == [0, 0, 1, 1, 2, 2]
