"""Makes weights files byte by byte for the tests of npunet.files.torch_files, and checks how bad ones are refused."""

import pickle
import zipfile

import numpy as np
import pytest

from npunet.errors import InputError
from npunet.files.torch_files import load_tensors

STREAM_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)


def zipped(path, records):
    """A zip archive as torch.save lays it out, with the given records."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"archive/{name}", content)
    return path


def tensor(shape=(2,), strides=(1,), offset=0, n_elements=2, storage_class="FloatStorage", key="0"):
    """Instructions that push a tensor, written down independently of npunet with `pickle.dumps` of its parts."""

    def push(value):
        return pickle.dumps(value, 2)[2:-1]  # without frame: PROTO 2 ... STOP

    identity = (
        b"("
        + push("storage")
        + f"ctorch\n{storage_class}\n".encode()
        + push(key)
        + push("cpu")
        + push(n_elements)
        + b"tQ"
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + identity
        + push(offset)
        + push(shape)
        + push(strides)
        + push(False)
        + b"ccollections\nOrderedDict\n)RtR"
    )


def program(value):
    """The pickle of {"w": value}."""
    return b"\x80\x02}X\x01\x00\x00\x00w" + value + b"s."


def weights_file(path, value, data=np.float32([1, 2]).tobytes(), **records):
    return zipped(path / "w.pth", {"data.pkl": program(value), "data/0": data, **records})


def refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        load_tensors(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < 600


def refused_bytes(path, data, message):
    path.write_bytes(data)
    refused(path, message)
