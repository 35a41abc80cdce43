"""The network of lesson 1 as the course builds it: names and shapes of its parameters; and an oracle made of loops."""

import numpy as np

from lessons.build import oracles


def layers(base_channels, depth, in_channels=1, n_classes=2):
    """[(name, shape of the weight, is it an up-convolution), ...] in order of use; npunet has the same names."""
    found, channels = [], in_channels

    def two_convolutions(place, outputs):
        nonlocal channels
        for name in ("conv1", "conv2"):
            found.append((f"{place}.{name}", (3, 3, channels, outputs), False))
            channels = outputs

    for level in range(depth):
        two_convolutions(f"contracting.{level}", base_channels * 2**level)
    two_convolutions("bottleneck", base_channels * 2**depth)
    for level in reversed(range(depth)):
        outputs = base_channels * 2**level
        found.append((f"expansive.{level}.up", (2, 2, channels, outputs), True))
        channels = 2 * outputs  # the skip connection brings as many again
        two_convolutions(f"expansive.{level}", outputs)
    return [*found, ("output", (1, 1, channels, n_classes), False)]


def random_parameters(base_channels, depth, rng):
    """Parameters for the checks, biases too, in float64."""
    parameters = {}
    for name, shape, _ in layers(base_channels, depth):
        parameters[f"{name}.weight"] = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:3]))
        parameters[f"{name}.bias"] = 0.3 * rng.standard_normal(shape[3])
    return parameters


FORWARD = {  # what `forward` does wrong on purpose
    "no_relu": "the ReLU after the 3x3 convolutions is missing",
    "no_relu_second": "the ReLU after the second 3x3 convolution of each level is missing",
    "no_relu_first": "the ReLU after the first 3x3 convolution of each level is missing",
    "up_twice": "the upsampled map is joined with itself; the skip of its level belongs there",
    "relu_after_up": "a ReLU after the up-convolution: in Fig. 1 only 3x3 convolutions have one",
    "relu_at_the_end": "a ReLU after the last, 1x1 convolution: the logits may be negative",
    "skip_first": "the skip comes first in the concatenation; the upsampled map should",
    "skip_before": "the skip is taken before the ReLU of its level",
    "skip_after_pool": "the skip is taken after the pooling; the map before it is sent across",
    "skip_first_convolution": "the skip is taken after the first convolution of its level; the second makes it",
}
BACKWARD = {  # what `backward` does wrong on purpose
    "no_skip": "the gradient of the skip connection is missing: a map with two readers gets the sum of both",
    "only_skip": "the gradient that comes through the pooling is missing: a map with two readers gets the sum of both",
    "no_relu": "the ReLUs are missing on the way back",
    "no_relu_second": "the ReLU after the second convolution of each level is missing on the way back",
    "no_relu_first": "the ReLU after the first convolution of each level is missing on the way back",
    "past_relu": "dx goes back past the ReLU: what goes on to the convolution's input is the gradient behind the ReLU",
    "relu_at_the_end": "a ReLU on the way back through the last, 1x1 convolution, which has none",
    "skip_twice": "the gradient of the skip is added twice",
}


def forward(x, parameters, depth, mistake=None):
    """logits, and what `backward` needs."""
    kept, skips = {}, []

    def convolution(x, name, relu=True):
        y = oracles.conv2d(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
        relu = relu and mistake != "no_relu" and not (mistake == "no_relu_second" and name.endswith("conv2"))
        relu = relu and not (mistake == "no_relu_first" and name.endswith("conv1"))
        kept[name] = x, y, relu
        return np.maximum(y, 0) if kept[name][2] else y

    for level in range(depth):
        x = convolution(x, f"contracting.{level}.conv1")
        x = convolution(x, f"contracting.{level}.conv2")
        before = {"skip_before": kept[f"contracting.{level}.conv2"][1]}
        before["skip_first_convolution"] = kept[f"contracting.{level}.conv2"][0]
        before["skip_after_pool"] = oracles.max_pool(x)[0] if mistake == "skip_after_pool" else x
        skips.append(before.get(mistake, x))
        x = oracles.max_pool(x)[0]
    x = convolution(x, "bottleneck.conv1")
    x = convolution(x, "bottleneck.conv2")
    for level in reversed(range(depth)):
        name = f"expansive.{level}.up"
        kept[name] = x
        x = oracles.up_conv(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
        x = np.maximum(x, 0) if mistake == "relu_after_up" else x
        channels = x.shape[3]
        x = oracles.crop_concat(x, x if mistake == "up_twice" else skips[level])
        if mistake == "skip_first":
            x = np.concatenate([x[..., channels:], x[..., :channels]], axis=3)
        x = convolution(x, f"expansive.{level}.conv1")
        x = convolution(x, f"expansive.{level}.conv2")
    kept["skips"] = skips
    return convolution(x, "output", relu=mistake == "relu_at_the_end"), kept


def backward(dlogits, parameters, depth, kept, mistake=None):
    """{name: gradient}; the chain rule through the loops above."""
    gradients = {}

    def convolution(dy, name):
        x, y, relu = kept[name]
        before = dy
        relu = relu and mistake != "no_relu" and not (mistake == "no_relu_second" and name.endswith("conv2"))
        relu = relu and not (mistake == "no_relu_first" and name.endswith("conv1"))
        if relu or (mistake == "relu_at_the_end" and name == "output"):
            dy = dy * (y > 0)
        weight = parameters[f"{name}.weight"]
        dx, gradients[f"{name}.weight"], gradients[f"{name}.bias"] = oracles.conv2d_gradients(dy, x, weight)
        if mistake == "past_relu":
            dx = oracles.conv2d_gradients(before, x, weight)[0]
        return dx

    dskips, dx = {}, convolution(dlogits, "output")
    for level in range(depth):
        dx = convolution(convolution(dx, f"expansive.{level}.conv2"), f"expansive.{level}.conv1")
        name, skip = f"expansive.{level}.up", kept["skips"][level]
        dx, dskips[level] = oracles.crop_concat_gradients(dx, dx.shape[3] // 2, skip.shape)
        dx, gradients[f"{name}.weight"], gradients[f"{name}.bias"] = oracles.up_conv_gradients(
            dx, kept[name], parameters[f"{name}.weight"]
        )
    dx = convolution(convolution(dx, "bottleneck.conv2"), "bottleneck.conv1")
    for level in reversed(range(depth)):
        dx = oracles.max_pool_gradient(dx, kept["skips"][level])
        dskip = dskips[level]
        dx = {"no_skip": dx, "only_skip": dskip, "skip_twice": dx + 2 * dskip}.get(mistake, dx + dskip)
        dx = convolution(convolution(dx, f"contracting.{level}.conv2"), f"contracting.{level}.conv1")
    return gradients
