"""A pattern over gates: a mixture of two values, weighed by the softmax of two others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

from repcompiler.ir import Node, Value
from repcompiler.ops import GlobalAvgPool, Mul, Reshape, Softmax, Stack, Sum, Take
from repcompiler.pattern import Match, RootPattern
from repcompiler.region import Scope


@dataclass(frozen=True)
class Share:
    """A product with one number of a softmax over two."""

    factor: Value
    softmax: Value
    index: int
    logits: tuple[Value, Value]
    interior: tuple[Value, ...]


class Mixture(RootPattern):
    """a s_1 + b s_2 with (s_1, s_2) = softmax(u, v): captures a, b, and u, v unless they are the means of a and b.

    However u and v are brought together and s_1 and s_2 taken apart: along a new axis, or one of one number, through reshapes
    that leave each its numbers.
    """

    roots = (Sum,)

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        if not isinstance(node.op, Sum) or node.op.signs != (1, 1):
            return
        for first, second in product(*map(_shares, node.inputs)):
            if first.softmax is not second.softmax or {first.index, second.index} != {0, 1}:
                continue
            a, b = (share.factor for share in sorted((first, second), key=lambda share: share.index))
            u, v = first.logits
            bound = (match.bind("a", a) or match).bind("b", b)
            bound = bound and bound.inside(*node.inputs, *first.interior, *second.interior)
            if bound is not None and _mean(u) is a and _mean(v) is b:
                yield bound.inside(u, v)
            bound = bound and bound.bind("u", u)
            bound = bound and bound.bind("v", v)
            if bound is not None:
                yield bound


def _shares(term: Value) -> list[Share]:
    """All ways in which a value is one."""
    if term.producer is None or not isinstance(term.producer.op, Mul):
        return []
    found = [_share(factor, gate) for factor, gate in permutations(term.producer.inputs)]
    return [share for share in found if share is not None]


def _share(factor: Value, gate: Value) -> Share | None:
    part, interior = _before_reshapes(gate)
    take = part.producer
    softmax = take.inputs[0].producer if take is not None and isinstance(take.op, Take) else None
    if take is None or not isinstance(take.op, Take) or softmax is None or not isinstance(softmax.op, Softmax):
        return None
    stack = softmax.inputs[0].producer
    if stack is None or not isinstance(stack.op, Stack) or len(stack.inputs) != 2:
        return None
    if {take.op.axis, softmax.op.axis} != {stack.op.axis}:
        return None
    logits = []
    for value in stack.inputs:
        logit, between = _before_reshapes(value)
        if logit.shape is None or gate.shape is None or logit.shape[1:] != gate.shape[1:] or None in gate.shape[1:]:
            return None
        logits.append(logit)
        interior += between
    inside = (*interior, part, softmax.output, stack.output)
    u, v = logits
    return Share(factor, softmax.output, take.op.index, (u, v), inside)


def _before_reshapes(value: Value) -> tuple[Value, list[Value]]:
    """The value that reshapes were made of, and the values between."""
    between: list[Value] = []
    while value.producer is not None and isinstance(value.producer.op, Reshape):
        between.append(value)
        value = value.producer.inputs[0]
    return value, between


def _mean(value: Value) -> Value | None:
    """What it is the mean of."""
    return value.producer.inputs[0] if value.producer is not None and value.producer.op == GlobalAvgPool() else None
