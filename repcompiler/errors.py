"""What goes wrong, in one line each."""

from __future__ import annotations


class ModelError(ValueError):
    """The model cannot be compiled as given: the message says what is wrong with it and what to do."""


class VerificationError(RuntimeError):
    """The result does not equal the source within tolerance, and no rewrite could be found to blame."""
