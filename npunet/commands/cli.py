"""What every command shares: where to compute, and how bad input and Ctrl-C end."""

import sys

from npunet.errors import InputError
from npunet.machine.backend import use_tf32

TF32_HELP = "GPU: matrix products on the tensor cores, with 10 bits of mantissa instead of 23"


def run(main):
    """Call ``main()`` and leave the process: 0, 2 for bad input (one line on stderr), 130 after Ctrl-C."""
    try:
        main()
    except InputError as error:
        sys.exit(_fail(f"error: {error}", 2))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))


def _fail(line, status):
    print(line, file=sys.stderr, flush=True)
    return status


def add_device(parse):
    """The options --device and --tf32."""
    parse.add_argument("--device", choices=["cpu", "gpu", "auto"], default="cpu", help="where to compute (default cpu)")
    parse.add_argument("--tf32", action="store_true", help=TF32_HELP)


def set_tf32(on, asked, device):
    """What --tf32 asks for, before anything is computed on ``device``.

    Raises InputError if --device, ``asked``, is "cpu"; "auto" may become "cpu".
    """
    if on and asked == "cpu":
        raise InputError("--tf32 is about the tensor cores of a GPU; expected --device gpu or auto with it")
    if device == "gpu":
        use_tf32(on)
