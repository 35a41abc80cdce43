"""Fetch a public data set once, whole or not at all: progress, resume, checksum (the data of §4 are not ours to copy).

While a file is on its way it is called NAME.part; a broken download goes on from there, in the same run or the next.
Only a complete file with the right checksum gets its name, and only a wholly unpacked archive becomes a data set.
"""

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

from tqdm import tqdm

from npunet.errors import InputError

ATTEMPTS, PAUSE, TIMEOUT = 4, 1.0, 60  # tries, seconds before the second one (then doubled), seconds without a byte
BLOCK = 1 << 18


def download(url, path, sha256=None):
    """Fetch url into the file path and return its SHA-256.

    If `sha256` is given, another content is refused and removed.

    Raises InputError if the server has no such file, the connection breaks too often, or the checksum differs.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for attempt in range(ATTEMPTS):
        try:
            _fetch_rest(url, part)
            break
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            if attempt + 1 == ATTEMPTS:
                have = part.stat().st_size if part.exists() else 0
                raise InputError(
                    f"{url}: the download broke off at {have} bytes ({error}); run it again to go on from there"
                ) from error
            time.sleep(PAUSE * 2**attempt)
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and found != sha256:
        part.unlink()
        raise InputError(
            f"{url}: SHA-256 {found}, expected {sha256}; damaged on the way or changed at its source, nothing was kept"
        )
    os.replace(part, path)
    return found


def _fetch_rest(url, part):
    """Append to `part` what it lacks. Raises OSError where trying again may help, InputError where it cannot."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "npunet"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # no byte at `start`: all is here, or the file is another now
            if error.headers.get("Content-Range", "").endswith(f"/{start}"):
                return
            part.unlink()
            raise OSError("the file has become shorter at its source") from error
        if error.code < 500:
            raise InputError(
                f"{url}: the server answers {error.code} {error.reason}; the address may have changed"
            ) from error
        raise
    with response:
        if response.status != 206:  # a server that cannot resume sends all of it
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, leave=False) as bar,
        ):
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"only {part.stat().st_size} of {total} bytes arrived")


def fetch(source, root):
    """Download and unpack a `npunet.datasets.named.Source` into root/NAME, with a note of where it came from.

    Raises InputError.
    """
    folder, archive = Path(root) / source.name, Path(root) / f"{source.name}.zip"
    if source.url is None:
        raise InputError(
            f"{source.name} has no direct address; get it from {source.page} and put {source.by_hand} into {folder}"
        )
    if folder.exists():
        raise InputError(
            f"{folder} is there but is no complete {source.name}; move it away, or put {source.by_hand} into it"
        )
    try:
        found = download(source.url, archive, source.sha256)
    except InputError as error:
        raise InputError(f"{error} (by hand: {source.page}, put {source.by_hand} into {folder})") from error
    unpacking = folder.with_name(f".{source.name}.unpacking")
    shutil.rmtree(unpacking, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(unpacking)  # checks the CRC of each file, and keeps them inside the folder
        (unpacking / "SOURCE.txt").write_text(f"{source.about()}\nSHA-256 of the archive: {found}\n", encoding="utf-8")
        os.replace(unpacking, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(
            f"{source.url}: not a sound zip archive ({error}); nothing was kept, try again later"
        ) from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)
        archive.unlink(missing_ok=True)
    return folder
