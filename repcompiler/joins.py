"""Patterns over sums and concatenations: branches of one source among whatever else is joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations, permutations

from repcompiler.ir import Expr, Graph, Node, Value
from repcompiler.ops import Concat, Sum
from repcompiler.pattern import Captured, LinearPattern, Match, RootPattern
from repcompiler.region import Join, Region, Scope, regions


class SumPattern(RootPattern):
    """Two terms of an addition tree.  The tree is seen flat, through private additions and subtractions, with signs.

    Where the second stays, it is the one that others read, too.
    """

    roots = (Sum,)

    def __init__(self, first: LinearPattern, second: LinearPattern) -> None:
        self.first, self.second = first, second

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        terms, additions = addition_tree(node, scope.graph)
        by_source: dict[Value, list[tuple[int, Region, tuple[Value, ...]]]] = {}
        for index, (sign, value) in enumerate(terms):
            for region, interior in regions(value, scope):
                signed = Region(region.source, region.steps, sign < 0)
                by_source.setdefault(region.source, []).append((index, signed, interior))
        for source, branches in by_source.items():
            pairs = permutations(branches, 2) if self.second.stays else combinations(branches, 2)
            for (i, first, inside_first), (j, second, inside_second) in pairs:
                if i == j or not (first.steps or second.steps):
                    continue
                if self.second.stays:
                    value, values = terms[j][1], [value for _, value in terms]
                    if not second.steps or scope.graph.is_private(value) or values.count(value) > 1:
                        continue
                    inside_second = ()
                rest = [term for index, term in enumerate(terms) if index not in (i, j)]
                bound = bind_all(match, {self.first.source: source, self.second.source: source})
                bound = bound and bind_all(bound, {self.first.name: first, self.second.name: second})
                if bound is not None:
                    context = partial(add_to, rest) if rest else match.context
                    whole = Region(source, (Join(Sum((1, 1)), (first, second)),))
                    found = replace(bound, rest=tuple(value for _, value in rest), context=context, whole=whole)
                    yield found.inside(*additions, *inside_first, *inside_second)


class ConcatPattern(RootPattern):
    """A run of neighbours in a concatenation that are linear in one value, as long as can be."""

    roots = (Concat,)

    def __init__(self, branches: LinearPattern) -> None:
        self.branches = branches

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        parts = [{region.source: (region, inside) for region, inside in regions(v, scope)} for v in node.inputs]
        for source in dict.fromkeys(source for part in parts for source in part):
            for start, stop in _runs([source in part for part in parts]):
                found = [part[source] for part in parts[start:stop]]
                before, after = node.inputs[:start], node.inputs[stop:]
                context = partial(_concat_with, before, after) if before or after else match.context
                bound = bind_all(match, {self.branches.source: source})
                if bound is not None and any(region.steps for region, _ in found):
                    branches = tuple(region for region, _ in found)
                    captures = {**bound.captures, self.branches.name: branches}
                    whole = Region(source, (Join(Concat(), branches),))
                    interior = [value for _, inside in found for value in inside]
                    yield replace(bound, captures=captures, rest=(*before, *after), context=context, whole=whole).inside(
                        *interior
                    )


def bind_all(match: Match, captures: Mapping[str, Captured]) -> Match | None:
    """The match with these captures, or None where a name already stands for something else."""
    bound: Match | None = match
    for name, captured in captures.items():
        bound = bound and bound.bind(name, captured)
    return bound


def add_to(rest: list[tuple[int, Value]], part: Expr) -> Expr:
    """A new term beside the signed others of a sum."""
    signs, values = zip(*rest, strict=True)
    return Sum((1, *signs))(part, *values)


def _concat_with(before: tuple[Value, ...], after: tuple[Value, ...], part: Expr) -> Expr:
    return Concat()(*before, part, *after)


def _runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each stretch of two or more true flags."""
    start = 0
    for index, flag in enumerate((*flags, False)):
        if not flag:
            if index - start > 1:
                yield start, index
            start = index + 1


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
