"""Two blocks of operations on the same values, run on a basis and compared within the bounds of their rounding errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import gcd, prod, sqrt
from typing import Any

import numpy as np

from repcompiler.ir import Expr, Node, Value
from repcompiler.linear_part import AFFINE, MOVES, linear_part, rounded, stand_ins, sum_length
from repcompiler.ops import Concat, Conv, ConvTranspose, Linear, Op, Sum
from repcompiler.pattern import Match
from repcompiler.probe_images import Images, blocks, images, impulses, middle, units
from repcompiler.program import Form, Key, Program
from repcompiler.ranges import interval
from repcompiler.rank_one import RankOne
from repcompiler.refusal import WRONG, refuse
from repcompiler.ulps import Floating

NDArray = np.ndarray[Any, Any]

EPS = float(np.finfo(np.float64).eps)
BASIS = 1 << 15
"""Numbers in the largest value of a run on a basis; of a larger basis a part is drawn at random."""
WORK = 1 << 25
"""Multiplications of such a run, beyond reading the first kernels."""
RANDOM = 2
"""Random numbers by channel that stand, on a random image, for what is left out of a basis."""
UNLIKELY = 8.0
"""Rounding errors of n terms add up to that times sqrt(n) eps with a probability of exp(-32): what differs by more is wrong
(Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019).  Verdicts go by the bound that is certain.
"""
TOLERANCE = 1e-9
"""Of what is only sampled, relative to the largest result: far above float64 rounding, far below an error in a weight."""


@dataclass
class Tally:
    """What comparisons have shown so far."""

    coefficients: int = 0
    ulps: float = 0.0
    complete: bool = True


class Block:
    """What `match` found at `root`, and the `term` to take its place; `part` is what is new of it."""

    def __init__(self, root: Node, match: Match, part: Expr | Value, term: Expr | Value) -> None:
        read = {*_leaves(term), *_leaves(part)}
        captured = {value for capture in match.captures.values() for value in _leaves(capture)}
        given = _apart(captured, read).union(match.rest)
        if isinstance(term, Value) and term.producer is not None and given.issuperset(term.producer.inputs):
            given.discard(term)  # it is computed from the same as the root
        self.before, self.after = Program.of(root.output, given), Program.of(term, given)
        self.new = Program.of(part, given)
        self.rest = [value for value in dict.fromkeys(match.rest) if value not in (*captured, *self.new.sources)]
        """What else the root adds up or concatenates: it goes by both blocks untouched."""
        self.ops = [*self.before.ops, *self.after.ops]
        every = dict.fromkeys([*self.before.sources, *self.after.sources, *self.new.sources])
        self.sources = [value for value in every if value not in self.rest]
        self.floating = Floating.of(root.output.dtype)
        self.rng = np.random.default_rng(0)
        self.large, self.small = ({source: self._images(source, margin) for source in self.sources} for margin in (True, False))

    def _images(self, source: Value, margin: bool) -> Images:
        return images(source, (self.before, self.after), margin)

    def sample(self) -> bool:
        """Refuse what differs on random inputs, as far as these can occur.

        Whether a channel that an activation reads is one number on all of them: what comes of that is one too, and no law.
        """
        feeds: dict[Value, Any] = {}
        for source in self.sources:
            image = self.rng.standard_normal((self.large[source].batch, *self.large[source].shape))
            feeds[source] = np.clip(image, *interval(source))  # what it can be: a rewrite may count on that
        made = self.new.run(feeds)[self.new.result] if self.rest else np.zeros(())
        feeds |= {value: self.rng.standard_normal(made.shape) for value in self.rest}
        values = self.before.run(feeds)
        before, after = values[self.before.result], self.after.run(feeds)[self.after.result]
        _refuse_other_shape(before, after)
        deviation = float(np.max(np.abs(before - after), initial=0.0))
        if not deviation <= TOLERANCE * float(np.max(np.abs(before), initial=1.0)):
            refuse(f"{WRONG}: the results differ on random numbers by {deviation:.1e}")
        read = (values[operands[0]] for _, op, operands in self.before.steps if not isinstance(op, AFFINE))
        return any(bool((np.ptp(array.swapaxes(0, 1).reshape(array.shape[1], -1), axis=1) == 0).any()) for array in read)

    def prove(self, choice: Sequence[int] = ()) -> Tally:
        """Compare constants and coefficients; `choice`: which stand-in is taken for what is not affine, level by level."""
        tally = Tally()

        @cache
        def standing(op: Op, level: int) -> Op:
            if isinstance(op, AFFINE):
                return op
            known = stand_ins(op)
            return known[min(choice[level], len(known) - 1)]

        @cache
        def linear(op: Op, level: int) -> Op:
            return linear_part(standing(op, level))

        nothing = self._feeds({source: found.zeros(1, 1) for source, found in self.large.items()})
        constants = Comparison(self, nothing, standing)
        constants.judge(tally, "where the input is zero", basis=True)
        for source in self.sources:
            self._probe(source, linear, constants, tally)
        if not tally.complete:
            some = {source: found.random(RANDOM, self.rng) for source, found in self.large.items()}
            Comparison(self, self._feeds(some), linear).judge(Tally(), "on random numbers", basis=False)
        return tally

    def _probe(self, source: Value, form: Form, one: Comparison, tally: Tally) -> None:
        """The basis of one source, or what of it fits: all pixels, else those in the middle; all channels, else some."""
        large, small = self.large[source], self.small[source]
        parts = gcd(blocks(self.ops), large.channels)
        rows = np.arange(large.channels // parts)
        count = min(BASIS // one.size, WORK // one.work)  # of the inputs that fit
        whole = len(rows) * prod(large.extents) <= count
        found = self.large if whole else self.small
        fits = max(count * prod(large.extents) // prod(found[source].extents), 1)
        if whole:
            pixels = impulses(large.extents)
        else:
            pixels = middle(small.extents, (self.before, self.after), small.axis, fits, self.rng)
        if fits < len(rows) * len(pixels):
            rows = self.rng.permutation(rows)[: max(fits // len(pixels), 1)]
        by_channel = units(rows, large.channels // parts, large.channels, self.rng)
        tally.complete &= whole
        feeds = {other: found[other].zeros(len(by_channel), len(pixels)) for other in self.sources}
        feeds[source] = RankOne(by_channel, pixels, large.axis)
        Comparison(self, self._feeds(feeds), form).judge(tally, f"in a coefficient of '{source.label}'", basis=True)

    def _feeds(self, probes: Mapping[Value, RankOne]) -> dict[Value, Any]:
        """The same with zeros for `rest`."""
        if not self.rest:
            return dict(probes)
        made = self.new.run(probes)[self.new.result]
        return {**probes, **{value: np.zeros(made.shape) for value in self.rest}}

    def direct(self) -> bool:
        """Whether each coefficient of what is new is one number of one weight."""
        computing = [
            op
            for _, op, operands in self.after.steps
            if not isinstance(op, MOVES) and not (isinstance(op, Sum) and sum(x not in self.rest for x in operands) < 2)
        ]
        return len(computing) < 2


class Comparison:
    """Both blocks on the same inputs, with their magnitudes."""

    def __init__(self, block: Block, feeds: Mapping[Value, Any], form: Form) -> None:
        self.block, self.feeds, self.form = block, feeds, form
        before = block.before.run(feeds, form)
        self.size = max(array.size // len(array) for array in before.values() if isinstance(array, np.ndarray) and array.ndim)
        self.work = 1 + sum(
            prod(op.weight.shape) * prod(before[key].shape[2:])
            for key, op, operands in block.before.steps
            if isinstance(op, (Conv, ConvTranspose)) and operands[0] not in feeds
        )
        self.before, self.after = before[block.before.result], block.after.run(feeds, form)[block.after.result]
        if self.before.shape != self.after.shape:  # of this batch, and a reshape may say another: `sample` has the true one
            raise ValueError(f"shape {self.after.shape} instead of {self.before.shape}")
        self.bound = block.before.run(feeds, form, size=True)[block.before.result]
        if block.direct():
            self.new_bound = np.abs(self.after)
        else:
            self.new_bound = block.after.run(feeds, form, size=True)[block.after.result]

    def written(self) -> NDArray:
        """What comes out of the block after once its weights are in the type of the model."""
        if self.block.direct():
            return self.block.floating.round(self.after)
        after, dtype = self.block.after, self.block.floating.dtype
        return after.run(self.feeds, lambda op, level: rounded(self.form(op, level), dtype))[after.result]

    def judge(self, tally: Tally, where: str, basis: bool) -> None:
        """Refuse what differs by more than rounding; add the rest up."""
        seen = np.flatnonzero((self.before != 0) | (self.after != 0))

        def flat(array: NDArray) -> NDArray:
            return np.asarray(np.broadcast_to(array, self.before.shape).reshape(-1)[seen])

        before, after, bound, new = map(flat, (self.before, self.after, self.bound, self.new_bound))
        terms, new_terms = longest(self.block.before, basis), 0 if self.block.direct() else longest(self.block.after, basis)
        error = EPS * (terms * bound + new_terms * new)
        slack = UNLIKELY * EPS * sqrt(1 + terms + longest(self.block.after, basis)) * np.maximum(bound, new)
        off = np.abs(before - after) - slack
        if not (off <= 0).all():
            worst = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
            place = np.unravel_index(seen[worst], self.before.shape)
            refuse(
                f"{WRONG}: the results differ {where}: {before[worst]:.9g} becomes {after[worst]:.9g} "
                f"at {list(map(int, place))}"
            )
        if not basis:
            return  # what comes out is no weight
        written = flat(self.written())
        if not np.isfinite(written).all():
            refuse(f"its weights would overflow {self.block.floating.name}")
        tally.coefficients += seen.size
        if (written == before).all() and not error.any():
            return
        tally.ulps = max(tally.ulps, self.block.floating.distance(written, before, error, new))


def longest(program: Program, basis: bool) -> int:
    """Rounded terms in the longest chain of sums.  A kernel that meets a `basis`, or nothing, is read, not summed."""
    found: dict[Key, int] = {}
    bare: set[Key] = {*program.sources}
    for key, op, operands in program.steps:
        reads = basis and isinstance(op, (Conv, ConvTranspose, Linear)) and operands[0] in bare
        found[key] = (0 if reads else sum_length(op)) + max((found.get(x, 0) for x in operands), default=0)
        if isinstance(op, MOVES) and len(operands) == 1 and operands[0] in bare:
            bare.add(key)
    return found.get(program.result, 0)


def _apart(captured: set[Value], read: set[Value]) -> set[Value]:
    """Values to start from, of which none is computed from another: what a concatenation joins goes before the joined."""
    below = {value for value in captured - read if value.producer is not None and read.intersection(value.producer.inputs)}
    given = (captured | read) - below
    joined = {value for value in given if value.producer is not None and isinstance(value.producer.op, Concat)}
    return given - {value for value in joined if value.producer is not None and given.intersection(value.producer.inputs)}


def _leaves(captured: Any) -> Iterable[Value]:
    """The values that a capture or an expression reads."""
    if isinstance(captured, Value):
        yield captured
    elif isinstance(captured, Expr):
        for operand in captured.operands:
            yield from _leaves(operand)


def _refuse_other_shape(before: NDArray, after: NDArray) -> None:
    if before.shape != after.shape:
        refuse(f"{WRONG}: shape {after.shape} instead of {before.shape}")
