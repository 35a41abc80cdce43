"""One training step of the paper's network beside other programs, in turns, each in its own process.

    python -m benchmarks.train_step [--tiles 572,188] [--rounds 5] [--base-channels 64] [--peers npunet,PyTorch] [--out
    train_step]

Batch 1, float32, SGD with momentum 0.99, dropout at the end of the contracting path. See side_by_side.py for how it is
measured.
"""

from benchmarks.side_by_side import run
from npunet.commands import cli

if __name__ == "__main__":
    cli.run(lambda: run("train", __doc__.splitlines()[0], "train_step"))
