"""Style transfer as a user of PyTorch writes it, with our weights:
the twin that tests and benchmarks/style_step.py compare with.
"""

import torch
from torch.nn import functional

CHAIN = {
    "vgg19": "11 12 P 21 22 P 31 32 33 34 P 41 42 43 44 P 51 52 53 54",
    "vgg16": "11 12 P 21 22 P 31 32 33 P 41 42 43 P 51 52 53",
}


def normalised(picture):
    mean, std = (
        torch.tensor(values, dtype=picture.dtype).view(1, 3, 1, 1)
        for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    return (picture - mean) / std


def gram(features):
    n, channels, height, width = features.shape
    flat = features.reshape(n, channels, height * width)
    return flat @ flat.transpose(1, 2) / (channels * height * width)


def torch_features(eye, form=torch.contiguous_format):
    """A function (picture (N, 3, H, W) in 0..1, layers) -> {layer: (N, C, h, w)}."""
    weights = {
        name: (torch.tensor(weight).permute(3, 2, 0, 1).contiguous(memory_format=form), torch.tensor(bias))
        for name, (weight, bias) in eye.weights.items()
    }

    def features(picture, layers):
        x, found = normalised(picture), {}
        for name in CHAIN[eye.kind].split():
            if name == "P":
                x = functional.max_pool2d(x, 2)
                continue
            layer = f"conv{name[0]}_{name[1]}"
            x = functional.relu(functional.conv2d(x, *weights[layer], padding=1))
            if layer in layers:
                found[layer] = x
            if len(found) == len(set(layers)):
                return found

    return features


def torch_losses(eye, features, picture, content, style, content_layers, style_layers, style_weight):
    """The weighted content and style losses;
    content and style are pictures like `picture`, features is from `torch_features`.
    """
    layers = [*content_layers, *style_layers]
    found, wanted, painted = (features(one, layers) for one in (picture, content, style))
    content_loss = sum(((found[name] - wanted[name].detach()) / eye.unit).square().mean() for name in content_layers)
    style_loss = sum(
        (gram(found[name] / eye.unit) - gram(painted[name].detach() / eye.unit)).square().mean()
        for name in style_layers
    )
    return content_loss, style_weight * style_loss


def torch_generator(generator, form=torch.contiguous_format):
    """The generator with the same weights:
    a function of pictures (N, 3, H, W) in 0..1, and its parameters by our names.
    """

    def tensor(name):
        value = torch.tensor(generator.net.parameters[name].value)
        if value.ndim == 4:
            value = value.permute((2, 3, 0, 1) if ".up." in name else (3, 2, 0, 1)).contiguous(memory_format=form)
        return value.clone().requires_grad_()

    parameters = {name: tensor(name) for name in generator.net.parameters}

    def double(x, place):
        for name in ("conv1", "conv2"):
            weight, bias = (parameters.get(f"{place}.{name}.{what}") for what in ("weight", "bias"))
            x = functional.conv2d(x, weight, bias, padding=1)
            norm = f"{place}.{name.replace('conv', 'norm')}"
            if f"{norm}.scale" in parameters:
                scale, shift = parameters[f"{norm}.scale"], parameters[f"{norm}.shift"]
                x = functional.instance_norm(x, weight=scale, bias=shift)
            x = functional.relu(x)
        return x

    def network(x):
        skips = []
        for level in range(4):
            x = double(x, f"contracting.{level}")
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = double(x, "bottleneck")
        for level in (3, 2, 1, 0):
            if generator.net.bilinear:
                x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            else:
                x = functional.conv_transpose2d(
                    x, parameters[f"expansive.{level}.up.weight"], parameters[f"expansive.{level}.up.bias"], stride=2
                )
            x = double(torch.cat([x, skips.pop()], dim=1), f"expansive.{level}")
        return torch.tanh(functional.conv2d(x, parameters["output.weight"], parameters["output.bias"]))

    def paint(content):
        y = network(normalised(content))
        if generator.colours == "full":
            return 0.5 + 0.5 * y
        mean, std = (
            torch.tensor(values, dtype=y.dtype).view(1, 3, 1, 1)
            for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        )
        return mean + std * y

    return paint, parameters
