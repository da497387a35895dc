"""How much memory a run needs for values at once: liveness, in the order in which operations stand.

A value lives from the operation that makes it to the last one that reads it.  What an operation reads and makes must be there
at once; what works number by number may write over an operand which nobody reads any more, as runtimes do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import TypeVar

from repcompiler import ops
from repcompiler.cost import ITEM, extents, prod, size_of
from repcompiler.ir import Expr, Graph, Node, Shape, Value

IN_PLACE = (
    *(ops.BatchNorm, ops.Clip, ops.Gated, ops.Identity, ops.Mul, ops.PRelu, ops.Relu, ops.Reshape),
    *(ops.Scale, ops.Sigmoid, ops.Softmax, ops.Sum),
)
"""What may write its result over an operand of the same size."""

T = TypeVar("T", bound=Hashable)
Step = tuple[ops.Op, Sequence[T], Sequence[T]]
"""An operation, what it reads, and what it makes."""


def peak(steps: Sequence[Step[T]], given: Iterable[T], kept: Iterable[T], size: Callable[[T], int]) -> int:
    """The most bytes that are needed at once; `given` are there from the start, `kept` to the end."""
    stays = set(kept)
    last = {value: index for index, (_, operands, _) in enumerate(steps) for value in operands}
    live = {value: size(value) for value in given if value in last or value in stays}
    most = total = sum(live.values())
    for index, (op, operands, results) in enumerate(steps):
        dying = {value: live[value] for value in operands if value in live and last[value] == index and value not in stays}
        made = {value: size(value) for value in results}
        over = isinstance(op, IN_PLACE) and sum(made.values()) in dying.values()
        total += sum(made.values())
        most = max(most, total - sum(made.values()) * over)
        live |= made
        unread = [value for value in made if value not in last and value not in stays]
        total -= sum(live.pop(value) for value in (*dying, *unread))
    return most


def peak_of_graph(graph: Graph, shape: Callable[[Value], Shape | None]) -> int:
    """Of a whole graph, 4 bytes a number; what depends on parameters alone, and what has no known rank, counts nothing."""

    def size(value: Value) -> int:
        known = shape(value)
        return 0 if known is None or value.constant is not None else ITEM * prod(extents(known))

    steps = [(node.op, node.inputs, node.outputs) for node in graph.topological()]
    return peak(steps, graph.inputs, graph.outputs, size)


def peak_of_block(output: Value, nodes: Collection[Node]) -> int:
    """Of the operations that make one value; what they read is there from the start.  Free extents: those to reckon with."""
    order: dict[Node, None] = {}
    pending = [(output.producer, False)]
    while pending:
        node, known = pending.pop()
        if node is None or node not in nodes or node in order:
            continue
        if known:
            order[node] = None
        else:
            pending += [(node, True), *((operand.producer, False) for operand in node.inputs[::-1])]
    given = dict.fromkeys(operand for node in order for operand in node.inputs if operand.producer not in order)
    return peak([(node.op, node.inputs, node.outputs) for node in order], given, [output], _bytes)


def peak_of_term(term: Expr | Value | None, output: Shape | None) -> int:
    """The same of an expression for a value of that shape."""
    if not isinstance(term, Expr):
        return 0 if term is None else _bytes(term)
    parts = term.parts()
    given = dict.fromkeys(operand for part in parts for operand in part.operands if isinstance(operand, Value))
    steps = [(part.op, part.operands, [part]) for part in parts]
    return peak(steps, given, [term], lambda part: ITEM * prod(extents(output)) if part is term else _bytes(part))


def _bytes(term: Expr | Value) -> int:
    if isinstance(term, Value) and term.constant is not None:
        return 0
    return ITEM * prod(extents(size_of(term)))
