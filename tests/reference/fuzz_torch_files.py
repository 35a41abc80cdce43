"""Damages the reference files in thousands of ways and loads each:
only success or InputError, no code run, bounded memory.

    python tests/reference/fuzz_torch_files.py [number of files] [seed]

A process of its own, because two of its instruments cannot be taken off again: an audit hook, through which CPython
reports every import, file opened for writing and program started, and a limit on the process's memory.
"""

import io
import os
import random
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.files.torch_files import load_tensors

HERE = Path(__file__).parent
MEMORY = 64 << 20  # bytes beyond those in use at the start; the files have less than 8000
INTERESTING = [
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0" * 4,
    b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
    b"\x8a\xff",
    b"cos\nsystem\n",
    b"X\x04\0\0\0true\x85R",
    b"cbuiltins\neval\n",
    b"(",
    b"t",
    b"R",
    b"b",
    b"s",
    b"u",
    b"a",
    b"e",
    b".",
    b"Q",
    b"}",
    b"]",
    b")",
    b"h\x00",
    b"h\x01",
    b"r\xff\xff\xff\xff",
    b"\x81",
    b"\x85",
    b"0",
    b"2",
    b'":[',
    b"1e999",
    b"[" * 2000,
]


VALUES = [
    b"K\xff",
    b"M\xff\xff",
    b"J\xff\xff\xff\xff",
    b"J\xff\xff\xff\x7f",
    b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
    b"\x8a\x09" + b"\x7f" * 9,
    b"G" + bytes(8),
    b"\x88",
    b"N",
    b")",
    b"]",
    b"}",
    b"h\x01",
]  # what may stand in the place of a number


def damaged(data, others, rng):
    """`data` with one to four random injuries."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
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
        elif kind == 5:  # another value for a number of a pickle
            if (place := data.find(b"K", place)) >= 0:
                data[place : place + 2] = rng.choice(VALUES)
        else:  # put in or over it something that means something
            piece = rng.choice(INTERESTING)
            data[place : place + rng.choice((0, len(piece)))] = piece
    return bytes(data)


def rezipped(data, record, content):
    """A zip archive with the content of one record replaced and all its checksums right."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            archive.writestr(zipfile.ZipInfo(name), content if name.endswith(record) else source.read(name))
    return target.getvalue()


def damaged_files(n_files, seed):
    """Yields what to load, and what kind it is: files damaged anywhere, and archives damaged in their pickle only."""
    rng = random.Random(seed)
    originals = {
        path.name: path.read_bytes()
        for path in sorted(HERE.iterdir())
        if path.suffix in (".pth", ".safetensors") and not path.name.startswith("unet_")
    }  # those are for test_pytorch_unet.py
    others = list(originals.values())
    for index in range(n_files):
        name = rng.choice(list(originals))
        data = originals[name]
        if name.endswith("_zip.pth") and index % 4:  # otherwise the checksum would catch most of it
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                program = archive.read(next(record for record in archive.namelist() if record.endswith("data.pkl")))
            yield "pickle in zip", rezipped(data, "data.pkl", damaged(program, others, rng))
        elif name.endswith("_stream.pth"):  # mostly in front, where the pickles are
            yield "stream", damaged(data, others, rng)
        elif name.endswith(".safetensors") and index % 4:
            size = int.from_bytes(data[:8], "little")
            header = damaged(data[8 : 8 + size], others, rng)
            yield "safetensors header", len(header).to_bytes(8, "little") + header + data[8 + size :]
        else:
            yield "any file", damaged(data, others, rng)


class CodeForbidden:
    """While it lasts, whatever a pickle could want to do ends the process:
    imports, programs, connections, other files.
    """

    def __init__(self, folder):
        self.folder, self.armed = str(folder), False
        "".encode("cp437")  # zipfile decodes names with it: imported now, not later
        sys.addaudithook(self.hook)  # stays for ever, hence `armed`

    def __enter__(self):
        self.armed = True

    def __exit__(self, *_):
        self.armed = False

    def hook(self, event, arguments):
        if not self.armed:
            return
        allowed = event == "open" and str(arguments[0]).startswith(self.folder)
        if not allowed and event.startswith(
            (
                "open",
                "import",
                "exec",
                "compile",
                "code.",
                "os.",
                "subprocess.",
                "socket.",
                "pickle.",
                "shutil.",
                "ctypes.",
            )
        ):
            os.write(2, f"FORBIDDEN: {event} {arguments!r}\n".encode())
            os._exit(3)


def limit_memory():
    """Bound this process's address space, where the system can (Linux)."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    except (ImportError, OSError):
        print("memory is not limited on this system")


def check(tensors, extra):
    """A file that loads must give real arrays, each inside the memory of its storage: touch every number."""
    assert isinstance(extra, dict)
    for name, array in tensors.items():
        assert isinstance(name, str) and type(array) is np.ndarray and not array.flags.writeable
        storage, base = array, array.base
        while base is not None and not isinstance(base, bytes):  # from the view back to the storage's own array
            storage, base = (base if isinstance(base, np.ndarray) else storage), base.base
        first, end = np.lib.array_utils.byte_bounds(array)
        storage_first, storage_end = np.lib.array_utils.byte_bounds(storage)
        assert array.size == 0 or storage_first <= first and end <= storage_end, f"{name} looks outside its storage"
        assert array.size <= storage.size, f"{name} has more elements than its storage"
        array.astype(array.dtype).sum()


def main(n_files=4000, seed=0):
    """Load `n_files` damaged files; print how many were refused and how many still load.

    Exits with an error on anything else.
    """
    outcomes = Counter()
    np.seterr(all="ignore")  # damaged weights may be NaN or infinite
    limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        code_forbidden = CodeForbidden(folder)
        for kind, data in damaged_files(n_files, seed):
            path.write_bytes(data)
            try:
                with code_forbidden:
                    tensors, extra = load_tensors(path)
            except InputError as error:
                line = str(error)
                assert (
                    line.startswith(f"{path}: ") and "\n" not in line and len(line) < 600 and "MemoryError" not in line
                ), line
                outcomes[kind, "refused"] += 1
            else:
                check(tensors, extra)
                outcomes[kind, "loaded"] += 1
    print(*(f"{kind}: {count} {what}" for (kind, what), count in sorted(outcomes.items())), sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
