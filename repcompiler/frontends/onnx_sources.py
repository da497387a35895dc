"""Where the extent of an axis comes from, if it is not known: two that come from one place are equal at every size."""

from __future__ import annotations

from dataclasses import dataclass

from repcompiler.ir import Node, Value
from repcompiler.ops import (
    ACTIVATIONS,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Frame,
    Identity,
    MaxPool,
    Op,
    Opaque,
    Pad,
    Scale,
    Select,
    Sum,
    Transpose,
)

KEEPING = (*ACTIVATIONS, BatchNorm, Identity, Scale)
"""Operations whose result has the extents of what they read."""
SUMS = 4
"""Sums in sums that are looked into."""


@dataclass(frozen=True)
class Extent:
    """So many more than the pixels along an axis of a value."""

    value: Value
    axis: int
    more: int = 0


def axis_of(value: Value, axis: int, sums: int = SUMS) -> Extent | int:
    """The extent of an axis: a number, or where it comes from."""
    more = 0
    while True:
        shape = value.shape or ()
        size = shape[axis] if axis < len(shape) else None
        if isinstance(size, int):
            return size + more
        node = value.producer
        if node is None or not node.inputs:
            return Extent(value, axis, more)
        if isinstance(node.op, Sum) and sums and len(node.inputs) == 2:
            same = {axis_of(x, axis, sums - 1) for x in node.inputs if x.rank == value.rank}
            if len(same) != 1 or any(x.rank != value.rank for x in node.inputs):
                return Extent(value, axis, more)
            (found,) = same
            return found + more if isinstance(found, int) else Extent(found.value, found.axis, found.more + more)
        added = 0 if _sliced_elsewhere(node, axis) else _added(node.op, axis)
        if added is None:
            return Extent(value, axis, more)
        axis = node.op.perm[axis] if isinstance(node.op, Transpose) else axis
        value, more = node.inputs[0], more + added


def _sliced_elsewhere(node: Node, axis: int) -> bool:
    """Whether this is a slice of other axes, which are known."""
    if not isinstance(node.op, Opaque) or node.op.label != "Slice" or len(node.inputs) < 4 or node.inputs[3].constant is None:
        return False
    axes = [int(number) for number in node.inputs[3].constant()]
    return min(axes) >= 0 and axis not in axes


def _added(op: Op, axis: int) -> int | None:
    """How many pixels an operation adds along an axis to those of its first operand; None where it does not just add."""
    if isinstance(op, (*KEEPING, Transpose)) or (isinstance(op, Opaque) and op.label == "ScatterND"):
        return 0
    if isinstance(op, (AvgPool, Concat, Conv, Frame, MaxPool, Pad, Select)) and axis == 0:
        return 0
    if isinstance(op, (Concat, Select)):
        return 0 if axis > 1 else None
    if isinstance(op, (Frame, Pad)) and axis > 1:
        return sum(op.padding[axis - 2])
    if isinstance(op, (AvgPool, Conv, MaxPool)) and axis > 1 and op.stride[axis - 2] == 1:
        dilation = 1 if isinstance(op, AvgPool) else op.dilation[axis - 2]
        return sum(op.padding[axis - 2]) - dilation * (op.kernel_size[axis - 2] - 1)
    return None
