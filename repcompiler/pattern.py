"""Patterns over the graph, written as the expression they match.

    Conv.of("x", name="conv")                      one operation, its operand bound to x
    BatchNorm.of(Conv.of("x", name="conv"), ...)   nested, from the result backwards
    Sum.of(linear("x", name="first"), linear("x", name="second"))
                                                   two terms of an addition tree, in any order, whatever else is added
    linear("x", name="op")                         any linear region on x, seen as one convolution
    linear_after(linear("x", name="first"), name="second")
                                                   one more linear operation on the end of a region
    Concat.of(linear("x", name="branches"))        neighbours in a concatenation, captured as a tuple of convolutions

A pattern says what computes what.  That interior values are private, and that the result is not dearer, is the rewriter's
business (`repcompiler.rewriter`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile

from repcompiler.ir import Expr, Node, Value
from repcompiler.ops import Constant, Conv, Op, Select
from repcompiler.region import Region, Scope, regions

READERS = 64
"""Readers of one value among which equal ones are looked for."""


@dataclass(frozen=True)
class Fork:
    """In a chain of operations: what precedes it is read elsewhere, too, and has to be there after the rewrite."""

    value: Value


@dataclass(frozen=True)
class Forked:
    """What takes the place of the root, and of each value at a fork in turn; they share what they have in common."""

    result: Expr
    kept: tuple[Expr, ...]


Captured = Value | Expr | Op | Region | tuple[Region | Op | Fork | tuple[Region | Op, ...], ...]


@dataclass(frozen=True)
class Match:
    """Captures by name, the values between them, and what else the root adds up or concatenates.

    `rest` are the values it also reads; `context` puts the rewritten part back among them.  `whole` is the matched block as one
    linear region, where it is one.  `kept` are the values inside that others read, too: the rule makes them as well (`Forked`).
    """

    captures: dict[str, Captured] = field(default_factory=dict)
    interior: tuple[Value, ...] = ()
    rest: tuple[Value, ...] = ()
    context: Callable[[Expr], Expr] = lambda part: part
    whole: Region | None = None
    kept: tuple[Value, ...] = ()

    def bind(self, name: str, captured: Captured) -> Match | None:
        """The match with one more capture, or None where the name already stands for something else."""
        if not name:
            return self
        if self.captures.get(name, captured) is not captured:
            return None
        return replace(self, captures={**self.captures, name: captured})

    def inside(self, *values: Value) -> Match:
        """The match with more interior values."""
        return replace(self, interior=tuple(dict.fromkeys((*self.interior, *values))))


class Pattern(ABC):
    """Something that may compute a value."""

    @abstractmethod
    def match_value(self, value: Value, match: Match, scope: Scope) -> Iterator[Match]:
        """All ways in which `value`, an operand, is computed as this pattern says."""

    def __or__(self, other: Pattern) -> Pattern:
        return Either((self, other))


@dataclass(frozen=True)
class Either(Pattern):
    """One of several patterns."""

    alternatives: tuple[Pattern, ...]

    def match_value(self, value: Value, match: Match, scope: Scope) -> Iterator[Match]:
        for alternative in self.alternatives:
            yield from alternative.match_value(value, match, scope)


@dataclass(frozen=True)
class AnyValue(Pattern):
    """Any value at all, bound to a name."""

    name: str

    def match_value(self, value: Value, match: Match, scope: Scope) -> Iterator[Match]:
        bound = match.bind(self.name, value)
        if bound is not None:
            yield bound


class RootPattern(Pattern):
    """A pattern that a node may be the root of."""

    roots: tuple[type[Op], ...] = ()

    @abstractmethod
    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        """All ways in which `node` is computed as this pattern says."""

    def match_value(self, value: Value, match: Match, scope: Scope) -> Iterator[Match]:
        if value.producer is not None:
            yield from self.match_node(value.producer, match.inside(value), scope)


class OpPattern(RootPattern):
    """One operation of given classes on given operands.  No operands given: whatever they are."""

    def __init__(self, roots: tuple[type[Op], ...], operands: tuple[str | Pattern, ...], name: str) -> None:
        self.roots = roots
        self.operands = tuple(AnyValue(operand) if isinstance(operand, str) else operand for operand in operands)
        self.name = name

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        bound = match.bind(self.name, node.op) if isinstance(node.op, self.roots) else None
        if bound is None or (self.operands and len(self.operands) != len(node.inputs)):
            return
        matches: list[Match] = [bound]
        for operand, value in zip(self.operands, node.inputs, strict=False):
            matches = [extended for m in matches for extended in operand.match_value(value, m, scope)]
        yield from matches


def one_of(*roots: type[Op]) -> Callable[..., OpPattern]:
    """`one_of(Conv, Linear)(operand, name=...)`: an operation of one of these classes."""
    return lambda *operands, name="": OpPattern(roots, operands, name)


def linear(source: str, name: str, least: int = 0, stays: bool = False) -> LinearPattern:
    """A linear region on the value `source`, captured as one convolution; at least `least` steps long.

    `stays` (for a term of `Sum.of`): it is read elsewhere, too, so the rewrite leaves it, and only saves what is around it.
    """
    return LinearPattern(source, name, least, stays)


class LinearPattern(Pattern):
    """What `linear` makes."""

    def __init__(self, source: str, name: str, least: int, stays: bool = False) -> None:
        self.source, self.name, self.least, self.stays = source, name, least, stays

    def match_value(self, value: Value, match: Match, scope: Scope) -> Iterator[Match]:
        for region, interior in regions(value, scope):
            if len(region.steps) >= self.least:
                bound = match.bind(self.source, region.source)
                if bound is not None and (captured := bound.bind(self.name, region)) is not None:
                    yield captured.inside(*interior)


def linear_after(region: LinearPattern, name: str) -> LinearAfter:
    """One more linear operation, seen as a convolution, on the end of a region; at least one of them all is a convolution."""
    return LinearAfter(region, name)


class LinearAfter(RootPattern):
    """What `linear_after` makes."""

    roots = (Op,)

    def __init__(self, region: LinearPattern, name: str) -> None:
        self.region, self.name = region, name

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        step = scope.step(node)
        if step is None:
            return
        last = Region(node.inputs[0], (step,))
        for found in self.region.match_value(node.inputs[0], match, scope):
            first = found.captures[self.region.name]
            if isinstance(first, Region) and _worth_merging([*first.ops(), step]):
                bound = found.bind(self.name, last)
                if bound is not None:
                    yield replace(bound, whole=Region(first.source, (*first.steps, step)))


def _worth_merging(ops: list[Op]) -> bool:
    """Whether one convolution could be plainer than these: with one of them a convolution, or all of one kind."""
    return any(isinstance(op, Conv) for op in ops) or {type(op) for op in ops} == {Select}


class Unread(RootPattern):
    """Any operation none of whose results is read."""

    roots = (Op,)

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        if scope.graph.is_dead(node):
            yield match


class ConstantResult(RootPattern):
    """Any operation whose one result depends on parameters alone and is read by one that depends on more."""

    roots = (Op,)

    def __init__(self, name: str) -> None:
        self.name = name

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        if len(node.outputs) != 1 or node.output.constant is None or isinstance(node.op, Constant):
            return
        readers_fold = all(value.constant is not None for user in node.output.uses for value in user.outputs)
        if readers_fold and not scope.graph.is_output(node.output):
            return
        bound = match.bind(self.name, node.output)
        if bound is not None:
            yield bound


class Implied(RootPattern):
    """An operation that knows what the document computes for it."""

    roots = (Op,)

    def __init__(self, source: str, name: str) -> None:
        self.source, self.name = source, name

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        bound = match.bind(self.name, node.op) if node.implied and len(node.inputs) == 1 else None
        bound = bound and bound.bind(self.source, node.inputs[0])
        if bound is not None:
            yield bound


class Again(RootPattern):
    """An operation on operands that one of its class reads before, in the same places: among the first readers of the first.

    Captures what the one before makes, and the root with its operands.  Before is what comes first in the document: what it
    makes is there wherever the root's result is read.  What two rewrites made is written where it is first read.
    """

    roots = (Op,)

    def __init__(self, before: str, again: str) -> None:
        self.before, self.again = before, again

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        readers = islice(node.inputs[0].uses, READERS) if node.inputs and node.outputs else ()
        alike = [
            other for other in readers if other.outputs and type(other.op) is type(node.op) and other.inputs == node.inputs
        ]
        alike.sort(key=lambda other: other.output.place)
        for other in takewhile(lambda other: other is not node, alike):
            if other.output.place == node.output.place or 0 <= other.output.place < node.output.place:
                bound = match.bind(self.before, other.output)
                bound = bound and bound.bind(self.again, node.op(*node.inputs))
                if bound is not None:
                    yield bound
