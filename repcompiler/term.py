"""A pattern that captures an expression: what makes a value, back to operations of given classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from repcompiler.ir import Expr, Graph, Value
from repcompiler.ops import Op
from repcompiler.pattern import Match, Pattern
from repcompiler.region import HORIZON, Scope


def term(
    name: str, until: tuple[type[Op], ...], through: tuple[type[Op], ...], where: Callable[[Op], bool] = lambda op: True
) -> TermPattern:
    """A value captured as the expression that makes it: private operations `through` which a rule can go, `until` these.

    `term("y", until=(Conv,), through=(Relu, Sum))` captures Relu()(Sum((1, 1))(conv(x), z)): operands that lead to none of the
    ends (z) stay values.  The ends themselves are captured, with the values they read; an end alone is no match.  `where` says
    which of the operations `until` are ends.
    """
    return TermPattern(name, until, through, where)


class TermPattern(Pattern):
    """What `term` makes."""

    def __init__(
        self, name: str, until: tuple[type[Op], ...], through: tuple[type[Op], ...], where: Callable[[Op], bool]
    ) -> None:
        self.name, self.until, self.through, self.where = name, until, through, where

    def match_value(self, value: Value, match: Match, scope: Scope) -> Iterator[Match]:
        interior: list[Value] = []
        found = self._unfold(value, scope.graph, HORIZON, interior)
        if isinstance(found, Expr) and not (isinstance(found.op, self.until) and self.where(found.op)):
            bound = match.bind(self.name, found)
            if bound is not None:
                yield bound.inside(*interior)

    def _unfold(self, value: Value, graph: Graph, horizon: int, interior: list[Value]) -> Expr | Value:
        node = value.producer
        if node is None or not horizon:
            return value
        if isinstance(node.op, self.until) and self.where(node.op):
            interior.append(value)
            return node.op(*node.inputs)
        if not isinstance(node.op, self.through):
            return value
        parts = [self._unfold(x, graph, horizon - 1, interior) if graph.is_private(x) else x for x in node.inputs]
        if all(isinstance(part, Value) for part in parts):
            return value
        interior.append(value)
        return node.op(*parts)
