"""The exception for what a user can put right: bad files, bad sizes, bad options, a missing GPU."""


class InputError(ValueError):
    """Bad input. Its message is one line: what was found, what was expected, what to do.

    Commands print it as `error: ...` and leave with exit status 2 (see `npunet.commands.cli`).
    """


class NoDevice(InputError):
    """The device that was asked for cannot be used. No file is to blame, whatever was being built from it."""
