"""What the tests of npunet.style share: a VGG of few channels, the real data where it is, and PyTorch's twins."""

from pathlib import Path

import numpy as np
import pytest

from npunet.style import VGG, vgg

SHARED = Path(__file__).parents[2] / "shared" / "data"
REAL_WEIGHTS = SHARED / "vgg19" / "vgg19_features_to_conv4_4.pth"


def small_vgg(monkeypatch, kind="vgg19", dtype="float64", seed=0, xp=np):
    """A VGG whose blocks have 2, 3, 4, 5 and 5 channels: the same chain, small enough for finite differences."""
    monkeypatch.setattr(vgg, "CHANNELS", (2, 3, 4, 5, 5))
    eye = VGG.random(kind, seed, dtype=dtype)
    rng = np.random.default_rng(seed)
    eye.weights = {name: (xp.asarray(weight), xp.asarray(0.1 * rng.standard_normal(bias.shape).astype(dtype)))
                   for name, (weight, bias) in eye.weights.items()}
    return eye


def real_vgg(dtype="float32"):
    if not REAL_WEIGHTS.exists():
        pytest.skip("../shared/data/vgg19 is not there")
    return VGG.load(REAL_WEIGHTS, dtype=dtype)


def torch_features(eye, picture, layers):
    """The same features by PyTorch: picture (N, 3, H, W) tensor in 0..1 -> {layer: tensor (N, C, h, w)}."""
    import torch
    from torch.nn import functional

    x = (picture - torch.tensor([0.485, 0.456, 0.406], dtype=picture.dtype).view(1, 3, 1, 1)) \
        / torch.tensor([0.229, 0.224, 0.225], dtype=picture.dtype).view(1, 3, 1, 1)
    features = {}
    for name in {"vgg19": "11 12 P 21 22 P 31 32 33 34 P 41 42 43 44 P 51 52 53 54", "vgg16": "11 12 P 21 22 P 31 32 33 P 41 42 43 P 51 52 53"}[eye.kind].split():
        if name == "P":
            x = functional.max_pool2d(x, 2)
            continue
        weight, bias = eye.weights[f"conv{name[0]}_{name[1]}"]
        x = functional.relu(functional.conv2d(x, torch.tensor(weight).permute(3, 2, 0, 1), torch.tensor(bias), padding=1))
        features[f"conv{name[0]}_{name[1]}"] = x
        if len(features.keys() & set(layers)) == len(layers):
            return {layer: features[layer] for layer in layers}


def torch_losses(eye, picture, content, style, content_layers, style_layers, style_weight):
    """The weighted content and style losses as a user of PyTorch writes them; content and style are tensors like picture."""
    def gram(features):
        n, channels, height, width = features.shape
        flat = features.reshape(n, channels, height * width)
        return flat @ flat.transpose(1, 2) / (channels * height * width)

    layers = [*content_layers, *style_layers]
    found, wanted, painted = (torch_features(eye, one, layers) for one in (picture, content, style))
    unit = eye.unit
    content_loss = sum(((found[name] - wanted[name].detach()) / unit).square().mean() for name in content_layers)
    style_loss = sum((gram(found[name] / unit) - gram(painted[name].detach() / unit)).square().mean() for name in style_layers)
    return content_loss, style_weight * style_loss
