"""Runs made ill on purpose: each illness is named; three healthy runs have no finding."""

import json
import shutil

import numpy as np
import pytest
from test_inspect import healthy

from npunet import UNet, tiling, train
from npunet.datasets import Sample
from npunet.doctor import __main__ as doctor
from npunet.doctor import by_heart, from_images, from_network
from npunet.files import checkpoint, images
from npunet.training import Recipe

TRAIN = (
    "--base-channels 6 --depth 1 --tile 76 --held-out 1 --steps 120 --evaluate-every 40 --threads 1 --warmup 5 "
    "--elastic 0 --learning-rate 0.01 --dropout 0"
)


def write_data(root, dataset):
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for sample in dataset.samples:
        images.write_image(root / "images" / sample.name, sample.image)
        images.write_mask(root / "masks" / sample.name, sample.labels)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data/ and the healthy run run/."""
    root = tmp_path_factory.mktemp("doctor")
    write_data(root / "data", healthy())
    train.main(["--data", str(root / "data"), "--out", str(root / "run"), *TRAIN.split()])
    return root


def diagnose(run, *options, capsys):
    """(status, output) of the command."""
    capsys.readouterr()
    status = 0
    try:
        doctor.main([str(run), *map(str, options)])
    except SystemExit as ended:
        status = ended.code
    return status, capsys.readouterr().out


def edit(run, change):
    """Change the parameters of best.npz; change gets {name: array}."""
    net = UNet.load(run / "best.npz")
    arrays = {name: parameter.value for name, parameter in net.parameters.items()}
    change(arrays)
    checkpoint.save(run / "best.npz", {f"parameter/{name}": array for name, array in arrays.items()} | header(net))


def header(net):
    return {"header": {"network": net.config, "mask_values": net.mask_values}}


def bias(value):
    def change(arrays):
        arrays["output.bias"][1] += value

    return lambda run: edit(run, change)


def threshold_moved(run):
    """All log-odds between -2.5 and -0.5."""
    net = UNet.load(run / "best.npz")
    p = tiling.predict(net, healthy().samples[5].image)[..., 1].clip(1e-6, 1 - 1e-6)
    odds = np.log(p / (1 - p))
    factor = 2 / np.ptp(odds)

    def change(arrays):
        arrays["output.weight"] *= factor
        arrays["output.bias"] *= factor
        arrays["output.bias"][1] -= factor * odds.max() + 0.5

    edit(run, change)


def dead(run):
    def change(arrays):
        for name in arrays:
            if name.endswith("conv1.bias"):
                arrays[name] -= 1000

    edit(run, change)


def not_a_number(run):
    def change(arrays):
        arrays["bottleneck.conv1.weight"][0, 0, 0, 0] = np.nan

    edit(run, change)


def untrained(run):
    def change(arrays):
        arrays["output.weight"] *= 1e-6

    edit(run, change)


def records(run, change):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in change(lines)))


def losses(make):
    def change(lines):
        steps = [line for line in lines if "loss" in line]
        for number, line in enumerate(steps):
            line["loss"] = make(number / len(steps))
        return lines

    return lambda run: records(run, change)


def overfitted(run):
    def change(lines):
        for line, score in zip([line for line in lines if "held_out" in line], (0.9, 0.8, 0.5)):
            line["held_out"]["mean_iou"] = score
        return lines

    records(run, change)


def unscored(run):
    def change(lines):
        for line in lines:
            if "held_out" in line:
                line["held_out"]["mean_iou"] = None
        return lines

    records(run, change)


def many_cut(run):
    def change(lines):
        return [line | ({"gradient_norm": 500.0} if "loss" in line else {}) for line in lines]

    records(run, change)


ILL = {
    "all black": (bias(-60), "black"),
    "all white": (bias(60), "white"),
    "threshold moved": (threshold_moved, "threshold"),
    "nothing learned": (untrained, "grey"),
    "dead ReLUs": (dead, "dead ReLUs"),
    "NaN": (not_a_number, "unusable checkpoint"),
    "a loss that stays": (losses(lambda done: 0.69), "loss does not fall"),
    "a loss that rises": (losses(lambda done: 0.5 + 4 * done), "diverging"),
    "overfitted": (overfitted, "overfitting"),
    "nothing to score": (unscored, "nothing to score"),
    "gradients cut": (many_cut, "large gradients"),
    "stopped early": (lambda run: records(run, lambda lines: lines[:30]), "unfinished"),
    "few steps": (lambda run: records(run, lambda lines: lines[:30]), "few steps"),
    "no checkpoint": (lambda run: (run / "best.npz").unlink(), "no checkpoint"),
    "a damaged log": (
        lambda run: (run / "metrics.jsonl").write_bytes(b"\xff{\n" + (run / "metrics.jsonl").read_bytes()),
        "damaged log",
    ),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ILL)
def test_an_ill_run_is_diagnosed(trained, tmp_path, capsys, name):
    damage, kind = ILL[name]
    run = shutil.copytree(trained / "run", tmp_path / "run")
    damage(run)
    status, output = diagnose(run, capsys=capsys)
    assert status == 1 and f". {kind}: " in output, output


LEARNS = {  # what the run was trained with, and its masks: what a fresh network says
    "in few steps": ("--learning-rate 0.01", False, "learned by heart"),
    "at no rate": ("--learning-rate 1e-12", False, "recipe"),
    "from the masks of nothing": ("--learning-rate 0.01", True, "not learned by heart"),
}


@pytest.mark.parametrize("name", LEARNS)
def test_whether_one_tile_can_be_learned_by_heart(tmp_path, capsys, monkeypatch, name):
    words, noise, kind = LEARNS[name]
    dataset, rng = healthy(), np.random.default_rng(0)
    for sample in dataset.samples if noise else ():
        sample.labels[...] = rng.random(sample.labels.shape) < 0.5
    write_data(tmp_path / "data", dataset)
    run = tmp_path / "run"
    train.main(["--data", str(tmp_path / "data"), "--out", str(run), *TRAIN.split(), "--steps", "2", *words.split()])
    bias(60)(run)
    monkeypatch.setattr(by_heart, "STEPS", 80)
    status, output = diagnose(run, "--by-heart", "500", capsys=capsys)
    assert status == 1 and f". {kind}: a fresh network of this size" in output, output
    assert by_heart.learned(UNet.load(run / "best.npz"), Recipe(tile=76), dataset.samples[0], 0) == (0.0, 1, False)
    assert " by heart: " not in diagnose(run, "--by-heart", "0", capsys=capsys)[1]


@pytest.mark.parametrize("value, said", [(60, True), (0, False)])
def test_much_dropout_is_named_where_predictions_say_nothing(trained, tmp_path, capsys, value, said):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    bias(value)(run)
    entries = checkpoint.load(run / "best.npz")
    entries["header"]["network"]["dropout"] = 0.95
    checkpoint.save(run / "best.npz", entries)
    _, output = diagnose(run, "--by-heart", "0", capsys=capsys)
    assert (". dropout: the dropout probability is 0.95: one channel in 20 is left" in output) == said, output


@pytest.mark.parametrize(
    "change, kind",
    [
        (lambda image: 1 - image, "new image inverted"),
        (lambda image: 0.2 * image, "new image exposure"),
        (lambda image: 0.45 + 0.1 * image, "new image contrast"),
        (lambda image: 0 * image + 0.4, "new image blank"),
        (lambda image: np.repeat(np.repeat(image, 4, axis=0), 4, axis=1), "new image scale"),
        (lambda image: image[::3, ::3], "new image scale"),
        (lambda image: image + 0.8 * np.linspace(-0.3, 0.5, 96)[:, None], "new image brightness"),
    ],
)
def test_a_new_image_of_another_kind_is_named(trained, tmp_path, capsys, change, kind):
    images.write_image(tmp_path / "new.png", change(healthy().samples[5].image))
    status, output = diagnose(trained / "run", "--image", tmp_path / "new.png", capsys=capsys)
    assert status == 1 and f"{kind}: new.png" in output, output


def test_ill_data_are_found_through_the_run(trained, tmp_path, capsys):
    data = shutil.copytree(trained / "data", tmp_path / "data")
    images.write_mask(data / "masks" / "1.png", 1 - healthy().samples[1].labels)
    status, output = diagnose(trained / "run", "--data", data, capsys=capsys)
    assert status == 1 and "polarity: objects are darker" in output


@pytest.mark.parametrize("kind", ["bright", "dark", "class balance"])
def test_healthy_runs_have_no_finding(trained, tmp_path, capsys, kind):
    run = trained / "run"
    if kind != "bright":
        run, data = tmp_path / "run", write_data(tmp_path / "data", healthy(bright=kind != "dark"))
        more = ["--class-balance"] if kind == "class balance" else []
        train.main(["--data", str(data), "--out", str(run), *TRAIN.split(), "--seed", "2", *more])
    new = tmp_path / "new.png"
    images.write_image(new, healthy(8, bright=kind != "dark").samples[7].image)
    assert diagnose(run, "--image", new, capsys=capsys) == (0, f"0 findings about {run}\n")


def one_class(share, p_object, p_else, pixels=200):
    """Findings about one row of pixels, `share` of them objects; p of class 1: numbers, or arrays of pixels."""
    truth = (np.arange(pixels) < share * pixels).astype(int)[None]
    p = np.where(truth, p_object, p_else)
    sample = Sample("row", np.zeros((1, pixels, 1)), truth, truth.astype(np.int32))
    return list(from_network.one_class([sample], [np.stack([1 - p, p], axis=-1)]))


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_the_threshold_that_parts_the_classes_is_found(threshold):
    (finding,) = one_class(0.3, threshold + 0.004, threshold - 0.004)
    assert finding.kind == "threshold" and f"at --threshold {threshold:g} the IoU is 1.000" in str(finding)


@pytest.mark.parametrize("found, kind", [(65, "threshold"), (50, "black")])
def test_with_objects_in_half_of_the_pixels_a_threshold_must_beat_all_of_them(found, kind):
    """Everything called object has an IoU of 0.5; 0.65 is clearly better, and 0.5 is not."""
    p = np.where(np.arange(200) < found, 0.45, 0.001)
    (finding,) = one_class(0.5, p, 0.001)
    assert finding.kind == kind


@pytest.mark.parametrize("by, kinds", [(0.11, []), (0.13, ["new image exposure"]), (0.15, ["new image exposure"])])
def test_an_exposure_is_another_if_it_is_twice_as_far_away_as_training_images(by, kinds):
    ramp = np.tile(np.linspace(0.2, 0.4, 64, dtype=np.float32), (64, 1))[..., None]
    found = from_images.findings("x.png", ramp + by, [ramp - 0.06, ramp + 0.06])
    assert [one.kind for one in found] == kinds
