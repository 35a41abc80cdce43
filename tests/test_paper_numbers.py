"""The numbers that the paper states, each checked on the real program (Ronneberger, Fischer, Brox 2015, arXiv
1505.04597).
"""

import inspect

import numpy as np
import pytest

from npunet import UNet, geometry
from npunet.experiments.recipes import EXPERIMENTS
from npunet.initialization import standard_deviation
from npunet.layers import Convolution, UpConvolution
from npunet.optimizers import SGD
from npunet.weight_map import weight_map

# Fig. 1, box by box, from the image to the segmentation map: layer, side, channels as drawn.
BOXES = [
    ("contracting.0.conv1", 570, 64),
    ("contracting.0.conv2", 568, 64),
    ("contracting.0.pool", 284, 64),
    ("contracting.1.conv1", 282, 128),
    ("contracting.1.conv2", 280, 128),
    ("contracting.1.pool", 140, 128),
    ("contracting.2.conv1", 138, 256),
    ("contracting.2.conv2", 136, 256),
    ("contracting.2.pool", 68, 256),
    ("contracting.3.conv1", 66, 512),
    ("contracting.3.conv2", 64, 512),
    ("contracting.3.pool", 32, 512),
    ("bottleneck.conv1", 30, 1024),
    ("bottleneck.conv2", 28, 1024),
    ("expansive.3.concat", 56, 1024),
    ("expansive.3.conv1", 54, 512),
    ("expansive.3.conv2", 52, 512),
    ("expansive.2.concat", 104, 512),
    ("expansive.2.conv1", 102, 256),
    ("expansive.2.conv2", 100, 256),
    ("expansive.1.concat", 200, 256),
    ("expansive.1.conv1", 198, 128),
    ("expansive.1.conv2", 196, 128),
    ("expansive.0.concat", 392, 128),
    ("expansive.0.conv1", 390, 64),
    ("expansive.0.conv2", 388, 64),
    ("output", 388, 2),
]


@pytest.fixture(scope="module")
def boxes():
    """Shapes of all feature maps of a 572 tile in a network that is Fig.

    1 with one channel for every 32 (2 for 64, 32 for 1024).
    """
    maps = UNet(base_channels=2).feature_maps(np.zeros((1, 572, 572, 1), "float32"))
    return {name: feature_map.shape for name, feature_map in maps.items()}


@pytest.fixture(scope="module")
def full_network():
    return UNet()


