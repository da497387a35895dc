"""Patterns over skip connections: a sum of what a chain of layers makes of a value, and of what is linear in that value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from repcompiler.composites import written
from repcompiler.ir import Node, Value
from repcompiler.joins import add_to, addition_tree, bind_all
from repcompiler.ops import ACTIVATIONS, GlobalAvgPool, Mul, Op, Opaque, Scale, Sum
from repcompiler.pattern import Captured, Fork, LinearPattern, Match, Pattern, RootPattern
from repcompiler.region import Interior, Region, Scope, regions

LENGTH = 16
"""Operations a chain may be long."""
SMOOTH = frozenset(("elu", "celu", "selu", "mish", "softplus", "softsign", "tanh", "logsigmoid"))
"""Functions of one number that stay opaque: of these it is told why nothing is carried through them."""

Step = Region | Op | Fork | tuple[Region | Op, ...]
Chain = tuple[Step, ...]
"""Linear operations, each a region of one step, and activations, innermost first.

A tuple of them is a gate: what precedes it is multiplied by what they make of that.  What precedes a fork is read elsewhere.
"""


class ChainPattern(Pattern):
    """What `chain` makes."""

    def __init__(self, source: str, name: str) -> None:
        self.source, self.name = source, name

    def match_value(self, value: Value, match: Match, scope: Scope) -> Iterator[Match]:
        for source, steps, interior in chains(value, scope):
            bound = bind_all(match, {self.source: source, self.name: steps})
            if bound is not None:
                yield bound.inside(*interior)


def chain(source: str, name: str) -> ChainPattern:
    """Linear operations and at least one activation, one after the other, on the value `source`; captured as a tuple."""
    return ChainPattern(source, name)


class ResidualPattern(RootPattern):
    """A chain and a linear region on one value, as two terms of an addition tree."""

    roots = (Sum,)

    def __init__(self, body: ChainPattern, shortcut: LinearPattern) -> None:
        self.body, self.shortcut = body, shortcut

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        yield from sorted(self._found(node, match, scope), key=lambda found: len(found.kept))

    def _found(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        terms, additions = addition_tree(node, scope.graph)
        readers = [node, *(value.producer for value in additions)]
        signs = [sign for sign, _ in terms]
        skips = [{region.source: (region, inside) for region, inside in regions(value, scope)} for _, value in terms]
        for i, (sign, value) in enumerate(terms):
            negation = () if sign > 0 else (Region(value, (Scale(np.array([-1.0]), np.zeros(1)),)),)
            for source, steps, inside_body in chains(value, scope, readers=readers):
                body = (*steps, *negation)
                for j, skip in enumerate(skips):
                    if j == i or source not in skip:
                        continue
                    region, inside_skip = skip[source]
                    shortcut = Region(source, region.steps, signs[j] < 0)
                    names: dict[str, Captured] = {self.body.source: source, self.body.name: body, self.shortcut.name: shortcut}
                    bound = bind_all(match, names)
                    if bound is not None:
                        rest = [term for index, term in enumerate(terms) if index not in (i, j)]
                        context = partial(add_to, rest) if rest else match.context
                        kept = tuple(step.value for step in body if isinstance(step, Fork))
                        found = replace(bound, rest=tuple(value for _, value in rest), context=context, kept=kept)
                        yield found.inside(*additions, *inside_body, *inside_skip)


def chains(
    value: Value, scope: Scope, linear: bool = False, readers: Iterable[Node | None] = ()
) -> Iterator[tuple[Value, Chain, Interior]]:
    """`value` as a chain on ever earlier values, the nearest first, each with the values that lie inside.

    `linear`: also without an activation, from `value` itself on.  `readers`: what reads it, for a chain that goes on, with a
    fork, where others read what lies inside.
    """
    known = {*readers}
    steps: Chain = ()
    interior: Interior = ()
    if linear:
        yield value, steps, interior
    while (node := value.producer) is not None and len(steps) < LENGTH:
        found = _step(node, scope)
        if found is None:
            return
        parts, earlier, inside = found
        fork = (Fork(value),) if known and _is_read_beyond(value, known, scope) else ()
        steps, interior, value = (*parts, *fork, *steps), (*interior, value, *inside), earlier
        if linear or not all(isinstance(part, (Region, Fork)) for part in steps):
            yield value, steps, interior
        within = {inner.producer for inner in interior}
        if known:
            known |= within
        elif _is_read_beyond(value, within, scope):
            return


def _is_read_beyond(value: Value, nodes: Collection[Node | None], scope: Scope) -> bool:
    return scope.graph.is_output(value) or any(user not in nodes for user in value.uses)


def _step(node: Node, scope: Scope) -> tuple[Chain, Value, Interior] | None:
    """What a node, or what it completes, does to one value; that value, and the values between."""
    activation = written(node.output) if node.outputs else None
    if activation is not None:
        return (activation,), activation.source, activation.interior
    step = scope.step(node)
    if step is not None:
        return (Region(node.inputs[0], (step,)),), node.inputs[0], ()
    if isinstance(node.op, ACTIVATIONS) or (isinstance(node.op, Opaque) and node.op.label.lower() in SMOOTH):
        return (node.op,), node.inputs[0], ()
    if isinstance(node.op, Mul):
        orders = (node.inputs, node.inputs[::-1])
        return next((gated for x, gate in orders if (gated := _gate(x, gate, scope)) is not None), None)
    return None


def _gate(x: Value, gate: Value, scope: Scope) -> tuple[Chain, Value, Interior] | None:
    """x times `gate`, if that is made of means of x over all pixels."""
    steps: tuple[Region | Op, ...] = ()
    interior: Interior = ()
    value = gate
    while value is not x and len(steps) < LENGTH:
        node = value.producer
        if node is not None and node.op == GlobalAvgPool():
            found: tuple[Chain, Value, Interior] | None = (node.op,), node.inputs[0], ()
        else:
            found = None if node is None else _step(node, scope)
        if found is None:
            return None
        parts, earlier, inside = found
        if any(isinstance(part, tuple) for part in parts):
            return None
        steps = (*(part for part in parts if not isinstance(part, (tuple, Fork))), *steps)
        interior, value = (*interior, value, *inside), earlier
    whole = value is x and steps and steps[0] == GlobalAvgPool()
    return ((steps,), x, interior) if whole else None
