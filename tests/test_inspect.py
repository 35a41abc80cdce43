"""Ill data are named with the evidence; healthy sets are left alone."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from npunet import datasets
from npunet.datasets import Dataset, Sample, synthetic
from npunet.datasets.findings import findings
from npunet.files import images
from npunet.inspect import __main__ as inspect


def cells(seed, size=96, noise=0.05, bright=True):
    """An image of round cells of several sizes, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    instances = np.zeros((size, size), np.int32)
    for number in range(1, 12):
        v, u, radius = rng.uniform(4, size - 4), rng.uniform(4, size - 4), rng.uniform(5, 10)
        instances[(np.hypot(y - v, x - u) < radius) & (instances == 0)] = number
    grey = np.where(instances > 0, 0.65 + 0.02 * (instances % 5), 0.25) + rng.normal(0, noise, instances.shape)
    grey = ndimage.gaussian_filter(grey, 0.7)
    image = np.clip(grey if bright else 1 - grey, 0, 1).astype(np.float32)[..., None]
    return Sample(f"{seed}.png", image, (instances > 0).astype(np.int64), instances)


def healthy(count=6, **options):
    return Dataset("cells", [cells(seed, **options) for seed in range(count)], 2)


def remask(dataset, number, change):
    sample = dataset.samples[number]
    sample.labels = np.ascontiguousarray(change(sample.labels))
    return dataset


def reimage(dataset, number, change):
    sample = dataset.samples[number]
    sample.image = np.ascontiguousarray(change(sample.image), np.float32)
    return dataset


def swap(dataset):
    masks = [sample.labels for sample in dataset.samples]
    for sample, mask in zip(dataset.samples, masks[1:] + masks[:1]):
        sample.labels = mask
    return dataset


def copy(dataset, source, target, masks=True):
    a, b = dataset.samples[source], dataset.samples[target]
    b.image = a.image.copy()
    b.labels = a.labels.copy() if masks else b.labels
    return dataset


def left_out(dataset, number):
    """Every second object of one mask is not drawn."""
    return remask(dataset, number, lambda mask: mask * (dataset.samples[number].instances % 2))


def outline(mask):
    return mask & ~ndimage.binary_erosion(mask, iterations=2).astype(mask.dtype)


def three_classes(dataset, only_held_out=False):
    dataset.n_classes, dataset.class_values = 3, (0, 7, 255)
    if only_held_out:
        dataset.samples[-1].labels[10:30, 10:30] = 2
    else:
        dataset.samples[0].labels[5, 5:7] = 2
        dataset.samples[-1].labels[5, 5:7] = 2
    return dataset


def burnt_in(dataset):
    for sample in dataset.samples:
        sample.image[sample.labels > 0] = 1.0
    return dataset


def saturated(dataset):
    for sample in dataset.samples:
        sample.image = np.where(sample.image > 0.24, np.float32(1), sample.image)
    return dataset


def dark(dataset):
    for sample in dataset.samples:
        sample.image = sample.image * np.float32(0.1)
    return dataset


def everywhere(dataset, change):
    for number in range(len(dataset.samples)):
        remask(dataset, number, change)
    return dataset


def held_out(dataset, change):
    """The first image again, changed, as the last."""
    return reimage(copy(dataset, 0, 5), 5, change)


def saved_as_jpeg(image):
    file = io.BytesIO()
    Image.fromarray(np.uint8(255 * image[..., 0])).save(file, "jpeg", quality=60)
    return np.asarray(Image.open(file), np.float32)[..., None] / 255


def noise(like):
    return np.random.default_rng(4).random(like.shape, np.float32)


def of_16_bits(dataset, count, other):
    """`count` images as if they had 16 bits; number `other` is the odd one."""
    for number, sample in enumerate(dataset.samples):
        sample.stretched = (0, 4095) if (number == other) == (count == 1) else None
    return dataset


