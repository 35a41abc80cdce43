"""One line of what is wrong with data or with a run, for a person; see `findings` and `npunet.doctor`."""

from dataclasses import dataclass

HIGH, MIDDLE, LOW = 3, 2, 1  # severity: scores or masks are wrong; likely wrong; worth a look


@dataclass(frozen=True)
class Finding:
    """One line for a person. kind: a word for tests and programs."""

    kind: str
    text: str
    severity: int = MIDDLE

    def __str__(self):
        return self.text


def named(names, most=4):
    """A list of names for a line."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
