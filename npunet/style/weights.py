"""Where VGG's weights come from: torchvision's published files, fetched when asked for.

torchvision puts the first eight hexadecimal digits of a file's SHA-256 into its name, and its own loader checks those;
so does this. The weights were trained on ImageNet by torchvision's authors; the networks are those of Simonyan and
Zisserman 2015, arXiv 1409.1556. Only the convolutions are used here, 80 of VGG19's 575 MB.
"""

import os
from pathlib import Path

from npunet.errors import InputError
from npunet.files.download import download

ADDRESS = "https://download.pytorch.org/models/"
FILES = {"vgg19": "vgg19-dcbb9e9d.pth", "vgg16": "vgg16-397923af.pth"}  # about 575 and 553 MB


def fetch(kind, folder, address=ADDRESS):
    """Download the weights of "vgg19" or "vgg16" into a folder, whole or not at all;
    a broken download goes on where it stopped.

    Returns the path. Raises InputError if the server or the check sum says no.
    """
    path = Path(folder) / FILES[kind]
    if path.exists():
        return path
    promised = path.stem.partition("-")[2]
    unchecked = path.with_name(f"{path.name}.unchecked")
    found = download(address + path.name, unchecked)
    if not found.startswith(promised):
        unchecked.unlink()
        raise InputError(
            f"{address}{path.name}: SHA-256 {found}, expected one that begins with {promised}; damaged on the way or "
            "changed at its source, nothing was kept"
        )
    os.replace(unchecked, path)
    return path
