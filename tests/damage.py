"""Damaged files for tests/torture.py: each is used, or refused with one line; nothing else happens."""

import io
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import zipfile
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from npunet import UNet
from npunet.commands.beside_a_model import training_config
from npunet.commands.run_folder import OF_TRAINING, RunFolder
from npunet.errors import InputError
from npunet.files import images, schema
from npunet.optimizers import Adam

BATCH, HANG, MOST = 500, 10, 1000  # files of one fork; seconds of its processor; megabytes
RUNS_CODE = {
    "exec", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class",
    "ctypes.dlopen", "socket.connect", "marshal.loads",
}  # fmt: skip
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.symlink", "os.link"}
NUMBERS = b"-1", b"0", b"1e308", b"NaN", b"99999999999999999999", b"true", b'"x"', b"[]", b"{}", b"3000", b"0.5"


def damaged(content, rng):
    """The bytes with one to four of them changed, a part cut out or put in twice, a number replaced, or no end.

    Half of the archives and PNGs are damaged inside, with check sums that fit.
    """
    if content[:2] == b"PK" and rng.random() < 0.5:
        return damaged_archive(content, rng)
    if content[:4] == b"\x89PNG" and rng.random() < 0.5:
        return damaged_png(content, rng)
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, kind = rng.randrange(len(content)), rng.randrange(5)
        if kind == 0:
            content[at] = rng.randrange(256)
        elif kind == 1:
            del content[at : at + rng.randrange(1, 50)]
        elif kind == 2:
            content[at:at] = content[at : at + rng.randrange(1, 50)]
        elif kind == 3 and (numbers := list(re.finditer(rb"-?\d[\d.e+-]*", content[: 2**14]))):
            found = rng.choice(numbers)
            content[found.start() : found.end()] = rng.choice(NUMBERS)
        elif kind == 4:
            del content[max(1, at) :]
        if not content:
            return b"x"
    return bytes(content)


def damaged_archive(content, rng):
    """A zip archive in which one member is damaged, taken away, or has another name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at, packed = rng.randrange(len(members)), io.BytesIO()
    name, inside = members.pop(at)
    if rng.random() < 0.8:
        members.insert(at, (name, damaged(inside, rng) if inside else b"?"))
    elif rng.random() < 0.5:
        members.insert(at, (name[: rng.randrange(len(name))] + "x", inside))
    with zipfile.ZipFile(packed, "w") as archive:
        for name, inside in members:
            archive.writestr(name, inside)
    return packed.getvalue()


def damaged_png(content, rng):
    """A PNG in which one chunk is damaged, with the check sum of what it holds."""
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4])
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += size + 12
    chosen = rng.choice(chunks)
    if chosen[1]:
        chosen[1] = damaged(chosen[1], rng)
    parts = [
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held)) for kind, held in chunks
    ]
    return content[:8] + b"".join(parts)


def healthy(place, run):
    """{name of a file: (its bytes, what uses it)}: the files of a run, pictures, and other programs' networks."""
    pixels = np.random.default_rng(0).integers(0, 4000, (40, 56)).astype(np.uint16)
    tifffile.imwrite(place / "plain.tif", np.stack([pixels, pixels[::-1]]))
    tifffile.imwrite(place / "tiled.tif", pixels, tile=(16, 16), compression="zlib")
    Image.fromarray((pixels >> 4).astype(np.uint8)).save(place / "image.png")
    Image.fromarray((pixels >> 4).astype(np.uint8)).save(place / "image.jpg")
    Image.fromarray((pixels > 2000).astype(np.uint8) * 255).save(place / "mask.png")
    other = UNet(1, 2, 2, 1, variant="pytorch-unet")
    other.save(place / "other.pth")
    other.save(place / "other.safetensors")
    for name in ("best.npz", "newest.npz", "config.json", "metrics.jsonl"):
        (place / name).write_bytes((run / name).read_bytes())
    losses = b'{"step": 1, "total": 2.5, "content": 1.5, "style": 1.0, "seconds": 0.1}\n'
    (place / "losses.jsonl").write_bytes(5 * losses)
    uses = {
        "best.npz": UNet.load,
        "newest.npz": resumed,
        "config.json": configured,
        "metrics.jsonl": lambda path: schema.read_lines(path, schema.RECORD),
        "losses.jsonl": lambda path: schema.read_lines(path, schema.STYLE_RECORD),
        "mask.png": images.read_labels,
        "other.pth": UNet.load,
        "other.safetensors": UNet.load,
    } | dict.fromkeys(("image.png", "image.jpg", "plain.tif", "tiled.tif"), images.read_image)
    return {name: ((place / name).read_bytes(), use) for name, use in uses.items()}


