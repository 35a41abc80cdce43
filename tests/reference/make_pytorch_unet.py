"""Writes unet_{transposed,bilinear}.{pth,npz}:
small networks of milesial/Pytorch-UNet's structure and what PyTorch computes with them.

Run once, with PyTorch installed, from the project's folder:  python tests/reference/make_pytorch_unet.py
"""

import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from test_pytorch_unet import channels_first, channels_last, pair  # noqa: E402

for kind in ("transposed", "bilinear"):
    theirs, _ = pair(3, 2, kind == "bilinear", base=2, seed=7)
    torch.save(theirs.state_dict() | {"mask_values": [0, 255]}, HERE / f"unet_{kind}.pth")
    rng = np.random.default_rng(1)
    x, cotangent = (
        rng.uniform(0, 1, (2, 35, 38, 3)).astype("float32"),
        rng.standard_normal((2, 35, 38, 2)).astype("float32"),
    )
    image = channels_first(x).requires_grad_()
    results = {"image": x, "cotangent": cotangent, "applied": channels_last(theirs.eval()(image))}
    logits = theirs.train()(image)
    (logits * channels_first(cotangent)).sum().backward()
    results |= {"trained": channels_last(logits), "image.grad": channels_last(image.grad)}
    results |= {f"{name}.grad": parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    np.savez_compressed(HERE / f"unet_{kind}.npz", **results)
