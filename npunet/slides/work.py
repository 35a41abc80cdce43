"""The folder of a run over a slide: what is finished in it, and who does what.

Every finished piece of work has a file of its own, written whole. A run that is started again with the same model,
input and options does what has no file yet; with others, it begins anew.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from npunet.commands.cli import progress_bar
from npunet.files.whole_file import reserved, write_json, written_whole
from npunet.machine import ranks


class Work:
    """The folder, for all processes of a run. path: beside the results, hidden."""

    def __init__(self, path: Path):
        self.path, self.goes_on = path, False

    @contextlib.contextmanager
    def begun(self, plan: dict) -> Iterator["Work"]:
        """Within, the folder is this run's; `goes_on` says whether an earlier one left something. Removed at the end.

        plan: all that the results depend on. Raises InputError if another run is at work in it.
        """
        with contextlib.ExitStack() as held:
            if ranks.rank() == 0:
                held.enter_context(reserved(self.path, "--output", "on this slide"))
                self.goes_on = self._read_plan() == json.loads(json.dumps(plan))
                if not self.goes_on:
                    for entry in self.path.iterdir():
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                    write_json(self.path / "plan.json", plan)
            self.goes_on = ranks.from_first(self.goes_on)
            yield self
            ranks.barrier()
            if ranks.rank() == 0:
                shutil.rmtree(self.path)

    def _read_plan(self):
        try:
            return json.loads((self.path / "plan.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def file(self, stage: str, index: int) -> Path:
        return self.path / f"{stage}-{index:06d}.npz"

    def load(self, stage: str, index: int, *names: str) -> dict:
        """The arrays of these names that `share` has kept of a piece of work."""
        with np.load(self.file(stage, index), allow_pickle=False) as kept:
            return {name: kept[name] for name in names}

    def share(self, stage: str, pieces: list, task: Callable, what: str) -> None:
        """Do all pieces of a stage that are not finished, each by one of the processes, and wait for the others.

        task(piece) -> a dict of arrays to be kept. Each piece has an .index. what: for the bar, of rank 0.
        """
        claims, names = self.path / f"claims-{stage}", None
        if ranks.rank() == 0:
            names = {entry.name for entry in os.scandir(self.path)}
            if claims.exists():  # of a run that was killed
                shutil.rmtree(claims)
            claims.mkdir()
        names = ranks.from_first(names)
        waiting = [piece for piece in pieces if self.file(stage, piece.index).name not in names]
        done = len(pieces) - len(waiting)
        bar = dict(total=len(pieces), initial=done, desc=what, unit="block", disable=ranks.rank() > 0)
        with progress_bar(**bar) as shown:
            for piece in (piece for piece in waiting if _claimed(claims / str(piece.index))):
                kept = task(piece)
                with written_whole(self.file(stage, piece.index)) as temporary:
                    np.savez_compressed(temporary, **kept)
                shown.update(min(ranks.size(), len(pieces) - shown.n))  # the others are as fast
            ranks.barrier()
            shown.update(len(pieces) - shown.n)


def _claimed(path):
    """Whether this process is the first to ask. So a fast process, or one with easy pieces, takes more of them."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
