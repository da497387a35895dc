"""How much memory a run needs for values at once: liveness, in the order in which operations stand.

A value lives from the operation that makes it to the last one that reads it.  What an operation reads and makes must be there
at once; what works number by number may write over an operand which nobody reads any more, as runtimes do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from repcompiler import ops
from repcompiler.cost import ITEM, extents, prod
from repcompiler.ir import Graph, Shape, Value

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
