"""Which values of two graphs belong together.

 1. By name, where the model's author gave it: names that an exporter counts up mean nothing.
 2. By structure: results of operations of one kind on the same operands, and operands of operations of one kind with the same
    result; then neighbourhoods that occur once on either side (Weisfeiler-Lehman hashes, by networkx).
 3. By value: results that are the same numbers on a probe.  Equal numbers may be chance, so that is marked.

Neither name nor place is believed against the numbers: a convolution into which a batch norm was folded may have kept its own
name, but has the value of the batch norm.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence

from repcompiler.fingerprints import Fingerprints, close, same_values
from repcompiler.ir import Graph, Node, Value
from repcompiler.ops import Constant, Mul, Sum

Pairs = dict[Value, Value]
"""Values of the second graph by values of the first."""

MADE_UP = re.compile(r"[\d_]*|(\w*[_.])?\d+|[vtx]_?\d+")
"""Names that an exporter counts up: two of them being alike means nothing."""
RADIUS = 3
"""How far around an operation its neighbourhood reaches."""

GIVEN, NAME, STRUCTURE, VALUES, GUESS = "given", "name", "structure", "values", "guess"
"""What says that two values belong together; the last: their place among several of one kind."""


def align(
    first: Graph, second: Graph, given: Mapping[Value, Value], prints: tuple[Fingerprints, Fingerprints] = ({}, {})
) -> Alignment:
    """The pairs `given` (inputs, outputs), values of the same name, what follows from these, and equal values.

    `prints`: of the values that are known on a probe, numbers that tell them from others.
    """
    found = Alignment(first, second, given, prints)
    found.by_name()
    found.follow()
    found.by_neighbourhood()
    found.by_value()
    return found


class Alignment:
    """Pairs found so far, no value in two of them."""

    def __init__(
        self, first: Graph, second: Graph, given: Mapping[Value, Value], prints: tuple[Fingerprints, Fingerprints] = ({}, {})
    ) -> None:
        self.graphs, self.prints = (first, second), prints
        self.orders = first.topological(), second.topological()
        self.found: Pairs = dict(given)
        self.back: Pairs = {other: value for value, other in given.items()}
        self.how = dict.fromkeys(given, GIVEN)
        self.equal = {other: value for value, other in same_values(*prints)}

    def add(self, one: Value, other: Value, how: str) -> bool:
        """Unless either has another partner, their extents differ, or their numbers belie it; whether that was done."""
        if one in self.found or other in self.back or one.constant or other.constant or not _fit(one, other):
            return False
        if self._belied(one, other):
            return False
        self.found[one], self.back[other] = other, one
        self.how[one] = STRUCTURE if how == GUESS and self.is_equal(one, other) else how
        return True

    def is_equal(self, one: Value, other: Value) -> bool:
        """Whether both are known to be the same numbers."""
        known = self.prints[0].get(one), self.prints[1].get(other)
        return known[0] is not None and known[1] is not None and close(known[0], known[1])

    def _belied(self, one: Value, other: Value) -> bool:
        """Whether what looks like this value has the numbers of another one."""
        known = one in self.prints[0] and other in self.prints[1]
        return known and self.equal.get(other, one) is not one and not self.is_equal(one, other)

    def by_name(self) -> None:
        """Values of one name, where people have it in the code or in the graph; inputs of no common name in their order."""
        for attribute in ("path", "name"):
            keys = [{value: getattr(value, attribute) for value in self._free(side)} for side in (0, 1)]
            for one, other in _unique(*keys):
                if keys[0][one] and (attribute == "path" or not MADE_UP.fullmatch(keys[0][one])):
                    self.add(one, other, NAME)

        inputs = ([value for value in self._free(side) if value.producer is None] for side in (0, 1))
        for one, other in zip(*inputs, strict=False):
            self.add(one, other, STRUCTURE)

    def follow(self) -> None:
        """What reads values that belong together, and what is read to make such."""
        self._forward()
        self._backward()
        self._forward()

    def by_neighbourhood(self) -> None:
        """Surroundings that occur once, from wide to narrow; after each, what follows from that."""
        if not all(any(self._free(side)) for side in (0, 1)):
            return
        hashes = [_neighbourhoods(order) for order in self.orders]
        for radius in range(RADIUS):
            keys = [
                {value: known[value.producer][-1 - radius] for value in self._free(side) if value.producer in known}
                for side, known in enumerate(hashes)
            ]
            self._add_all(_unique(*keys), STRUCTURE)

    def by_value(self) -> None:
        """Results of equal numbers."""
        free = [{value: known[value] for value in self._free(side) if value in known} for side, known in enumerate(self.prints)]
        self._add_all(same_values(*free), VALUES)

    def _add_all(self, pairs: Sequence[tuple[Value, Value]], how: str) -> None:
        """These, and what follows from any of them."""
        before = len(self.found)
        for one, other in pairs:
            self.add(one, other, how)
        if len(self.found) > before:
            self.follow()

    def _free(self, side: int) -> Iterator[Value]:
        """What belongs to nothing yet."""
        linked = (self.found, self.back)[side]
        made = (value for node in self.orders[side] if not isinstance(node.op, Constant) for value in node.outputs)
        return (value for value in (*self.graphs[side].inputs, *made) if value not in linked and not value.constant)

    def _forward(self) -> None:
        """From operands to results."""
        for_operands: defaultdict[Hashable, list[Node]] = defaultdict(list)
        for node in self.orders[1]:
            for_operands[_key(node, {value: value for value in node.inputs})].append(node)
        groups: defaultdict[Hashable, list[Node]] = defaultdict(list)
        for node in self.orders[0]:
            groups[_key(node, {value: value for value in node.inputs})].append(node)
        for nodes in groups.values():
            operands = nodes[0].inputs
            known = all(value in self.found or value.constant for value in operands)
            if known and any(value in self.found for value in operands):
                self._pair(nodes, for_operands.get(_key(nodes[0], self.found), []))

    def _pair(self, ours: Sequence[Node], theirs: Sequence[Node]) -> None:
        """Operations of one kind on the same operands: those with the same attributes, then those in the same order."""
        ours = [node for node in ours if not any(value in self.found for value in node.outputs)]
        theirs = [node for node in theirs if not any(value in self.back for value in node.outputs)]
        for alike in (True, False):
            if not alike and len(ours) != len(theirs):
                return
            text = {node: str(node.op) if alike else "" for node in (*ours, *theirs)}
            counts = [Counter(text[node] for node in nodes) for nodes in (ours, theirs)]
            for node in list(ours):
                same = [other for other in theirs if text[other] == text[node]]
                how = STRUCTURE if counts[0][text[node]] == counts[1][text[node]] == 1 else GUESS
                other = next((other for other in same if self.add(node.output, other.output, how)), None)
                if other is not None:
                    for one, result in zip(node.outputs[1:], other.outputs[1:], strict=False):
                        self.add(one, result, how)
                    ours.remove(node)
                    theirs.remove(other)

    def _backward(self) -> None:
        """From results to operands."""
        for node in reversed(self.orders[0]):
            maker = self.found[node.output].producer if node.outputs and node.output in self.found else None
            if maker is None or maker.op.kind != node.op.kind or len(maker.inputs) != len(node.inputs):
                continue
            operands = list(zip(node.inputs, maker.inputs, strict=True))
            if isinstance(node.op, (Sum, Mul)):  # in any order: only where one is left
                ours = [value for value in node.inputs if value not in self.found]
                theirs = [value for value in maker.inputs if value not in self.back]
                operands = [(ours[0], theirs[0])] if len(ours) == len(theirs) == 1 else []
            for one, other in operands:
                self.add(one, other, STRUCTURE)


def _key(node: Node, names: Mapping[Value, Value]) -> Hashable:
    """What is done with which values; the order of terms and factors does not matter."""
    operands = [None if value.constant else names[value] for value in node.inputs]
    if isinstance(node.op, (Sum, Mul)):
        return node.op.kind, len(operands), frozenset(operands)
    return node.op.kind, len(operands), tuple(operands)


def _fit(one: Value, other: Value) -> bool:
    """Whether the extents known of both agree."""
    if one.shape is None or other.shape is None:
        return True
    return len(one.shape) == len(other.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(one.shape, other.shape, strict=True)
    )


def _unique(first: Mapping[Value, Hashable], second: Mapping[Value, Hashable]) -> list[tuple[Value, Value]]:
    """The values whose key occurs once on either side, and is the same."""
    counts = Counter(first.values()), Counter(second.values())
    value_of = {key: value for value, key in second.items()}
    return [(value, value_of[key]) for value, key in first.items() if counts[0][key] == counts[1][key] == 1]


def _neighbourhoods(order: Sequence[Node]) -> dict[Node | None, list[str]]:
    """Of each operation: a hash of everything within 1, 2, ... steps."""
    import networkx as nx  # which loads longer than a small model compiles, and only a difference needs it

    graph = nx.Graph()
    for node in order:
        graph.add_node(node, text=f"{node.op} {node.outputs and node.output.rank} {len(node.inputs)}")
    for node in order:
        graph.add_edges_from((value.producer, node) for value in node.inputs if value.producer in graph)
    hashes: dict[Node | None, list[str]] = nx.weisfeiler_lehman_subgraph_hashes(graph, node_attr="text", iterations=RADIUS)
    return hashes
