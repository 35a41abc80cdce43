"""Damages the .caffemodel files here in thousands of ways and loads each as a network:
only success or InputError, no code run, bounded memory.

    python tests/reference/fuzz_caffe_files.py [number of files] [seed]

A process of its own, like fuzz_torch_files.py, whose instruments it uses.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from fuzz_torch_files import CodeForbidden, limit_memory

from npunet import UNet
from npunet.errors import InputError

HERE = Path(__file__).parent
INTERESTING = [
    b"\xff" * 9 + b"\x01",  # the largest integer
    b"\xff" * 12,  # one without an end
    b"\x80\x80\x80\x80\x08",  # 2^31
    b"\x00",
    b"\x7f",
    b"\x0a\x05",  # a field of text
    b"\x12\xff\xff\xff\x7f",  # a layer of 2^28 bytes
    b"\xa2\x06\x00",  # an empty layer of today
    b"\x3a\x00",
    b"\x32\x00",
    b"\x2a\x04\x00\x00\x80\x7f",  # numbers: infinity
    b"\x2d\x00\x00\xc0\x7f",  # one number by itself: NaN
    b"\x3a\x08\x0a\x06\x01\x02\x01\x01\x03\x03",
    b"\xf2\x01\x05\x0d\xcd\xcc\xcc\x3d",  # relu_param { negative_slope: 0.1 }
    b"\x52\x02\x18\x01",  # convolution_param { pad: 1 }
    b"\x0b",
    b"conv_d0a-b",
    b"conv_d0b-c",
    b"upconv_d9c_u8a",
    b"conv_u0d-score",
]


class NoCode(CodeForbidden):
    """Allows beside the file itself only what npunet asks the system for the free memory."""

    def hook(self, event, arguments):
        if event != "open" or str(arguments[0]) != "/proc/meminfo":
            super().hook(event, arguments)


def damaged(data, others, rng):
    """`data` with one to four random injuries."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0 and data:  # flip a bit
            data[place % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:  # change a byte
            data[place % len(data)] = rng.randrange(256)
        elif kind == 2 and rng.random() < 0.3:  # cut short
            del data[place:]
        elif kind == 3:  # remove a piece
            del data[place : place + rng.randrange(1, 40)]
        elif kind == 4:  # splice in a piece of another file
            other = rng.choice(others)
            start = rng.randrange(len(other))
            data[place : place + rng.choice((0, 20))] = other[start : start + rng.randrange(1, 60)]
        elif kind == 5 and len(data) > 1:  # another size for a layer, blob or side: behind a key
            keys = [index for index, byte in enumerate(data[:-1]) if byte in b"\x08\x10\x18\x20\x2a\x32\x12\x3a\x22"]
            data[rng.choice(keys) + 1 if keys else 0] = rng.choice((0, 1, 2, 3, 4, 64, 127, 128, 255))
        elif kind == 6:  # another letter of a name
            if (place := data.find(rng.choice((b"conv_", b"-", b"_u", b"_d")), place)) >= 0:
                data[place + rng.randrange(2)] = rng.randrange(32, 127)
        else:  # put in or over it something that means something
            piece = rng.choice(INTERESTING)
            data[place : place + rng.choice((0, len(piece)))] = piece
    return bytes(data)


def main(n_files=5000, seed=0):
    """Load `n_files` damaged files; print how many were refused and how many still load. Exits on anything else."""
    originals = {path.stem: path.read_bytes() for path in sorted(HERE.glob("*.caffemodel"))}
    others, outcomes, rng = list(originals.values()), Counter(), random.Random(seed)
    np.seterr(all="ignore")  # damaged weights may be NaN or infinite
    for path in HERE.glob("*.caffemodel"):
        UNet.load(path)  # whatever is imported at the first use is imported now
    limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.caffemodel"
        code_forbidden = NoCode(folder)
        for _ in range(n_files):
            name = rng.choice([*originals, "release_tiny"])  # the one with most names and sizes among its bytes
            path.write_bytes(damaged(originals[name], others, rng))
            try:
                with code_forbidden:
                    net = UNet.load(path)
            except InputError as error:
                line = str(error)
                assert line.startswith(str(path)) and "\n" not in line and len(line) < 1200, line
                outcomes[name, "refused"] += 1
            else:
                assert all(type(parameter.value) is np.ndarray for parameter in net.parameters.values())
                outcomes[name, "loaded"] += 1
    print(*(f"{name}: {count} {what}" for (name, what), count in sorted(outcomes.items())), sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
