"""What goes wrong, in one line each."""

from __future__ import annotations


class ModelError(ValueError):
    """The model cannot be compiled as given: the message says what is wrong with it and what to do."""


class VerificationError(RuntimeError):
    """The result does not equal the source within tolerance, and no rewrite could be found to blame."""


LONGEST = 1000
"""Characters of a message that are shown."""


def one_line(message: str, longest: int = LONGEST) -> str:
    """A message as a line that a terminal shows as it is: names come from files, and may hold anything."""
    shown = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in message[:longest]
    )
    return shown + "..." * (len(message) > longest)
