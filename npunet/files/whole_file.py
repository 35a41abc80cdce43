"""Files that are there whole or not at all: written under a temporary name, then renamed.

A crash, a full disk or Ctrl-C leaves the file that was there before as it was. A killed process cannot remove its
temporary file; its name holds machine and process, and `clean_up` removes those of processes that are gone.
"""

import contextlib
import itertools
import json
import math
import os
import platform
import re
import zlib
from pathlib import Path

from npunet.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: folders are not locked there
    fcntl = None

_numbers = itertools.count()
_MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
_TEMPORARY = re.compile(rf"^\..*\.{_MACHINE}-(\d+)-\d+\.part(\.[^.]*)?$", re.DOTALL)


@contextlib.contextmanager
def written_whole(path, durable=False):
    """A temporary name beside `path` that becomes `path` at the end of the block, or vanishes if the block fails.

    durable: content and new name have reached the disk when the block ends. Raises OSError as the system does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix tells Pillow the format. A long name is shortened, for its temporary name must not be too long.
    temporary = path.with_name(f".{path.stem[:40]}.{_MACHINE}-{os.getpid()}-{next(_numbers)}.part{path.suffix}")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
        if durable:
            _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):  # it is gone already if it was renamed
            temporary.unlink()


@contextlib.contextmanager
def reserved(path, option, what="in this folder"):
    """Within, the folder is there and no other run may work in it: the system's lock on the folder itself.

    What killed runs left half written is removed first. option: that of the command which names the folder. Raises
    InputError if another run has the lock, or the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        opened = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"{option} {path}: the folder cannot be made ({error.strerror}); give one that can be written"
        ) from None
    try:
        if fcntl is not None and not _locked(opened):
            raise InputError(f"{path}: another run is at work {what}; wait for its end, or give another {option}")
        clean_up(path)
        yield
    finally:
        os.close(opened)  # which gives the lock back


def _locked(opened):
    """Whether the lock on an open folder could be had; a file system without locks has none to give."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _sync(path):
    """Wait until a file or a folder is on the disk; systems that cannot open a folder are let off."""
    try:
        opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextlib.contextmanager
def atomic_write(path):
    """`with atomic_write(path) as file`: `written_whole` and durable, for one binary file.

    Raises InputError if the file cannot be written, or its folder is not there.
    """
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        reason = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InputError(f"{path} could not be written: {reason}; give the name of a file in a folder that is there")
    clean_up(path.parent)
    try:
        with written_whole(path, durable=True) as temporary, open(temporary, "wb") as file:
            yield file
            file.flush()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} could not be written: {reason}; check the folder and the space left") from None


def write_text(path, text):
    """Write a text file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write JSON, whole or not at all; numbers that do not exist (NaN, infinity) become null."""
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value):
    """The same value for JSON: numbers that are NaN or infinite, wherever they are in it, become None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def clean_up(folder):
    """Remove the temporary files in `folder` whose process is gone; they were left behind by a kill."""
    for path in Path(folder).glob(".*"):
        found = _TEMPORARY.match(path.name)
        if found and not _is_running(int(found[1])):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_running(process):
    if not hasattr(os, "kill"):  # WebAssembly, where there is one process
        return process == os.getpid()
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True