# A mask that is drawn or placed wrongly looks wrong in several ways; one of them is said.
OF_MASKS = {
    "unfinished mask",
    "outlines",
    "nudged mask",
    "shifted mask",
    "turned mask",
    "swapped mask",
    "unrelated mask",
}
ILL = {
    "one mask inverted": (lambda d: remask(d, 2, lambda m: 1 - m), "polarity", "2.png"),
    "half of the masks inverted": (
        lambda d: remask(remask(d, 1, lambda m: 1 - m), 3, lambda m: 1 - m),
        "polarity",
        "1",
    ),
    "one image inverted": (lambda d: reimage(d, 4, lambda i: 1 - i), "polarity", "4.png"),
    "a mask shifted": (lambda d: remask(d, 1, lambda m: np.roll(m, 16, axis=0)), "shifted mask", "1.png"),
    "all masks shifted": (lambda d: everywhere(d, lambda m: np.roll(m, -14, axis=1)), "shifted mask", "0.png"),
    "a mask transposed": (lambda d: remask(d, 3, lambda m: m.T), "turned mask", "transposed"),
    "a mask turned": (lambda d: remask(d, 3, lambda m: np.rot90(m)), "turned mask", "turned by 270"),
    "a mask mirrored": (lambda d: remask(d, 0, lambda m: m[:, ::-1]), "turned mask", "mirrored"),
    "masks in another order": (swap, "swapped mask", "another order"),
    "an empty mask": (lambda d: remask(d, 1, lambda m: 0 * m), "empty mask", "1.png"),
    "half of the masks empty": (
        lambda d: remask(remask(d, 1, lambda m: 0 * m), 2, lambda m: 0 * m),
        "empty mask",
        "2 of",
    ),
    "nothing to score": (lambda d: remask(d, 5, lambda m: 0 * m), "empty held out", "nothing can be scored"),
    "a full mask": (lambda d: remask(d, 1, lambda m: 0 * m + 1), "full mask", "1.png"),
    "a copy held out": (lambda d: copy(d, 0, 5), "leak", "5.png = 0.png"),
    "an image twice": (lambda d: copy(d, 0, 1), "duplicate", "0.png, 1.png"),
    "a copy held out as JPEG": (lambda d: held_out(d, lambda i: saved_as_jpeg(i)), "look-alike", "5.png = 0.png"),
    "a copy held out, brighter": (lambda d: held_out(d, lambda i: 0.8 * i + 0.1), "look-alike", "5.png = 0.png"),
    "a copy held out, turned": (lambda d: held_out(d, lambda i: np.rot90(i)[:, ::-1]), "look-alike", "5.png = 0.png"),
    "a mask of nothing": (lambda d: remask(d, 2, lambda m: np.roll(m, 40, axis=0)), "unrelated mask", "2.png"),
    "a stranger's mask": (lambda d: remask(d, 2, lambda m: cells(92).labels), "unrelated mask", "2.png"),
    "noise for an image": (lambda d: reimage(d, 3, noise), "unrelated mask", "3.png"),
    "a noisy mask": (lambda d: remask(d, 2, lambda m: m ^ (noise(m) > 0.9)), "crumbs", "2.png"),
    "one image of 8 bits": (lambda d: of_16_bits(d, 5, 3), "bit depth", "3.png: of 8 bits"),
    "one image of 16 bits": (lambda d: of_16_bits(d, 1, 2), "bit depth", "2.png: not of 8 bits"),
    "an image with two masks": (lambda d: copy(d, 0, 1, masks=False), "two masks of one image", "different masks"),
    "a class only held out": (lambda d: three_classes(d, True), "class only held out", "255"),
    "a slip of the pen": (three_classes, "rare class", "255"),
    "masks as images": (lambda d: burnt_in(d), "mask as image", "one grey value"),
    "another exposure": (lambda d: reimage(d, 2, lambda i: i * 0.25), "exposure", "2.png"),
    "a black image": (lambda d: reimage(d, 2, lambda i: 0 * i), "blank image", "2.png"),
    "overexposed": (saturated, "saturation", "white"),
    "dark 8 bits": (dark, "dark", "16"),
    "an image of another scale": (lambda d: Dataset("d", [*d.samples[:5], cells(9, size=16)], 2), "size", "9.png"),
    "one dot in a mask": (
        lambda d: remask(d, 0, lambda m: np.eye(len(m), dtype=int) * (np.arange(96) < 3)),
        "tiny",
        "0",
    ),
    "half of the objects left out": (lambda d: left_out(d, 3), "unfinished mask", "3.png"),
    "one mask of outlines": (lambda d: remask(d, 3, outline), "outlines", "3.png"),
    "masks of outlines": (lambda d: everywhere(d, outline), "outlines", "0.png, 1.png"),
    "a mask three pixels lower": (
        lambda d: remask(d, 1, lambda m: np.roll(m, 3, 0)),
        "nudged mask",
        "1.png 3 pixels up",
    ),
    "all masks moved a little": (
        lambda d: everywhere(d, lambda m: np.roll(m, (2, -2), (0, 1))),
        "nudged mask",
        "0.png 2 pixels up and 2 pixels right",
    ),
    "an image out of focus": (
        lambda d: reimage(d, 4, lambda i: ndimage.gaussian_filter(i, (3, 3, 0)) + 0.02 * noise(i)),
        "out of focus",
        "4.png",
    ),
    "upper half black": (lambda d: reimage(d, 2, lambda i: i * (np.arange(96) > 48)[:, None, None]), "cut off", "51%"),
    "left half black": (
        lambda d: reimage(d, 2, lambda i: i * (np.arange(96) > 40)[:, None]),
        "cut off",
        "of its columns",
    ),
    "one image in colour": (
        lambda d: Dataset("d", [reimaged(s, n == 1) for n, s in enumerate(d.samples)], 2),
        "colour",
        "1.png",
    ),
}


