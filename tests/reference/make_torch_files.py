"""Makes the small PyTorch files beside this script; run it with PyTorch 2.13.0 and safetensors 0.6.2 installed.

    python tests/reference/make_torch_files.py

The files stored in the repository were written by it; tests read them without PyTorch and compare with expected.npz.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent


def main():
    torch.manual_seed(0)
    # A corner of milesial's network as its train.py saves it: the state_dict with mask_values put into it.
    layers = OrderedDict(
        inc=torch.nn.Conv2d(3, 2, 3, bias=False), norm=torch.nn.BatchNorm2d(2), outc=torch.nn.Conv2d(2, 2, 1)
    )
    network = torch.nn.Sequential(layers)
    network(torch.rand(2, 3, 6, 6))  # moves the running statistics
    milesial = network.state_dict()
    milesial["mask_values"] = [0, 255]

    # A checkpoint with every dtype and every way in which a tensor can look into a storage.
    base = torch.rand(4, 5)
    state = OrderedDict(
        half=torch.rand(3).half(),
        bfloat=torch.rand(2, 3).bfloat16(),
        double=torch.rand(3, dtype=torch.float64),
        int32=torch.randint(-9, 9, (3,), dtype=torch.int32),
        int16=torch.randint(-9, 9, (2,), dtype=torch.int16),
        int8=torch.randint(-9, 9, (2,), dtype=torch.int8),
        uint8=torch.randint(0, 9, (2,), dtype=torch.uint8),
        bool=torch.tensor([True, False, True]),
        scalar=torch.tensor(7),
        empty=torch.zeros(0, 3),
        base=base,
        transposed=base.T,
        middle=base[1:3, 2:],
        every_other=base.flatten()[3::2],
        again=base,
        channels_last=torch.rand(1, 2, 2, 3).to(memory_format=torch.channels_last),
        parameter=torch.nn.Parameter(torch.rand(2, 2)),
    )
    optimizer = {"state": {0: {"momentum": torch.rand(3)}}, "lr": [1e-5]}
    checkpoint = {
        "epoch": 5,
        "loss": 0.125,
        "name": "\u00fc-net",
        "sizes": torch.Size([2, 3]),
        "dtype": torch.float16,
        "nothing": None,
        "big": 2**40,
        "device": torch.device("cpu"),
        "state_dict": state,
        "optimizer": optimizer,
    }

    for ending, zipped in (("zip", True), ("stream", False)):
        torch.save(milesial, HERE / f"milesial_{ending}.pth", _use_new_zipfile_serialization=zipped)
        torch.save(checkpoint, HERE / f"checkpoint_{ending}.pth", _use_new_zipfile_serialization=zipped)
    plain = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    save_file(plain, HERE / "checkpoint.safetensors", metadata={"format": "pt"})

    expected = {f"milesial/{name}": value for name, value in milesial.items() if name != "mask_values"}
    expected |= {f"checkpoint/{name}": value.detach() for name, value in state.items()}
    expected["momentum"] = optimizer["state"][0]["momentum"]
    expected["checkpoint/bfloat"] = state["bfloat"].float()  # NumPy has no bfloat16
    np.savez_compressed(HERE / "expected.npz", **{name: value.numpy() for name, value in expected.items()})


if __name__ == "__main__":
    main()
