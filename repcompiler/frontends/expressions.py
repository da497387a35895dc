"""Nodes of a document that are several operations, one behind the other: all but the last are their `Node.parts`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from repcompiler.ir import Expr, Graph, Node, Value
from repcompiler.ops import Identity, Op, Scale, Sum

Terms = tuple[Expr | Value, ...]
"""What the last operation is applied to."""


def build(graph: Graph, terms: Sequence[Expr | Value], results: Sequence[Value]) -> tuple[list[Value], tuple[Node, ...]]:
    """The operands, expressions among them added to the graph; and all nodes behind them that no document has.

    `results`: of the node; after the first new values are named.  A foreign operator may have none, and no expressions.
    """
    operands = [graph.build(term, results[0])[-1].output if isinstance(term, Expr) else term for term in terms]
    within: dict[Node, None] = {}
    pending = [value.producer for value in operands]
    while pending:
        node = pending.pop()
        if node is not None and node.origin is None and node not in within:
            within[node] = None
            pending += [value.producer for value in node.inputs]
    return operands, tuple(within)


def total(values: Sequence[Value]) -> tuple[Op, Terms]:
    """x_1 + ... + x_n."""
    return Sum((1,) * len(values)) if len(values) > 1 else Identity(), tuple(values)


def average(values: Sequence[Value]) -> tuple[Op, Terms]:
    """1/n (x_1 + ... + x_n)."""
    op, terms = total(values)
    return (Scale(np.full(1, 1 / len(values)), np.zeros(1)), (op(*terms),)) if len(values) > 1 else (op, terms)
