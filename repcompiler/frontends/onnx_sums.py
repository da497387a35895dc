"""The ONNX operators that add values: Sum, Mean, and reductions over an axis along which values lie side by side.

    ReduceSum(Concat(Unsqueeze(a), Unsqueeze(b), ...))      a + b + ...

is what exporters make of torch.stack([a, b, ...]).sum(dim).  That is so where the Concat and the reduction are along the axis
that each Unsqueeze makes, and along no other, and the axis goes.  Values side by side have equal extents: nothing broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir

from repcompiler.frontends.expressions import Terms, average, total
from repcompiler.frontends.onnx_lift import Lift, Lifted, Operator, attribute
from repcompiler.frontends.onnx_opaque import made_by
from repcompiler.ir import Value
from repcompiler.ops import Op


def _inputs(lift: Lift, node: onnx_ir.Node) -> Sequence[Value]:
    return [lift.data(node, index) for index in range(len(node.inputs))]


def _stacked(lift: Lift, node: onnx_ir.Node) -> Sequence[Value]:
    """What lies side by side along the axis that a reduction is over; nothing where it is over another, or the axis stays."""
    rank, axes, concat = lift.data(node).rank, lift.integers(node, 1, "axes"), made_by("Concat", node.inputs[0])
    if rank is None or axes is None or concat is None or attribute(node, "keepdims", 1):
        return []
    parts = [made_by("Unsqueeze", part) for part in concat.inputs]
    new = [axes, [attribute(concat, "axis", 1)], *(lift.integers(part, 1, "axes") for part in parts if part is not None)]
    one = {tuple(axis + rank if axis < 0 else axis for axis in each or ()) for each in new}
    return [lift.data(part) for part in parts if part is not None] if None not in parts and len(one) == len(axes) == 1 else []


def _joined(
    addends: Callable[[Lift, onnx_ir.Node], Sequence[Value]], join: Callable[[Sequence[Value]], tuple[Op, Terms]]
) -> Operator:
    """The operator that joins values, none of them a constant."""

    def lifted(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
        values = addends(lift, node)
        return Lifted(*join(values)) if values and all(value.constant is None for value in values) else None

    return lifted


add = _joined(_inputs, total)
mean = _joined(_inputs, average)
reduce_sum = _joined(_stacked, total)
reduce_mean = _joined(_stacked, average)
