"""Patterns over the graph, written as the expression they match.

    Conv.of("x", name="conv")                      one operation, its operand bound to x
    BatchNorm.of(Conv.of("x", name="conv"), ...)   nested, from the result backwards
    Sum.of(linear("x", name="first"), linear("x", name="second"))
                                                   two terms of an addition tree, in any order, whatever else is added
    linear("x", name="op")                         any chain of linear operations on x, seen as one convolution
    linear_after(linear("x", name="first"), name="second")
                                                   one more linear operation on the end of a chain

A pattern says what computes what.  That interior values are private, and that the result is not dearer, is the rewriter's
business (`repcompiler.rewriter`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from repcompiler.ir import Graph, Node, Value
from repcompiler.ops import Constant, Conv, Op, Sum

View = Callable[[Any, int, int], Conv]
"""(operation, channels, spatial axes) -> the operation as a convolution."""


@dataclass(frozen=True)
class Scope:
    """What a match may look at: the graph, and the views that make a convolution of other linear operations."""

    graph: Graph
    views: Mapping[type[Op], View]

    def is_linear(self, op: Op) -> bool:
        return isinstance(op, Conv) or type(op) in self.views


@dataclass(frozen=True)
class Chain:
    """Linear operations applied one after the other to `source`, innermost first; empty for `source` itself."""

    source: Value
    ops: tuple[Op, ...] = ()
    negative: bool = False


@dataclass(frozen=True)
class Match:
    """Captures by name, the values between them, and the other terms of an addition tree with their signs."""

    captures: dict[str, Value | Op | Chain] = field(default_factory=dict)
    interior: tuple[Value, ...] = ()
    rest: tuple[tuple[int, Value], ...] = ()

    def bind(self, name: str, captured: Value | Op | Chain) -> Match | None:
        """The match with one more capture, or None where the name already stands for something else."""
        if not name:
            return self
        if self.captures.get(name, captured) is not captured:
            return None
        return Match({**self.captures, name: captured}, self.interior, self.rest)

    def inside(self, *values: Value) -> Match:
        """The match with more interior values."""
        return Match(self.captures, (*self.interior, *values), self.rest)


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


def linear(source: str, name: str, least: int = 0) -> LinearChain:
    """A chain of linear operations on the value `source`, captured as one convolution; at least `least` of them."""
    return LinearChain(source, name, least)


class LinearChain(Pattern):
    """What `linear` makes."""

    def __init__(self, source: str, name: str, least: int) -> None:
        self.source, self.name, self.least = source, name, least

    def match_value(self, value: Value, match: Match, scope: Scope) -> Iterator[Match]:
        for chain, interior in chains(value, scope):
            if len(chain.ops) >= self.least:
                bound = match.bind(self.source, chain.source)
                if bound is not None and (captured := bound.bind(self.name, chain)) is not None:
                    yield captured.inside(*interior)


def linear_after(chain: LinearChain, name: str) -> LinearAfter:
    """One linear operation, seen as a convolution, on the end of a chain; at least one of them all is a convolution."""
    return LinearAfter(chain, name)


class LinearAfter(RootPattern):
    """What `linear_after` makes."""

    roots = (Op,)

    def __init__(self, chain: LinearChain, name: str) -> None:
        self.chain, self.name = chain, name

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        if not scope.is_linear(node.op):
            return
        last = Chain(node.inputs[0], (node.op,))
        for found in self.chain.match_value(node.inputs[0], match, scope):
            first = found.captures[self.chain.name]
            if isinstance(first, Chain) and any(isinstance(op, Conv) for op in (*first.ops, node.op)):
                bound = found.bind(self.name, last)
                if bound is not None:
                    yield bound


def chains(value: Value, scope: Scope) -> Iterator[tuple[Chain, tuple[Value, ...]]]:
    """`value` as a chain of 0, 1, 2, ... linear operations, each with the values that lie inside."""
    ops: tuple[Op, ...] = ()
    interior: tuple[Value, ...] = ()
    yield Chain(value), interior
    while (node := value.producer) is not None and scope.is_linear(node.op):
        ops, interior = (node.op, *ops), (*interior, value)
        value = node.inputs[0]
        yield Chain(value, ops), interior
        if not scope.graph.is_private(value):
            return


class SumPattern(RootPattern):
    """Two terms of an addition tree.  The tree is seen flat, through private additions and subtractions, with signs."""

    roots = (Sum,)

    def __init__(self, first: LinearChain, second: LinearChain) -> None:
        self.first, self.second = first, second

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        terms, additions = addition_tree(node, scope.graph)
        by_source: dict[Value, list[tuple[int, Chain, tuple[Value, ...]]]] = {}
        for index, (sign, value) in enumerate(terms):
            for chain, interior in chains(value, scope):
                signed = Chain(chain.source, chain.ops, sign < 0)
                by_source.setdefault(chain.source, []).append((index, signed, interior))
        for source, branches in by_source.items():
            for (i, first, inside_first), (j, second, inside_second) in combinations(branches, 2):
                if i == j or not (first.ops or second.ops):
                    continue
                rest = tuple(term for index, term in enumerate(terms) if index not in (i, j))
                bound: Match | None = Match(match.captures, (*match.interior, *additions), rest)
                for name, captured in (
                    (self.first.source, source),
                    (self.second.source, source),
                    (self.first.name, first),
                    (self.second.name, second),
                ):
                    bound = bound and bound.bind(name, captured)
                if bound is not None:
                    yield bound.inside(*inside_first, *inside_second)


def addition_tree(root: Node, graph: Graph) -> tuple[list[tuple[int, Value]], list[Value]]:
    """The signed terms of the sum that `root` completes, left to right, and the additions between."""
    terms: list[tuple[int, Value]] = []
    additions: list[Value] = []
    pending = [(1, root.output)]
    while pending:
        sign, value = pending.pop()
        node = value.producer
        if node is not None and isinstance(node.op, Sum) and (node is root or graph.is_private(value)):
            if node is not root:
                additions.append(value)
            operands = zip(node.op.signs, node.inputs, strict=True)
            pending += [(sign * inner, operand) for inner, operand in operands][::-1]
        else:
            terms.append((sign, value))
    return terms, additions


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
