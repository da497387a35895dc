"""Patterns over skip connections around branches: what is added to what a chain of layers makes of a concatenation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from repcompiler.ir import Node, Value
from repcompiler.joins import add_to, addition_tree, bind_all
from repcompiler.ops import ACTIVATIONS, BatchNorm, Concat, Conv, Identity, MaxPool, Mul, Scale, Select, Sum
from repcompiler.pattern import Match, RootPattern
from repcompiler.region import Interior, Region, Scope, regions
from repcompiler.residual import Chain, chains

HORIZON = 32
"""Operations that are looked back over to see that two values have the same extents; a quarter of it behind a concatenation."""
ALIKE = (*ACTIVATIONS, BatchNorm, Identity, Scale, Select)
"""Operations that make as many pixels as they read."""

Geometry = tuple[tuple[int, int], ...]


class AddedToBranches(RootPattern):
    """A chain on a concatenation, and what is linear in a value of the same extents, as two terms of an addition tree.

    Captures what is concatenated, as a value, the chain, the other value, and the linear region on that.
    """

    roots = (Sum,)

    def __init__(self, branches: str, body: str, source: str, shortcut: str) -> None:
        self.names = (branches, body, source, shortcut)

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        terms, additions = addition_tree(node, scope.graph)
        bodies = [(index, *found) for index, (sign, value) in enumerate(terms) if sign > 0 for found in _bodies(value, scope)]
        for index, branches, body, inside_body in bodies:
            assert branches.producer is not None
            for other, (sign, value) in enumerate(terms):
                for region, inside in regions(value, scope) if other != index else ():
                    x = region.source
                    if x is branches or not have_same_extents(branches, x):
                        continue
                    captures = (branches, body, x, Region(x, region.steps, sign < 0))
                    bound = bind_all(match, dict(zip(self.names, captures, strict=True)))
                    if bound is None:
                        continue
                    rest = [term for position, term in enumerate(terms) if position not in (index, other)]
                    context = partial(add_to, rest) if rest else match.context
                    joined = () if x in branches.producer.inputs else (branches,)
                    found = replace(bound, rest=tuple(value for _, value in rest), context=context)
                    yield found.inside(*additions, *joined, *inside_body, *inside)


def _bodies(value: Value, scope: Scope) -> Iterator[tuple[Value, Chain, Interior]]:
    """`value` as a chain on a concatenation, with what is between."""
    for source, body, inside in chains(value, scope, linear=True):
        if source.producer is not None and isinstance(source.producer.op, Concat):
            yield source, body, inside


def have_same_extents(value: Value, x: Value) -> bool:
    """Whether two values certainly have as many images and pixels as each other along each axis, whenever the graph runs."""
    stated = [shape and (shape[0], *shape[2:]) for shape in (value.shape, x.shape)]
    if stated[0] and stated[0] == stated[1] and None not in stated[0]:
        return True
    return not _ways(value, HORIZON).isdisjoint(_ways(x, HORIZON))


def _ways(value: Value, horizon: int) -> set[tuple[Value, tuple[Geometry, ...]]]:
    """What a value has its extents of: earlier values, and (stride, pixels lost) an axis of all that moved a window since."""
    moved: tuple[Geometry, ...] = ()
    found = {(value, moved)}
    for _ in range(horizon):
        node = value.producer
        if node is None:
            break
        op = node.op
        if isinstance(op, Concat):
            parts = (part for operand in node.inputs for part in _ways(operand, horizon // 4))
            return found | {(root, (*inner, *moved)) for root, inner in parts}
        if isinstance(op, Mul):
            wide = [operand for operand in node.inputs if operand.shape is None or set(operand.shape[2:]) != {1}]
            if len(wide) != 1:
                break
            value = wide[0]
        elif isinstance(op, ALIKE):
            value = node.inputs[0]
        elif isinstance(op, (Conv, MaxPool)) and op.stride:
            value, extents = node.inputs[0], (d * (k - 1) for k, d in zip(op.kernel_size, op.dilation, strict=True))
            geometry = tuple((s, e - sum(p)) for s, e, p in zip(op.stride, extents, op.padding, strict=True))
            moved = moved if set(geometry) == {(1, 0)} else (geometry, *moved)
        else:
            break
        found.add((value, moved))
    return found