def reimaged(sample, colour):
    sample.image = np.repeat(sample.image, 3, axis=2) * (np.float32([1, 0.8, 0.6]) if colour else np.float32(1))
    return sample


@pytest.mark.parametrize("name", ILL)
def test_ill_data_are_named(name):
    make, kind, words = ILL[name]
    found = findings(make(healthy()))
    said = [str(finding) for finding in found if finding.kind == kind]
    assert said and words in said[0] and "\n" not in said[0], [(f.kind, str(f)) for f in found]
    if kind in OF_MASKS:
        assert {finding.kind for finding in found} & OF_MASKS == {kind}


HEALTHY = {
    "membranes are the objects": lambda: everywhere(synthetic(n_sections=6, size=128, seed=3), lambda m: 1 - m),
    "bright cells": lambda: healthy(),
    "dark cells": lambda: healthy(bright=False),
    "noisy cells": lambda: healthy(noise=0.15),
    "membranes": lambda: synthetic(n_sections=6, size=128, seed=3),
    "two images": lambda: healthy(2),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_data_have_no_finding(name):
    assert [str(finding) for finding in findings(HEALTHY[name]())] == []


def test_the_command_prints_the_findings_and_leaves_a_contact_sheet(tmp_path, capsys):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number, sample in enumerate(remask(healthy(), 2, lambda mask: 1 - mask).samples):
        images.write_image(tmp_path / "images" / f"{number}.png", sample.image)
        images.write_mask(tmp_path / "masks" / f"{number}.png", sample.labels)
    with pytest.raises(SystemExit) as ended:
        inspect.main([str(tmp_path), "--sheet", str(tmp_path / "sheet.png")])
    output = capsys.readouterr().out
    assert ended.value.code == 1 and "1. polarity: objects are darker" in output and "1 finding in 6 images" in output
    assert "8-bit pixels are divided by 255" in output and images.read_image(tmp_path / "sheet.png")[0].std() > 0.05


def test_frames_of_one_scene_are_no_copies():
    """A camera that stands still: the same structures, other noise."""
    scene, rng = cells(0, noise=0), np.random.default_rng(1)
    frames = [
        Sample(
            f"{n}.png", np.float32(scene.image + rng.normal(0, 0.05, scene.image.shape)), scene.labels, scene.instances
        )
        for n in range(4)
    ]
    assert not [finding for finding in findings(Dataset("film", frames, 2)) if finding.kind == "look-alike"]


@pytest.mark.parametrize("count, named", [(3, True), (4, False)])
def test_up_to_a_third_of_coloured_images_is_odd(count, named):
    dataset = healthy(9)
    for number, sample in enumerate(dataset.samples):
        reimaged(sample, colour=number < count)
    assert any(finding.kind == "colour" for finding in findings(dataset)) == named


def test_outlines_follow_the_objects():
    labels = np.zeros((20, 20), np.int64)
    labels[4:16, 4:16] = 1
    picture = inspect.outlined(Sample("a", np.full((20, 20, 1), 0.3, np.float32), labels, labels.astype(np.int32)))
    orange = (picture == np.float32((1.0, 0.5, 0.0))).all(axis=2)
    inner = np.zeros_like(orange)
    inner[6:14, 6:14] = True
    np.testing.assert_array_equal(orange, (labels > 0) & ~inner)
    assert (picture[~orange] == np.float32(0.3)).all()


def test_a_sixth_is_looked_at_as_held_out(monkeypatch, capsys):
    shares = []
    monkeypatch.setattr(datasets, "load", lambda *_, **__: datasets.synthetic(2, 32))
    monkeypatch.setattr(inspect, "findings", lambda dataset, share: shares.append(share) or [])
    inspect.main(["synthetic"])
    inspect.main(["synthetic", "--held-out", "3"])
    assert shares == [1 / 6, 3]


def test_a_contact_sheet_shows_48_images(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(inspect, "contact_sheet", lambda path, samples: shown.append(len(samples)))
    monkeypatch.setattr(inspect, "findings", lambda dataset, share: [])
    for count in (48, 50):
        monkeypatch.setattr(datasets, "load", lambda *_, count=count, **__: datasets.synthetic(count, 32))
        inspect.main(["synthetic", "--sheet", str(tmp_path / "sheet.png")])
    assert shown == [48, 48]
