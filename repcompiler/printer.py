"""A graph as text: one node a line, the same text for the same graph, made to be read in a before/after test.

    graph(%x: [?, 8, ?, ?])
      %conv1 = Conv(%x) 8->16 3x3 padding=1 bias : [?, 16, ?, ?]
      %y = BatchNorm(%conv1) : [?, 16, ?, ?]
      return %y

Only what differs from the default is shown; weights are not.
"""

from __future__ import annotations

from collections.abc import Sequence

from repcompiler.algebra import known_zero
from repcompiler.ir import Dim, Graph, Node, Shape
from repcompiler.ops import Op, Sum

DEFAULTS = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, "axis": 1, "eps": 1e-5}
"""Attributes that are shown, by their names in torch, and the value with which they are not."""


def render(graph: Graph) -> str:
    """The graph as text, producers before users.

    A `?` stands for an extent that is not known, `[...]` for a shape of which not even the rank is.
    """
    inputs = ", ".join(f"{value!r}: {render_shape(value.shape)}" for value in graph.inputs)
    outputs = ", ".join(map(repr, graph.outputs))
    return "\n".join([f"graph({inputs})", *(f"  {render_node(node)}" for node in graph.topological()), f"  return {outputs}"])


def render_node(node: Node) -> str:
    """One node: `results = operation(operands) attributes : shapes of the results`."""
    results = ", ".join(map(repr, node.outputs))
    kind = str(node.op) if isinstance(node.op, Sum) else node.op.kind
    operands = ", ".join(map(repr, node.inputs))
    shapes = ", ".join(render_shape(value.shape) for value in node.outputs)
    return " ".join([results, "=", f"{kind}({operands})", *attributes(node.op), ":", shapes])


def render_shape(shape: Shape | None) -> str:
    """A shape in brackets."""
    return "[...]" if shape is None else f"[{', '.join(map(_dim, shape))}]"


def attributes(op: Op) -> list[str]:
    """What `op` is beyond its kind: channels, kernel size, what differs from `DEFAULTS`, and `bias` unless it is zero."""
    shown = []
    if hasattr(op, "in_channels") and hasattr(op, "out_channels"):
        shown.append(f"{op.in_channels}->{op.out_channels}")
    if hasattr(op, "kernel_size"):
        shown.append(_axes(op.kernel_size))
    for name, default in DEFAULTS.items():
        value = getattr(op, name, default)
        text = str(value) if not isinstance(value, tuple) else _axes(value[:1] if len(set(value)) == 1 else value)
        if text != str(default):
            shown.append(f"{name}={text}")
    if hasattr(op, "bias") and not known_zero(op.bias):
        shown.append("bias")
    return shown


def _dim(dim: Dim) -> str:
    return "?" if dim is None else str(dim)


def _axes(values: Sequence[int | tuple[int, int]]) -> str:
    """One number an axis, `before:after` where the two sides of a padding differ."""
    sides = (value if isinstance(value, tuple) else (value, value) for value in values)
    return "x".join(str(before) if before == after else f"{before}:{after}" for before, after in sides)
