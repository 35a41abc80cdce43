"""What belongs to a network before it has any weights: its images, its drop-out, the memory that it asks for."""

import numpy as np
import pytest

from npunet import InputError, UNet, variants
from npunet.machine import backend
from npunet.variants import check_images


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


@pytest.mark.parametrize(
    "variant, rates",
    [("paper", [0, 0, 0, 0.25]), ("padded", [0, 0, 0, 0.25]), ("release", [0, 0, 0.25, 0.25])]
    + [(name, [0, 0, 0, 0]) for name in ("pytorch-unet", "style", "painter")],
)
def test_where_features_are_dropped(variant, rates):
    net = UNet(1, 2, 1, 3, variant=variant, dropout=0.25)
    assert [layer.rate for layer in net.dropouts] == rates


@pytest.mark.parametrize(
    "x, what",
    [
        ([[1.0]], "a list"),
        (np.zeros((1, 30, 30, 1), complex), "an array of complex128"),
        (np.ma.zeros((1, 30, 30, 1)), "a masked array, whose masked pixels have no values"),
    ],
)
def test_an_input_that_is_no_array_of_numbers_is_called_what_it_is(x, what):
    with pytest.raises(InputError, match=f"^the input is {what}; expected an array of real numbers"):
        check_images(x, 1)


def test_an_image_needs_no_more_than_to_fit():
    for dtype in ("float32", "uint8", "int64", bool):
        check_images(np.zeros((1, 1, 1, 2), dtype), 2)
    for shape in ((0, 30, 30, 2), (1, 30, 30, 1), (30, 30, 2), (1, 1, 30, 30, 2)):
        with pytest.raises(InputError, match="expected \\(N, H, W, 2\\), N at least 1"):
            check_images(np.zeros(shape), 2)


def test_weights_that_just_fit_into_memory(monkeypatch):
    """30 for each pair of the 64 channels of the bottleneck, 9 x 1 x 8 in the first layer and 8 x 2 in the last."""
    options, size = dict(in_channels=1, n_classes=2, base_channels=8, depth=3), 4 * (30 * 64**2 + 9 * 8 + 8 * 2)
    monkeypatch.setattr(variants, "free_memory", lambda device: size)
    UNet(**options)
    monkeypatch.setattr(variants, "free_memory", lambda device: size - 1)
    with pytest.raises(InputError, match="weights of about 0.000492 GB"):
        UNet(**options)


@pytest.mark.parametrize(
    "x, words",
    [
        (np.zeros((1, 44, 44, 1), complex), "an array of complex128"),
        (np.zeros((1, 44, 44, 1), object), "an array of object"),
        (np.zeros((1, 44, 44, 1), str), "an array of <U1"),
        (np.ma.zeros((1, 44, 44, 1), np.float32), "a masked array"),
        ([[[[1.0]]]], "a list"),
        (None, "a NoneType"),
        (np.zeros((0, 44, 44, 1), np.float32), r"N at least 1"),
        (np.zeros((44, 44, 1), np.float32), r"expected \(N, H, W, 1\)"),
    ],
)
def test_what_is_no_array_of_images_is_refused(x, words):
    with pytest.raises(InputError, match=words):
        UNet(1, 2, 2, 1).forward(x)


def test_flags_are_true_or_false():
    for name, variant in (("recompute", "paper"), ("bilinear", "pytorch-unet")):
        with pytest.raises(InputError, match=f"{name} is 'no'; expected True or False"):
            UNet(1, 2, 2, 1, variant=variant, **{name: "no"})
    assert UNet(1, 2, 2, 1, recompute=np.True_).recompute is True


@pytest.mark.parametrize("arguments", [dict(base_channels=100_000), dict(depth=20), dict(depth=500)])
def test_a_network_larger_than_the_memory_is_refused_before_a_weight_is_drawn(arguments):
    if backend.free_memory("cpu") is None:
        pytest.skip("this system does not tell how much memory is free")
    with pytest.raises(InputError, match="weights of about .* GB, but .* are free; give fewer base channels"):
        UNet(**arguments)


@pytest.mark.parametrize(
    "options",
    [
        dict(variant="u-net"),
        dict(dropout=1.0),
        dict(dropout=-0.1),
        dict(depth=0),
        dict(base_channels=0),
        dict(in_channels=-1),
        dict(n_classes=0),
        dict(dtype="float16"),
        dict(dtype="int32"),
        dict(base_channels=2.5),
        dict(depth="4"),
        dict(device="tpu"),
    ],
)
def test_options_that_do_not_exist_are_refused(options):
    with pytest.raises(InputError) as error:
        UNet(**{"base_channels": 2} | options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "option, message",
    [
        ({"seed": -1}, "seed is -1; expected an integer, at least 0"),
        ({"seed": "a"}, "seed is 'a'; expected an integer"),
        ({"seed": 1.5}, "seed is 1.5; expected an integer"),
        ({"depth": True}, "depth is True; expected an integer"),
        ({"dropout": "x"}, "dropout is 'x'; expected a finite number"),
        ({"dropout": None}, "dropout is None; expected a finite number"),
        ({"variant": ["paper"]}, r"variant \['paper'\] is not known"),
        ({"input_mean": "x"}, "input_mean is 'x'; expected a finite number"),
        ({"input_mean": np.zeros(3)}, "input_mean is array.* expected a finite number"),
        ({"input_std": 0}, "input_std is 0; expected a number above 0"),
        ({"n_classes": 10**12}, "weights of about .* GB, but .* are free"),
        ({"in_channels": 10**12}, "weights of about .* GB, but .* are free"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_before_anything_is_allocated(option, message):
    with pytest.raises(InputError, match=message):
        UNet(**option)
