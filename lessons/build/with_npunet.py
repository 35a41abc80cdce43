"""The two ends of the training that need npunet, each in a process of its own: the reader's code cannot see it there.

python -m lessons.build.with_npunet sections FILE     lesson 1's four sections, drawn by npunet
python -m lessons.build.with_npunet judge FOLDER      the reader's weights in npunet's network; a picture
"""

import sys
from pathlib import Path

import numpy as np

BASE_CHANNELS, DEPTH, TILE = 8, 3, 204  # lesson 1's network


def sections(file):
    """Images (4, 256, 256, 1), labels, instances and w_c of lesson 1; the last section is the one to be examined on."""
    from npunet import datasets
    from npunet.weight_map import class_balance

    samples = datasets.synthetic(n_sections=4, size=256, seed=0).samples
    np.savez(
        file,
        images=np.stack([sample.image for sample in samples]),
        labels=np.stack([sample.labels for sample in samples]),
        instances=np.stack([sample.instances for sample in samples]),
        class_weights=class_balance([sample.labels for sample in samples[:3]], n_classes=2),
    )


def judge(folder):
    """npunet's network with the reader's weights says the same? Also prediction.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from npunet import UNet

    trained = np.load(folder / "trained.npz")
    net = UNet(1, 2, base_channels=BASE_CHANNELS, depth=DEPTH, dropout=0.0)
    for name, parameter in net.parameters.items():
        parameter.value = np.ascontiguousarray(trained[name])
    difference = np.abs(net.forward(trained["tile"]) - trained["logits"]).max() / np.abs(trained["logits"]).max()
    print(f"npunet's own network with your weights: the same logits, largest relative difference {difference:.0e}")
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6))
    pictures = {"a section it has never seen": trained["image"][..., 0], "truth": trained["labels"]}
    pictures |= {"before training": trained["before"][..., 1], "your U-Net": trained["probabilities"][..., 1]}
    for ax, (title, picture) in zip(axes, pictures.items()):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
        ax.set_title(title)
        ax.set_axis_off()
    figure.savefig(folder / "prediction.png", dpi=110, bbox_inches="tight")
    return 0 if difference < 1e-3 else 1


if __name__ == "__main__":
    task, path = sys.argv[1], Path(sys.argv[2])
    sys.exit(sections(path) if task == "sections" else judge(path))
