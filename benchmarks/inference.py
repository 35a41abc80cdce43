"""One forward pass of the paper's network beside other programs, in turns, each in its own process.

    python -m benchmarks.inference [--tiles 572,188] [--rounds 5] [--base-channels 64] [--peers npunet,PyTorch] [--out
    inference]

Batch 1, float32, nothing kept for a backward pass. See side_by_side.py for how it is measured.
"""

from benchmarks.side_by_side import run
from npunet.commands import cli

if __name__ == "__main__":
    cli.run(lambda: run("infer", __doc__.splitlines()[0], "inference"))
