"""Why a rewrite did not happen, and why what is left is left: a refusal carries its reason to the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

Ground = Literal["exactness", "cost", "fan-out"]
"""It would not be exact; it would not pay; something else reads what would go."""

WRONG = "its own check failed"
"""How the reason of a rewrite begins that is wrong: a mistake in a pass."""
SHOWN = 3
"""Names given where there may be many."""


class Refusal(Exception):
    """A rewrite's answer that it will not happen here.  `str()` of it is the reason, in one line."""

    def __init__(self, reason: str, ground: Ground = "exactness") -> None:
        super().__init__(reason)
        self.ground = ground


def refuse(reason: str, ground: Ground = "exactness") -> NoReturn:
    """Leave the block as it is; `--explain` prints the reason."""
    raise Refusal(reason, ground)


@dataclass(frozen=True)
class Declined:
    """One rewrite that matched and was refused."""

    rule: str
    root: str
    reason: str
    ground: Ground = "exactness"
    spanned: tuple[str, ...] = field(default=(), compare=False)
    """The values whose operations would have gone, the root first: of refusals that are alike, those of the nearest."""

    @property
    def is_mistake(self) -> bool:
        """Whether the rewrite was wrong."""
        return self.reason.startswith(WRONG)


@dataclass(frozen=True)
class Remaining:
    """A linear operation that stays although linear ones are next to it, or that is not understood at all."""

    value: str
    op: str
    after: tuple[tuple[str, str], ...]
    """(value, operation) of each linear operation it reads; several where it joins branches."""
    reason: str
    rule: str = ""
    """The rule that refused, if one did."""

    @property
    def kind(self) -> tuple[str, ...]:
        """What is the same of lines that say the same of many blocks: operations, and the reason without names and numbers."""
        ops = dict.fromkeys(op.split()[0] for op in (self.op, *sorted(op for _, op in self.after)))
        return *ops, re.sub(r"'[^']*'(, )?|[\d.]+(e-?\d+)?", "", self.reason)

    def __str__(self) -> str:
        after = listed([f"'{value}' ({op})" for value, op in self.after])
        return f"'{self.value}' ({self.op}){' after ' if after else ''}{after}: {self.reason}"


def listed(items: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
