"""What belongs to a network before it has any weights: its images, its drop-out, the memory that it asks for."""

import numpy as np
import pytest

from npunet import InputError, UNet, variants
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
