"""Why a rewrite did not happen: a refusal carries its reason to the user."""

from __future__ import annotations

from typing import NoReturn


class Refusal(Exception):
    """A rewrite's answer that it would not be exact here.  `str()` of it is the reason, in one line."""


def refuse(reason: str) -> NoReturn:
    """Leave the block as it is; `--explain` prints the reason."""
    raise Refusal(reason)
