"""What a run of the rewriter did, and what it left, in the user's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from repcompiler.certificate import Certificate
from repcompiler.refusal import Declined, Remaining


@dataclass(frozen=True)
class Step:
    """One rewrite that happened, in the user's names."""

    rule: str
    root: str
    removed: tuple[tuple[str, str], ...]
    """(value name, operation) of each node that went."""
    added: tuple[tuple[str, str], ...]
    saved: float
    """How much the cost fell, in units of the objective."""
    parameters: tuple[int, int] = (0, 0)
    """Before and after, as `macs`."""
    macs: tuple[int, int] = (0, 0)
    """Of the operations that went, and of those that came; what several rewrites at once share is counted for the first."""
    activations: tuple[int, int] = (0, 0)
    """Bytes that values take at once while these operations run (`repcompiler.liveness`)."""
    label: str = ""
    """The root as people know it."""
    certificate: Certificate | None = field(default=None, compare=False)
    """What its own check has shown (`repcompiler.certificate`)."""


@dataclass
class Log:
    """What a run of the rewriter did, and what it left and why."""

    steps: list[Step] = field(default_factory=list)
    declined: list[Declined] = field(default_factory=list)
    remaining: list[Remaining] = field(default_factory=list)
    renamed: Mapping[str, str] = field(default_factory=dict)
    """What the result calls the values that it calls otherwise."""
