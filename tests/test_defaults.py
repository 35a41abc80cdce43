"""What a command asks for and what it takes for granted: options that are needed, and defaults."""

import pytest

from npunet import evaluate, predict, stylize
from npunet.commands import train_options
from npunet.doctor import __main__ as doctor
from npunet.export import __main__ as export
from npunet.inspect import __main__ as inspect
from npunet.style import options as style_options


@pytest.mark.parametrize(
    "command, given, missing",
    [
        (export.main, "--output x.onnx", "--model"),
        (export.main, "--model x.npz", "--output"),
        (stylize.main, "", "train | apply | optimize | download"),
        (stylize.main, "apply --input x.png --output out", "--model"),
        (stylize.main, "apply --model x.npz --output out", "--input"),
        (stylize.main, "apply --model x.npz --input x.png", "--output"),
        (evaluate.main, "--data synthetic", "--model"),
        (evaluate.main, "--model x.npz", "--data"),
        (predict.main, "--input x.png --output out", "--model"),
        (predict.main, "--model x.npz --output out", "--input"),
        (inspect.main, "", "DATA"),
        (doctor.main, "", "RUN"),
    ],
)
def test_an_option_that_is_needed_is_asked_for(command, given, missing, capsys):
    with pytest.raises(SystemExit) as ended:
        command(given.split())
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.splitlines()[-1].endswith(f"the following arguments are required: {missing}")


OF_TRAINING = """data synthetic | out runs/unet | labels auto | held_out None | base_channels 64 | depth 4 | variant
    paper | dropout 0.5 | device cpu | threads None | evaluate_every None | bilinear False | classes
    None | scale 1.0 | normalise file | load None | epochs None | recompute False | tf32 False |
    precision float32 | graph False | minutes None | gap None | head mask | patience None | steps 1000 |
    tile 572 | batch 1 | learning_rate 0.001 | momentum 0.99 | warmup 20 | clip 1.0 | optimizer adam |
    weight_decay 0.0 | loss cross-entropy | schedule cosine | seed 0 | rotation 180.0 | mirror True |
    elastic 10.0 | grey 0.1 | w0 None | sigma 5.0 | class_balance False"""
OF_STYLE = """content None | style None | weights None | out runs/style | style_size None | content_layers conv4_2 |
    style_layers conv1_1,conv2_1,conv3_1,conv4_1 | content_weight 1.0 | variation_weight 0.0 |
    preview_every None | seed 0 | device cpu | tf32 False | threads None | """
OF_GENERATOR = """style_weight 2000.0 |
    size 256 | square False | base_channels 32 | colours full | up_convolutions False | norm instance |
    initial_weights gaussian | schedule cosine | steps 500 | learning_rate 0.001 | batch 1 | photo_size None |
    faithful False"""
OF_OPTIMIZE = """style_weight 3000000.0 |
    size 512 | sizes 2 | steps 200 | learning_rate 0.02 | method lbfgs | start content | strength 1.0 |
    keep_colours False"""


@pytest.mark.parametrize(
    "defaults, promised",
    [
        (train_options.DEFAULTS, OF_TRAINING),
        (style_options.DEFAULTS["train"], OF_STYLE + OF_GENERATOR),
        (style_options.DEFAULTS["optimize"], OF_STYLE + OF_OPTIMIZE),
    ],
)
def test_who_says_nothing_gets_the_defaults_of_this_table(defaults, promised):
    """A default that changes makes other figures of an old command, so whoever changes one says it here, too."""
    assert {name: str(value) for name, value in defaults.items()} == dict(part.split() for part in promised.split("|"))


def test_defaults_of_commands_on_finished_networks():
    asked = predict.parser().parse_args("--model x --input y".split())
    assert (asked.threshold, asked.device, asked.probabilities, asked.format) == (0.5, "cpu", "none", "auto")
    asked = style_options.parser().parse_args("apply --model x --input y --output z".split())
    assert (asked.tile, asked.strength, asked.device, asked.size) == (1024, 1.0, "cpu", None)
    asked = doctor.parser().parse_args(["run"])
    assert (asked.by_heart, asked.checkpoint) == (30, "best.npz")
