"""What the tests that start `mpiexec` share: the program, the environment of the ranks, and who they are."""

import os
import shutil
import sys
from pathlib import Path

MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def ranks_of(module, out):
    """Process numbers of the Python processes that run this module, such as npunet.train, for this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out).encode() in words and module.encode() in words and not words[0].endswith(b"mpiexec"):
            found.append(int(path.parent.name))
    return sorted(found)
