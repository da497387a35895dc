"""A certificate for one rewrite: the block before and after, compared coefficient by coefficient.

An affine map is determined by what it makes of nothing and of a basis.  Both blocks are run on these in float64, by what their
operations mean (`repcompiler.meaning`, which shares no code with the algebra), and with them their magnitudes: a sum of n
rounded terms is off by no more than n eps times the sum of their magnitudes, so each coefficient comes with a bound of its
error (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.5).  Within these bounds the verdict is proved:

    exact               the coefficients are the same numbers
    correctly rounded   each is the true one, rounded once to the type of the model
    rounding k ulp      the worst is off by k units in the last place
    sampled             not affine, and no law makes it so: equal on random inputs, as far as float64 tells

What is wrong is refused, with an input that shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import product
from math import ceil

from repcompiler.ir import Expr, Node
from repcompiler.linear_part import AFFINE, stand_ins
from repcompiler.ops import Constant
from repcompiler.pattern import Match
from repcompiler.proof import Block, Tally
from repcompiler.refusal import WRONG, Refusal, refuse
from repcompiler.sites import Term

BOUND = 2.0**-20
"""Units in the last place that the bound of an error may add to a half, and the number counts as rounded once."""


CHOICES = 16
"""Combinations of laws that are tried where activations stand one behind the other."""


class Certify(Enum):
    """Which rewrites need a certificate."""

    NONE = "none"
    WHERE_POSSIBLE = "where possible"
    """One that cannot be checked by itself happens all the same: the model as a whole is compared."""
    ALL = "all"


@dataclass(frozen=True)
class Certificate:
    """What is known of one rewrite."""

    verdict: str
    coefficients: int = 0
    """How many were compared one by one."""
    complete: bool = False
    """Whether these are all; else the rest agrees on random inputs."""
    laws: tuple[str, ...] = ()
    """The activations that the rewrite goes past by a law of theirs."""

    @property
    def kind(self) -> str:
        """The verdict without its number."""
        return "rounding" if self.verdict.startswith("rounding") else self.verdict

    def __str__(self) -> str:
        if not self.coefficients:
            return self.verdict
        past = f" by a law of {', '.join(self.laws)}" if self.laws else ""
        rest = "" if self.complete else ", the others on random inputs"
        return f"{self.verdict}{past} ({self.coefficients:,} coefficients{rest})"


def certify(root: Node, match: Match, part: Term, term: Term, need: Certify) -> Certificate | None:
    """Compare the block that `match` found at `root` with `term`, which is to take its place; `part` is what is new of it.

    None for what only goes, or what the runtime itself computed.  Raises `Refusal` where they differ, or where that cannot be
    told and `need` is ALL.
    """
    if need is Certify.NONE or term is None or part is None or (isinstance(term, Expr) and isinstance(term.op, Constant)):
        return None
    try:
        return _certified(Block(root, match, part, term))
    except (ValueError, IndexError, ArithmeticError, MemoryError) as error:
        if need is Certify.ALL:
            lacks = "memory" if isinstance(error, MemoryError) else "extents that are not known"
            refuse(f"its own check needs {lacks}: {error}")
        return Certificate("not checked by itself")


def _certified(block: Block) -> Certificate:
    others = [op for op in block.ops if not isinstance(op, AFFINE)]
    if not others:
        with suppress(ValueError, IndexError):  # a reshape may be said of one batch
            return _of(block.prove(), ())
    holds_constants = block.sample()
    if not others or not all(map(stand_ins, others)):
        return Certificate("sampled")
    kinds = tuple(sorted({op.kind for op in others}))
    levels = range(max((*block.before.levels, *block.after.levels)) + 1)
    choices = sorted(product(*(range(2) for _ in levels)), key=lambda choice: len({*choice}))[:CHOICES]
    proofs = (tally for choice in choices if (tally := _proved(block, choice)) is not None)
    if (tally := next(proofs, None)) is None:
        if holds_constants:
            return Certificate("sampled")
        refuse(f"{WRONG}: no law of {', '.join(kinds)} makes the results equal")
    return _of(tally, kinds)


def _proved(block: Block, choice: Sequence[int]) -> Tally | None:
    """What is shown with these stand-ins; None where they keep another law than the one that the rewrite goes by."""
    try:
        return block.prove(choice)
    except Refusal:
        return None


def _of(tally: Tally, laws: tuple[str, ...]) -> Certificate:
    if tally.ulps > 0.5 + BOUND:
        verdict = f"rounding {ceil(tally.ulps * 1000) / 1000:.4g} ulp"
    else:
        verdict = "correctly rounded" if tally.ulps else "exact"
    return Certificate(verdict, tally.coefficients, tally.complete, laws)
