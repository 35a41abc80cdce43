"""What every command shares: how bad input and Ctrl-C end."""

import sys

from npunet.errors import InputError


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
