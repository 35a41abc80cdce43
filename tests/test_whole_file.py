"""Files appear whole or not at all, and what killed runs left is removed (npunet/files/whole_file.py)."""

import os
import subprocess
import sys

from npunet import UNet
from npunet.commands.run_folder import RunFolder
from npunet.files import whole_file


def test_what_killed_runs_left_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine, gone = (tmp_path / f".loss.{whole_file._MACHINE}-{n}-0.part.png" for n in (os.getpid(), dead.pid))
    other = tmp_path / ".notes.part.png"
    for path in (mine, gone, other):
        path.write_text("half")
    with RunFolder(tmp_path).reserved():
        assert mine.exists() and other.exists() and not gone.exists()


def test_where_no_process_can_be_asked_only_ones_own_files_stay(tmp_path, monkeypatch):
    """CPython for WebAssembly has no os.kill."""
    own, other = (
        tmp_path / f".newest.{whole_file._MACHINE}-{process}-123456.part.npz"
        for process in (os.getpid(), os.getpid() + 1)
    )
    own.touch(), other.touch()
    monkeypatch.delattr(os, "kill")
    UNet(base_channels=2, depth=1).save(tmp_path / "newest.npz")
    assert own.exists() and not other.exists()
    UNet.load(tmp_path / "newest.npz")
