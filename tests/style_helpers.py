"""What the tests of npunet.style share: a VGG of few channels, and the real data where it is;
PyTorch's twin is in style_twin.py.
"""

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
    eye.weights = {
        name: (xp.asarray(weight), xp.asarray(0.1 * rng.standard_normal(bias.shape).astype(dtype)))
        for name, (weight, bias) in eye.weights.items()
    }
    return eye


def real_vgg(dtype="float32"):
    if not REAL_WEIGHTS.exists():
        pytest.skip("../shared/data/vgg19 is not there")
    return VGG.load(REAL_WEIGHTS, dtype=dtype)
