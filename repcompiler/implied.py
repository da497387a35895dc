"""Nodes that compute what their readers' operations know: extents that a frontend has followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repcompiler.ir import Graph, Node, Value


def set_aside(graph: Graph, read: Callable[[Node], Sequence[Value]]) -> None:
    """Take out the nodes that only the document still reads: their readers' operations know what they compute.

    `read` says what the document's form of a node reads.
    """
    parts = {part for node in graph.nodes for part in node.parts}
    wanted = {value for node in graph.nodes if node not in parts for value in read(node)}
    aside: set[Node] = set()
    for node in reversed(graph.topological()):
        if graph.is_dead(node) and (node in parts or not wanted.isdisjoint(node.outputs)):
            aside.add(node)
            del graph.nodes[node]
            for value in dict.fromkeys((*node.inputs, *node.parameters)):
                del value.uses[node]
    for node in (node for node in graph.nodes if node not in parts):
        implied: dict[Node, None] = {}
        consulted: dict[Value, None] = {}
        pending = [value for value in read(node) if value not in node.inputs and value not in node.parameters]
        while pending:
            value = pending.pop()
            if value.producer not in aside:
                consulted[value] = None
            elif value.producer not in implied:
                implied[value.producer] = None
                pending += read(value.producer)
        node.implied, node.consulted = tuple(implied), tuple(consulted)
