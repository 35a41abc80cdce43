"""Every option that a user can give has an effect that is seen: on the network's bits, or on the record of the run."""

import json

import numpy as np
import pytest

from npunet import UNet, evaluate, predict, stylize, train, training
from npunet.commands import run_pictures, scaling, train_options
from npunet.datasets import Sample
from npunet.files import checkpoint, images
from npunet.style import Generator
from npunet.style import options as style_options

pytestmark = pytest.mark.usefixtures("without_pictures")

SMALL = "--base-channels 2 --depth 1 --tile 36 --held-out 2 --steps 4 --evaluate-every 2 --threads 1".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five noisy images of touching, numbered cells; a network to load; pictures for stylize."""
    root, rng = tmp_path_factory.mktemp("effects"), np.random.default_rng(7)
    for kind in ("images", "masks"):
        (root / "data" / kind).mkdir(parents=True)
    for number in range(5):
        cells = np.zeros((60, 60), np.uint8)
        for cell in range(18):
            row, column = 10 * (cell // 6) + 20 * (number % 2), 10 * (cell % 6)
            cells[row : row + 9, column : column + 10] = cell + 1
        grey = np.clip(0.3 + 0.1 * number + 0.2 * (cells > 0) + rng.normal(0, 0.1, cells.shape), 0, 1)
        images.write_image(root / "data" / "images" / f"{number}.png", grey)
        images.write_mask(root / "data" / "masks" / f"{number}.png", cells, n_classes=256)
    UNet(1, 2, 2, 1, seed=5).save(root / "given.npz")
    images.write_image(root / "content.png", rng.random((40, 40, 3)))
    images.write_image(root / "style.png", rng.random((30, 50, 3)))
    return root


def trained(folder, out, *more):
    """(bits of the network, what the record says) of a short run."""
    arguments = [*SMALL, *more]
    train.main(["--data", str(folder / "data"), "--out", str(out), *map(str, arguments)])
    entries = checkpoint.load(out / "newest.npz")
    arrays = {name: array.tobytes() for name, array in entries.items() if name.startswith("parameter/")}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return arrays, [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def base(folder, tmp_path_factory):
    """What runs without the option leave, made once for each other option that it is beside."""
    known = {}

    def run(*beside):
        if beside not in known:
            known[beside] = trained(folder, tmp_path_factory.mktemp("base") / "run", *beside)
        return known[beside]

    return run


TRAIN = {  # option: (its words, options of both runs)
    "steps": ("--steps 3", ""),
    "epochs": ("--epochs 1", None),
    "tile": ("--tile 44", ""),
    "batch": ("--batch 2", ""),
    "base_channels": ("--base-channels 3", ""),
    "depth": ("--depth 2 --tile 44", "--tile 44"),
    "variant": ("--variant padded", ""),
    "bilinear": ("--bilinear", "--variant pytorch-unet"),
    "classes": ("--classes 3", ""),
    "scale": ("--scale 0.5", ""),
    "dropout": ("--dropout 0.1", ""),
    "learning_rate": ("--learning-rate 0.01", ""),
    "optimizer": ("--optimizer sgd", ""),
    "momentum": ("--momentum 0.5", "--optimizer sgd"),
    "weight_decay": ("--weight-decay 0.1", ""),
    "loss": ("--loss cross-entropy+dice", ""),
    "schedule": ("--schedule constant", ""),
    "warmup": ("--warmup 2", ""),
    "clip": ("--clip 0.01", "--optimizer sgd"),
    "rotation": ("--rotation 0", ""),
    "mirror": ("--no-mirror", ""),
    "elastic": ("--elastic 0", ""),
    "grey": ("--grey 0", ""),
    "w0": ("--w0 0", ""),
    "sigma": ("--sigma 2", ""),
    "gap": ("--gap 0", ""),
    "class_balance": ("--class-balance", ""),
    "head": ("--head border", ""),
    "held_out": ("--held-out 1", ""),
    "labels": ("--labels binary", ""),
    "evaluate_every": ("--evaluate-every 1", ""),
    "seed": ("--seed 1", ""),
    "load": ("--load GIVEN", ""),
    "minutes": ("--minutes 0.0001", None),
}
SEEN_ELSEWHERE = {
    "patience",  # test_train_cells
    "normalise",  # test_trust: it needs files of 16 bits
    "data",
    "out",
    "device",
    "threads",
    "tf32",
    "precision",
    "graph",
    "recompute",
    "resume",
}  # test_train, test_cuda_*, test_cli


def test_every_option_of_train_is_here():
    assert TRAIN.keys() | SEEN_ELSEWHERE == {action.dest for action in train_options.parser()._actions} - {"help"}


@pytest.mark.parametrize("name", TRAIN)
def test_option_of_train(folder, base, tmp_path, name):
    words, beside = TRAIN[name]
    words = words.replace("GIVEN", str(folder / "given.npz")).split()
    if beside is None:  # another way of saying how long
        at = SMALL.index("--steps")
        train.main(
            ["--data", str(folder / "data"), "--out", str(tmp_path / "run"), *SMALL[:at], *SMALL[at + 2 :], *words]
        )
        assert checkpoint.load(tmp_path / "run" / "newest.npz")["header"]["progress"]["step"] == (
            1 if name == "minutes" else 3
        )
        return
    without, with_it = base(*beside.split()), trained(folder, tmp_path / "run", *beside.split(), *words)
    assert without != with_it, f"{words} changes nothing"
    if name not in ("evaluate_every", "held_out"):
        assert without[0] != with_it[0], f"{words} does not reach the network"


def test_rates_of_the_schedule_are_those_of_the_steps(folder, base):
    recipe = training.Recipe(steps=4)
    rates = [line["learning_rate"] for line in base()[1] if "loss" in line]
    assert rates == [training.learning_rate(recipe, step) for step in range(4)] and len(set(rates)) == 4


def test_cells_that_are_numbered_get_the_papers_border(folder, base, tmp_path):
    assert trained(folder, tmp_path / "run", "--w0", "10")[0] == base()[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_best_is_the_best(folder, tmp_path, seed):
    more = ["--learning-rate", "0.03", "--steps", "6", "--evaluate-every", "1", "--seed", seed]
    _, lines = trained(folder, tmp_path / "run", *more)
    scores = {line["step"]: line["held_out"]["mean_iou"] for line in lines if "held_out" in line}
    best = checkpoint.load(tmp_path / "run" / "best.npz")["header"]["progress"]["step"]
    assert scores[best] == max(scores.values()) > min(scores.values())


def test_no_statistic_comes_from_held_out_images(folder, base, tmp_path):
    train.main(["--data", str(folder / "data"), "--out", str(tmp_path / "run"), *SMALL])
    net = UNet.load(tmp_path / "run" / "best.npz")
    seen = [images.read_image(folder / "data" / "images" / f"{number}.png")[0] for number in range(3)]
    assert net.input_mean == pytest.approx(np.mean(seen), abs=1e-6)
    assert net.input_std == pytest.approx(np.std(seen), abs=1e-6)


def test_missed_pixels_are_red_and_invented_ones_blue():
    truth, found = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 1, 0]])
    sample = Sample("a", np.zeros((1, 4, 1), np.float32), truth, truth.astype(np.int32))
    right, missed, invented, ground = run_pictures.error_picture(sample, found)[0]
    assert missed[0] > missed[2] + 0.5 and invented[2] > invented[0] + 0.5
    assert np.ptp(right) == np.ptp(ground) == 0


def test_dark_images_are_shown_brighter_and_say_so():
    dark = np.full((20, 20, 1), 0.02)
    dark[5:9, 5:9] = 0.1  # fluorescence
    shown, title = run_pictures.stretched_if_dark(dark, "a")
    assert shown.max() == pytest.approx(1) and title == "a, contrast stretched"
    shown, title = run_pictures.stretched_if_dark(8 * dark, "a")
    np.testing.assert_array_equal(shown, 8 * dark)
    assert title == "a"
    assert np.isfinite(run_pictures.stretched_if_dark(0 * dark, "black")[0]).all()


def test_scaled_labels_are_those_under_the_middle_of_each_pixel():
    labels = np.arange(81).reshape(9, 9)
    sample = Sample("a", np.zeros((9, 9, 1), np.float32), labels, labels.astype(np.int32))
    np.testing.assert_array_equal(scaling._scaled_sample(sample, 1 / 3).labels, labels[1::3, 1::3])


PREDICT = {
    "scale": "--scale 0.5",
    "threshold": "--threshold 0.51",
    "augment": "--augment",
    "probabilities": "--probabilities uint16",
}
ELSEWHERE = {
    "model",
    "input",
    "output",
    "device",
    "tf32",
    "precision",
    "viz",
    "no_save",
    "help",
}  # test_predict, test_cli, test_cuda_*


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "run"
    trained(folder, out, "--gap", "0", "--labels", "binary")
    return out / "newest.npz"


def predicted(model, folder, out, *more):
    arguments = ["--model", model, "--input", folder / "data" / "images" / "0.png", "--output", out, *more]
    predict.main([str(word) for word in arguments])
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.mark.parametrize("name", PREDICT)
def test_option_of_predict(model, folder, tmp_path, name):
    beside = ["--probabilities", "float32"] if name != "probabilities" else []
    more = PREDICT[name].split()
    assert predicted(model, folder, tmp_path / "without", *beside) != predicted(
        model, folder, tmp_path / "with", *beside, *more
    )


EVALUATE = {"held_out": "--held-out 1", "labels": "--labels binary", "scale": "--scale 0.5", "augment": "--augment"}


@pytest.mark.parametrize("name", EVALUATE)
def test_option_of_evaluate(model, folder, tmp_path, capsys, name):
    def scores(*more):
        arguments = [
            "--model",
            model,
            "--data",
            folder / "data",
            "--held-out",
            "all",
            "--json",
            tmp_path / "s.json",
            *more,
        ]
        evaluate.main([str(word) for word in arguments])
        return json.loads((tmp_path / "s.json").read_text())["per_image"]

    assert scores() != scores(*EVALUATE[name].split())


STYLE = {
    "size": "--size 48",
    "style_size": "--style-size 40",
    "steps": "--steps 1",
    "learning_rate": "--learning-rate 0.01",
    "content_layers": "--content-layers none",
    "style_layers": "--style-layers conv1_1",
    "content_weight": "--content-weight 5",
    "style_weight": "--style-weight 5",
    "variation_weight": "--variation-weight 5",
    "seed": "--seed 3",
    "base_channels": "--base-channels 3",
    "colours": "--colours normalised",
    "up_convolutions": "--up-convolutions",
    "norm": "--norm none",
    "initial_weights": "--initial-weights pytorch",
    "square": "--square",
    "schedule": "--schedule constant",
}
OPTIMIZE = {
    "size": "--size 48",
    "style_size": "--style-size 40",
    "steps": "--steps 1",
    "learning_rate": "--learning-rate 0.1",
    "content_layers": "--content-layers none",
    "style_layers": "--style-layers conv1_1",
    "content_weight": "--content-weight 50",
    "style_weight": "--style-weight 500",
    "variation_weight": "--variation-weight 50",
    "method": "--method lbfgs",
    "start": "--start noise",
    "seed": "--seed 3",
    "sizes": "--sizes 2",
    "strength": "--strength 0.5",
    "keep_colours": "--keep-colours",
}
APPLY = {
    "size": "--size 32",
    "strength": "--strength 0.5",
    "keep_colours": "--keep-colours",
    "tile": "--tile 208",
}
STYLE_ELSEWHERE = {  # test_stylize, test_style_finish, test_style_faithful, test_cuda_style
    "train": {"content", "style", "weights", "out", "resume", "batch", "faithful", "preview_every", "photo_size"},
    "optimize": {"content", "style", "weights", "out", "preview_every"},
    "apply": {"model", "input", "output"},
}


def test_every_option_of_stylize_is_here():
    commands = style_options.parser()._subparsers._group_actions[0].choices
    for name, table in (("train", STYLE), ("optimize", OPTIMIZE), ("apply", APPLY)):
        found = {action.dest for action in commands[name]._actions} - {"help", "device", "tf32", "threads", "precision"}
        assert found == table.keys() | STYLE_ELSEWHERE[name]


@pytest.fixture
def undrawn(monkeypatch):
    """A small VGG; contact sheets and curves are not drawn."""
    from style_helpers import small_vgg

    small_vgg(monkeypatch, dtype="float32")
    monkeypatch.setattr("npunet.style.run.contact_sheet", lambda path, named: None)
    monkeypatch.setattr("npunet.style.run.loss_curves", lambda path, records: None)


def painted(folder, command, out, *more):
    """The folder of a short run."""
    pictures = ["--content", folder / "content.png", "--style", folder / "style.png"]
    stylize.main([str(word) for word in [command, *pictures, "--steps", 2, "--out", out, *more]])
    return out


@pytest.mark.parametrize("name", STYLE)
def test_option_of_stylize_train(folder, tmp_path, undrawn, name):
    def parameters(out, *more):
        run = painted(folder, "train", tmp_path / out, "--size", 32, "--base-channels", 2, *more)
        entries = checkpoint.load(run / "newest.npz")
        return {name: array.tobytes() for name, array in entries.items() if name.startswith("parameter/")}

    assert parameters("without") != parameters("with", *STYLE[name].split())


@pytest.mark.parametrize("name", OPTIMIZE)
def test_option_of_stylize_optimize(folder, tmp_path, undrawn, name):
    beside = ["--start", "noise"] if name == "seed" else []
    beside += ["--style-weight", 3, "--sizes", 1, "--size", 256 if name == "sizes" else 36, "--method", "adam"]

    def picture(out, *more):
        return (painted(folder, "optimize", tmp_path / out, *beside, *more) / "picture.png").read_bytes()

    assert picture("without") != picture("with", *OPTIMIZE[name].split())


@pytest.mark.parametrize("name", APPLY)
def test_option_of_stylize_apply(tmp_path, name):
    """On a picture that needs tiles of 208 pixels; that two of them meet is seen in bits, not by eye."""
    Generator(2, seed=1).save(tmp_path / "model.npz")
    images.write_image(tmp_path / "wide.png", np.random.default_rng(1).random((40, 240, 3)))

    def picture(out, *more):
        words = ["--model", tmp_path / "model.npz", "--input", tmp_path / "wide.png", "--output", tmp_path / out, *more]
        stylize.main(["apply", *map(str, words)])
        return (tmp_path / out / "wide.png").read_bytes()

    assert picture("without") != picture("with", *APPLY[name].split())


def test_the_size_of_photographs_decides_what_squares_show(folder, tmp_path, undrawn):
    (tmp_path / "many").mkdir()
    images.write_image(tmp_path / "many" / "one.png", np.random.default_rng(1).random((60, 90, 3)))

    def parameters(out, *more):
        pictures = ["--content", tmp_path / "many", "--style", folder / "style.png", "--style-size", 40]
        sizes = ["--size", 32, "--base-channels", 2, "--steps", 2]
        stylize.main([str(word) for word in ["train", *pictures, *sizes, "--out", tmp_path / out, *more]])
        entries = checkpoint.load(tmp_path / out / "newest.npz")
        return {name: array.tobytes() for name, array in entries.items() if name.startswith("parameter/")}

    assert parameters("without") != parameters("with", "--photo-size", "64")