@pytest.mark.parametrize("name, side, channels", BOXES)
def test_every_box_of_figure_1(boxes, name, side, channels):
    assert boxes[name] == (1, side, side, channels if name == "output" else channels // 32)


def test_figure_1_has_no_box_more(boxes):
    drawn = {name for name, _, _ in BOXES}
    # an up-convolution fills half of the box "concat"
    assert {name for name in boxes if not name.endswith((".up", ".dropout"))} == drawn


def test_channels_of_every_layer_in_full(full_network):
    """64, 128, 256, 512, 1024: the width of the boxes in the real network, read from its weights."""
    for name, _, channels in BOXES:
        layer = full_network.layers[name]
        if isinstance(layer, Convolution):
            assert layer.weight.value.shape[3] == channels, name


def test_23_convolutional_layers(full_network):
    """Section 2: "In total the network has 23 convolutional layers":
    18 of 3x3, 4 up-convolutions of 2x2, one of 1x1.
    """
    shapes = [
        layer.weight.value.shape[:2]
        for layer in full_network.layers.values()
        if isinstance(layer, (Convolution, UpConvolution))
    ]
    assert len(shapes) == 23
    assert (shapes.count((3, 3)), shapes.count((2, 2)), shapes.count((1, 1))) == (18, 4, 1)
    assert shapes[-1] == (1, 1)


def test_pooling_doubles_and_up_convolution_halves_the_channels(full_network):
    """Section 2: "At each downsampling step we double the number of feature channels", and upwards the reverse."""
    layers = full_network.layers
    for level in range(1, 4):
        _, _, before, after = layers[f"contracting.{level}.conv1"].weight.value.shape
        assert after == 2 * before
    for level in range(4):
        assert layers[f"expansive.{level}.up"].weight.value.shape == (2, 2, 128 * 2**level, 64 * 2**level)
    assert layers["output"].weight.value.shape == (1, 1, 64, 2)  # "each 64-component feature vector" to the classes


def test_convolutions_are_unpadded_and_followed_by_relu(full_network):
    convolutions = {name: layer for name, layer in full_network.layers.items() if isinstance(layer, Convolution)}
    assert all(layer.padding == 0 and layer.relu == (name != "output") for name, layer in convolutions.items())
    assert not any(layer.relu for layer in full_network.layers.values() if isinstance(layer, UpConvolution))


@pytest.mark.parametrize("variant, count", [("paper", 31_030_658), ("release", 31_100_354)])
def test_number_of_parameters(variant, count, full_network):
    """Not printed in the paper, but follows from Fig. 1, and from the network that the authors published."""
    net = full_network if variant == "paper" else UNet(variant=variant)
    assert net.n_parameters == count == sum(parameter.value.size for parameter in net.parameters.values())


def test_572_in_388_out():
    assert geometry.output_size(572) == 388
    assert geometry.border_lost() == 184


def test_valid_sizes():
    """Section 2: pooling only on even sizes. That holds for n = 12 mod 16, from 188 on (188 -> 4)."""
    assert [n for n in range(1, 1200) if geometry.is_valid_size(n)] == [n for n in range(188, 1200) if n % 16 == 12]
    assert geometry.output_size(188) == 4


def test_pooling_meets_even_sizes_only(boxes):
    for level in range(4):
        _, height, width, _ = boxes[f"contracting.{level}.conv2"]
        assert height % 2 == width % 2 == 0
        assert boxes[f"contracting.{level}.pool"][1:3] == (height // 2, width // 2)


def test_crops_of_the_skip_connections(boxes):
    """The dashed boxes of Fig. 1: 568 -> 392, 280 -> 200, 136 -> 104, 64 -> 56."""
    assert [(boxes[f"contracting.{level}.conv2"][1], boxes[f"expansive.{level}.concat"][1]) for level in range(4)] == [
        (568, 392),
        (280, 200),
        (136, 104),
        (64, 56),
    ]


def test_initial_standard_deviation(full_network):
    """Section 3: N = 9 * 64 = 576 for a 3x3 convolution over 64 channels; sqrt(2 / N) = 0.059."""
    assert round(standard_deviation(9 * 64), 3) == 0.059
    assert round(float(full_network.parameters["contracting.0.conv2.weight"].value.std()), 3) == 0.059


def test_momentum():
    """Section 3: "we use a high momentum (0.99)"."""
    assert inspect.signature(SGD).parameters["momentum"].default == 0.99
    assert SGD({}, 1e-3).momentum == 0.99


def test_weight_map_constants():
    """Section 3: "we set w0 = 10 and sigma ~ 5 pixels"."""
    parameters = inspect.signature(weight_map).parameters
    assert (parameters["w0"].default, parameters["sigma"].default) == (10, 5)


def test_dropout_at_the_end_of_the_contracting_path(full_network):
    """Section 3.1: "Drop-out layers at the end of the contracting path";
    the rate of 0.5 is that of the authors' network.
    """
    assert [dropout.rate for dropout in full_network.dropouts] == [0, 0, 0, 0, 0.5]
    assert [dropout.rate for dropout in UNet(base_channels=1, variant="release").dropouts] == [0, 0, 0, 0.5, 0.5]


def test_figures_beside_ours_are_the_papers():
    """§4, Tables 1 and 2; V_rand and V_info are those of the challenge's later ranking."""
    figures = {name: {one.score: one.paper for one in of.figures if one.paper} for name, of in EXPERIMENTS.items()}
    assert figures["isbi2012"] == {
        "warping_error": 0.000353, "rand_error": 0.0382, "pixel_error": 0.0611, "v_rand": 0.9728, "v_info": 0.9866,
    }  # fmt: skip
    assert figures["phase_contrast"] == {"seg": 0.9203}