def resumed(path):
    net = UNet(1, 2, 2, 1, **{name: UNet.load(path).config[name] for name in ("input_mean", "input_std")})
    folder = RunFolder(path.parent)
    folder.restore(folder.newest(net.config), net, Adam(net.parameters, 1e-3))


def configured(path):
    RunFolder.reopen(path.parent, OF_TRAINING)
    training_config(path)


def files(root, run, count, seed, kinds=()):
    """{kind: [used, refused]} over `count` damaged files of each kind. AssertionError if anything else happens.

    kinds: names of `healthy`'s files; without any, all of them.
    """
    place, found = root / "damaged", {}
    place.mkdir()
    for name, (content, use) in healthy(place, run).items():
        if kinds and name not in kinds:
            continue
        use(place / name)  # what is whole is used
        found[name] = [0, 0]
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            used, refused = in_a_fork(place / name, content, use, [f"{seed} {name} {number}" for number in numbers])
            found[name][0] += used
            found[name][1] += refused
        print(f"{name}: {found[name][0]} used, {found[name][1]} refused", file=sys.stderr, flush=True)
        (place / name).write_bytes(content)
    return found


def in_a_fork(path, content, use, seeds):
    """How many of these damaged files are used, and refused. Raises AssertionError with the seed of a bad one."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the decoders of TIFF write there
        try:
            os.write(write, one_batch(path, content, use, seeds, write).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code or not said.startswith("ok"):
        why = f"ended by signal {-code}{', it took too long' if code == -signal.SIGPROF else ''}" if code else said
        raise AssertionError(f"{path.name}: {why}{kept(path)}")
    return [int(word) for word in said.split()[1:]]


def kept(path):
    """Words that say where a copy of the file lies, for the folder of `path` is removed when the program ends."""
    if not path.exists():
        return ""
    copy = Path(tempfile.mkdtemp(prefix="npunet-damaged-")) / path.name
    shutil.copyfile(path, copy)
    return f"; the file is kept as {copy}"


def is_import():
    """Whether the code that is being run is a module: Pillow imports its decoders when it first needs them."""
    frame = sys._getframe(2)
    while frame and "importlib" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


def one_batch(path, content, use, seeds, answer):
    """In the fork: "ok used refused", or what went wrong."""
    events, used = [], 0

    def listen(event, arguments):
        if event in RUNS_CODE and not is_import():
            events.append(event)
        elif event in CHANGES or event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            where = arguments[0]
            if isinstance(where, (str, bytes, os.PathLike)) and not os.fsdecode(where).startswith(str(path.parent)):
                events.append(f"{event} {where}")

    sys.addaudithook(listen)
    for seed in seeds:
        path.write_bytes(damaged(content, random.Random(seed)))
        events.clear()
        signal.setitimer(signal.ITIMER_PROF, HANG)  # whose signal ends the process
        try:
            use(path)
            used += 1
        except InputError as error:
            if "\n" in str(error):
                return f"{seed}: an error of several lines: {error}"
        except BaseException:
            return f"{seed}: {traceback.format_exc()}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if events:
            return f"{seed}: {events}"
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if most > MOST:
            return f"{seed}: {most:.0f} MB"
    return f"ok {used} {len(seeds) - used}"
