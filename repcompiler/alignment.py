"""Which values of two graphs are the same: by name, then by what makes them and what reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from repcompiler.ir import Graph, Node, Value
from repcompiler.ops import Mul, Sum

Pairs = dict[Value, Value]
"""Values of the second graph by values of the first."""


def align(first: Graph, second: Graph, given: Mapping[Value, Value]) -> Pairs:
    """The pairs `given` (inputs, outputs), values of the same name, and what follows from these.

    Results of operations of one kind on the same operands are the same, and so are the operands of operations of one kind with
    the same result.  Where several qualify, those with the same attributes belong together, then those in the same order.
    """
    pairs = Alignment(given)
    theirs = {value.name: value for value in _values(second)}
    for value in _values(first):
        if value.name in theirs:
            pairs.add(value, theirs[value.name])
    pairs.forward(first, second)
    pairs.backward(first)
    pairs.forward(first, second)
    return pairs.found


class Alignment:
    """Pairs found so far, no value in two of them."""

    def __init__(self, given: Mapping[Value, Value]) -> None:
        self.found: Pairs = dict(given)
        self.taken = {*given.values()}

    def add(self, one: Value, other: Value) -> None:
        """Unless either has another partner or their extents differ."""
        if one in self.found or other in self.taken or one.constant or other.constant or not _fit(one, other):
            return
        self.found[one] = other
        self.taken.add(other)

    def forward(self, first: Graph, second: Graph) -> None:
        """From operands to results."""
        for_operands: defaultdict[Hashable, list[Node]] = defaultdict(list)
        for node in second.topological():
            for_operands[_key(node, {value: value for value in node.inputs})].append(node)
        groups: defaultdict[Hashable, list[Node]] = defaultdict(list)
        order = first.topological()
        for node in order:
            groups[_key(node, {value: value for value in node.inputs})].append(node)
        done: set[Hashable] = set()
        for node in order:
            own = _key(node, {value: value for value in node.inputs})
            known = all(value in self.found or value.constant for value in node.inputs)
            if own not in done and known and any(value in self.found for value in node.inputs):
                done.add(own)
                self._pair(groups[own], for_operands[_key(node, self.found)])

    def _pair(self, ours: Iterable[Node], theirs: Iterable[Node]) -> None:
        """Nodes of one kind on the same operands."""
        ours = [node for node in ours if not any(value in self.found for value in node.outputs)]
        theirs = [node for node in theirs if not any(value in self.taken for value in node.outputs)]
        for alike in (True, False):
            for node in list(ours):
                same = [other for other in theirs if not alike or str(other.op) == str(node.op)]
                if same and (alike or len(ours) == len(theirs)):
                    for one, other in zip(node.outputs, same[0].outputs, strict=False):
                        self.add(one, other)
                    ours.remove(node)
                    theirs.remove(same[0])

    def backward(self, first: Graph) -> None:
        """From results to operands."""
        for node in reversed(first.topological()):
            if node.output not in self.found:
                continue
            maker = self.found[node.output].producer
            if maker is None or maker.op.kind != node.op.kind or len(maker.inputs) != len(node.inputs):
                continue
            operands = list(zip(node.inputs, maker.inputs, strict=True))
            if isinstance(node.op, (Sum, Mul)):  # in any order: only where one is left
                ours = [value for value in node.inputs if value not in self.found]
                theirs = [value for value in maker.inputs if value not in self.taken]
                operands = [(ours[0], theirs[0])] if len(ours) == len(theirs) == 1 else []
            for one, other in operands:
                self.add(one, other)


def _key(node: Node, names: Mapping[Value, Value]) -> Hashable:
    """What is done with which values; the order of terms and factors does not matter."""
    operands = [None if value.constant else names[value] for value in node.inputs]
    if isinstance(node.op, (Sum, Mul)):
        return node.op.kind, len(operands), frozenset(operands)
    return node.op.kind, len(operands), tuple(operands)


def _values(graph: Graph) -> list[Value]:
    return [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]


def _fit(one: Value, other: Value) -> bool:
    """Whether the extents known of both agree."""
    if one.shape is None or other.shape is None:
        return True
    return len(one.shape) == len(other.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(one.shape, other.shape, strict=True)
    )
