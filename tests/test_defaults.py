"""What a command asks for and what it takes for granted: options that are needed, and defaults."""

import dataclasses
import importlib
import inspect as introspection
import pkgutil

import pytest

import npunet
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
OF_GENERATOR = """style_weight None |
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


USUAL = """alpha 0.99 | augment False | base_channels 64 | batch 1 | best -1.0 | beta1 0.9 | beta2 0.999 | bias True |
    bilinear False | channels 64 | choose True | classes 2 | clip 0.0 | colours False | content_weight 1.0 |
    decimals 4 | depth 4 | dropout 0.5 | dropout_levels 0 | durable False | each 1 | elastic 10.0 | eps 1e-05 |
    factor 1.0 | fewest 1 | fixed False | gain 1.0 | gamma 1.0 | grey 0.1 | high inf | in_channels 1 | input_mean 0.0 |
    input_std 1.0 | instance_norm True | keep_colours False | label False | last_up_keeps_channels False | least 0.0 |
    left 0 | lines False | low 0 | may_be_bilinear False | min_size 0 | mirror False | momentum 0.99 | more 1 |
    multiple 1 | n_classes 2 | n_sections 12 | need_dx True | negative_slope 0.0 | offset 0.0 | open_high False |
    open_low False | padding 0 | pads_upsampled False | page 0 | patience 5 | quick False | reach 1.0 |
    recompute False | relu True | relu_after_up False | rotation 180.0 | rtol 1e-06 | scale 1.0 | seed 0 |
    seed_threshold 0.5 | settle True | severity 2 | shift True | sigma 5.0 | size 512 | softmax False | square False |
    start 0 | strength 1.0 | style_weight 3000000.0 | symmetries True | tanh False | taps 3 | threshold 0.5 | tile 572 |
    tiles 0 | top 0 | train False | train_memory True | variation_weight 0.0 | view False | w0 10.0 | w_c 1.0 |
    wait True | waited 0 | warmup 20 | weight_decay 0.0 | whole True | width 1"""
OTHERWISE = """style.generator.Generator base_channels 32 | style.generator.Generator bilinear True |
    training.Recipe clip 1.0 | files.torch_files.reading._Resolver.resolve depth 0 |
    files.torch_files.writing._encode depth 0 | optimizers.RMSprop eps 1e-08 | optimizers.Adam eps 1e-08 |
    files.images.GreyRule high 0.0 | files.images.GreyRule low 0.0 | files.schema.Number low -inf |
    files.schema.Number whole False | instances.cutting.Cutting min_size 1 |
    instances.cutting.ClassComponents min_size 1 | augmentation.Settings mirror True |
    optimizers.RMSprop momentum 0.0 | metrics.counting.touching_cells reach 2 | layers.UpConvolution relu False |
    ops.batch_norm.batch_norm relu False | ops.convolution.conv2d relu False |
    ops.instance_norm.instance_norm relu False | instances.watershed.seeded_watershed seed_threshold 0.8 |
    training.Plateau.report threshold 0.0001 | style.generator.Generator.paint tile 1024 |
    profile.measure train True | style.vgg.VGG.forward train True"""


def functions_of(module):
    """The functions of a module, and the methods of its classes."""
    for thing in vars(module).values():
        if getattr(thing, "__module__", "") == module.__name__:
            parts = [getattr(thing, name) for name in vars(thing)] if introspection.isclass(thing) else [thing]
            yield from (part for part in parts if introspection.isfunction(part) or introspection.ismethod(part))


def arguments_with_a_default():
    """("room.module.function", argument, default) of all of npunet but gpu/."""
    for found in pkgutil.walk_packages(npunet.__path__, "npunet."):
        if not found.name.startswith("npunet.gpu"):
            for function in functions_of(importlib.import_module(found.name)):
                name = f"{found.name[7:]}.{function.__qualname__}".removesuffix(".__init__")
                for argument in introspection.signature(function).parameters.values():
                    yield name, argument.name, argument.default


def test_the_same_argument_has_the_same_default_everywhere():
    """Whoever calls depth, padding or tile by no value gets the paper's. Exceptions are named."""
    usual = dict(part.split() for part in USUAL.split("|"))
    otherwise = {tuple(part.split()[:2]): part.split()[2] for part in OTHERWISE.split("|")}
    seen = set()
    for function, argument, default in arguments_with_a_default():
        expected = otherwise.get((function, argument), usual.get(argument))
        if expected and isinstance(default, (bool, int, float)):
            assert str(default) == expected, f"{function}({argument}={default})"
            seen |= {(function, argument), argument}
    assert seen >= usual.keys() | otherwise.keys()


CHANGEABLE = (
    "Plateau CaffeLayer Sample Dataset Box Outcome Objective Found Joined".split()
)  # these are filled step by step


def test_records_cannot_be_changed():
    """Shared by several owners, or keys of a dict: only the few that somebody fills may be written to."""
    seen = set()
    for module in pkgutil.walk_packages(npunet.__path__, "npunet."):
        if module.name.endswith("__main__"):
            continue
        for name, item in vars(importlib.import_module(module.name)).items():
            if isinstance(item, type) and dataclasses.is_dataclass(item) and item.__module__ == module.name:
                seen.add(item)
                assert item.__dataclass_params__.frozen == (name not in CHANGEABLE), name
    assert len(seen) > 30 and {item.__name__ for item in seen} >= set(CHANGEABLE)
