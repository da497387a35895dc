"""Patterns over a value in parts, to some of which something is added."""

from __future__ import annotations

from collections.abc import Iterator

from repcompiler.ir import Graph, Node, Value
from repcompiler.joins import addition_tree, bind_all
from repcompiler.ops import Concat, Op, Select, Sum
from repcompiler.pattern import Match, RootPattern
from repcompiler.region import Interior, Region, Scope, regions

Terms = list[tuple[int, Value]]


class PartlyAdded(RootPattern):
    """The channels of one value in order, concatenated, to some of which is added what is linear in another value.

    Captures both values, and for each part what is added: a convolution, or, where that is nothing, the choice of the part.
    """

    roots = (Concat,)

    def __init__(self, to: str, source: str, branches: str) -> None:
        self.to, self.source, self.branches = to, source, branches

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        parts = [_terms(value, scope.graph) for value in node.inputs]
        if sorted({len(terms) for terms, _ in parts}) != [1, 2]:
            return
        for to in dict.fromkeys(choice[1] for term in parts[0][0] if (choice := _choice(*term)) is not None):
            split = [_split(terms, to) for terms, _ in parts]
            index = [channel for found in split if found is not None for channel in found[0].index]
            if None in split or to.shape is None or index != [*range(_channels(to))]:
                continue
            added = [_linear(found[1], scope) if found is not None else {} for found in split]
            for source in next(filter(None, added)):
                if source is to or any(branch and source not in branch for branch in added):
                    continue
                branches: list[Region | Op] = []
                interior = [*node.inputs, *(value for _, additions in parts for value in additions)]
                for found, branch in zip(split, added, strict=True):
                    assert found is not None
                    branches.append(branch[source][0] if branch else found[0])
                    interior += [found[2], *(branch[source][1] if branch else ())]
                bound = bind_all(match, {self.to: to, self.source: source, self.branches: tuple(branches)})
                if bound is not None:
                    yield bound.inside(*interior)


def _terms(value: Value, graph: Graph) -> tuple[Terms, list[Value]]:
    """The terms of a part, and the additions between."""
    node = value.producer
    if node is None or not isinstance(node.op, Sum) or not graph.is_private(value):
        return [(1, value)], []
    return addition_tree(node, graph)


def _choice(sign: int, value: Value) -> tuple[Select, Value] | None:
    node = value.producer
    return (node.op, node.inputs[0]) if sign > 0 and node is not None and isinstance(node.op, Select) else None


def _split(terms: Terms, to: Value) -> tuple[Select, Terms, Value] | None:
    """The term that is a choice of channels of `to`, the other terms, and the value chosen."""
    for term in terms:
        if (choice := _choice(*term)) is not None and choice[1] is to:
            return choice[0], [other for other in terms if other is not term], term[1]
    return None


def _linear(terms: Terms, scope: Scope) -> dict[Value, tuple[Region, Interior]]:
    """The one term there is, as a region of each of its sources."""
    return {
        region.source: (Region(region.source, region.steps, sign < 0), inside)
        for sign, value in terms
        for region, inside in regions(value, scope)
    }


def _channels(value: Value) -> int:
    return value.shape[1] if value.shape is not None and len(value.shape) > 1 and isinstance(value.shape[1], int) else -1
