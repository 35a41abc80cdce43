"""Grey values: arrays are scaled as files are, and a network says which it does not know (§4, the data)."""

import types

import numpy as np
import pytest
import tifffile

from npunet import InputError, UNet
from npunet.commands import grey_values
from npunet.files import images


def test_a_rule_for_grey_values_that_knows_nothing_holds_zeros():
    assert images.GreyRule().as_dict() == {"by": "file", "low": 0, "high": 0, "least": 0}
    assert images.GreyRule.of_training("training", []).as_dict() == {"by": "training", "low": 0, "high": 0, "least": 0}


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


def test_a_network_file_with_a_strange_grey_rule_is_refused(tmp_path):
    net = UNet(1, 2, 2, 1)
    for rule, words in (({"by": "moon", "low": 0, "high": 1, "least": 0}, "'moon'"), ({"by": "file"}, "no 'low'")):
        net.grey_rule = rule
        net.save(tmp_path / "net.npz")
        with pytest.raises(InputError, match=words):
            UNet.load(tmp_path / "net.npz")
