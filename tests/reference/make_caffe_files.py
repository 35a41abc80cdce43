"""Makes the small .caffemodel files beside this script; run it with protobuf and opencv-python-headless < 5 installed.

    PYTHONPATH=tests python tests/reference/make_caffe_files.py

Their layers and names are those of u-net-release, their weights are random: nothing of the release is in them. The
bytes come from Google's encoder, the expected outputs from OpenCV's Caffe importer (caffe_expected.npz).
"""

from pathlib import Path

import caffe_file_builders as builders
import numpy as np

HERE = Path(__file__).parent
FILES = {  # name: (network, layers as in 2014, height and width of the input)
    "release_2014": (dict(in_channels=1, n_classes=2, base=2, depth=2), True, (44, 52)),
    "release_today": (dict(in_channels=3, n_classes=3, base=1, depth=2), False, (48, 44)),
    "release_tiny": (dict(in_channels=1, n_classes=2, base=1, depth=1), True, (20, 22)),
}


def main():
    expected = {}
    for name, (network, old, size) in FILES.items():
        layers = builders.release_layers(**network)
        data = builders.caffemodel(layers, builders.weights_of(layers), old)
        (HERE / f"{name}.caffemodel").write_bytes(data)
        x = np.random.default_rng(1).random((1, *size, network["in_channels"]), dtype=np.float32)
        expected |= {f"{name} x": x, f"{name} y": builders.opencv_output(layers, data, x)}
    np.savez_compressed(HERE / "caffe_expected.npz", **expected)


if __name__ == "__main__":
    main()
