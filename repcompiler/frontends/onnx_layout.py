"""The ONNX operators that only move numbers: one function each, in the table `LAYOUT`.

Each returns what `Lift` is to put in the node's place (`Lifted`), or None where this node has a form outside the algebra.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from repcompiler.frontends.onnx_lift import FLOATS, Lift, Lifted, Operator, array_of, attribute
from repcompiler.ops import Concat, Constant, Identity, Pad, Reshape, Select, Subsample, Transpose

END = 2**31 - 1
"""An end this large means 'to the end' in a Slice."""


def _pad(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    x = lift.data(node)
    pads, fill = lift.integers(node, 1, "pads"), lift.optional(node, 2)
    axes = lift.integers(node, 3, "axes")
    zero = attribute(node, "value", 0.0) == 0 and (fill is None or (fill.constant is not None and not np.any(fill.constant())))
    if attribute(node, "mode", "constant") != "constant" or pads is None or not zero or x.rank is None or x.rank < 3:
        return None
    if x.dtype not in FLOATS or (axes is None and lift.optional(node, 3) is not None):
        return None
    axes = list(range(x.rank)) if axes is None else [axis % x.rank for axis in axes]
    amounts = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    if any(amounts.get(axis, (0, 0)) != (0, 0) for axis in (0, 1)):
        return None
    padding = tuple(amounts.get(axis, (0, 0)) for axis in range(2, x.rank))
    return Lifted(Pad(padding), (x,), lift.parameters(node))


def _slice(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Some channels; or a crop, or every s-th pixel, of the spatial axes."""
    x, channels = lift.data(node), _channels(lift, node)
    starts, ends = lift.integers(node, 1, "starts"), lift.integers(node, 2, "ends")
    if starts is None or ends is None or x.rank is None or x.rank < 3 or x.dtype not in FLOATS:
        return None
    axes = lift.integers(node, 3, "axes") or list(range(len(starts)))
    steps = lift.integers(node, 4, "steps") or [1] * len(starts)
    if channels is not None and [axis % (x.rank or 1) for axis in axes] == [1]:
        index = range(channels)[slice(starts[0], ends[0] if abs(ends[0]) < END else None, steps[0])]
        return Lifted(Select(tuple(index)), (x,), lift.parameters(node)) if len(index) else None
    crop, stride = {}, {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis, size = axis % x.rank, x.shape[axis % x.rank] if x.shape else None
        if end > 0 and isinstance(size, int):
            end = end - size if end < size else END
        if start < 0 and isinstance(size, int):
            start = max(start + size, 0)
        if start == 0 and end >= END and step == 1:
            continue
        if axis < 2 or start < 0 or step < 1 or 0 <= end < END:
            return None
        if step > 1 and (start or end < END):
            return None
        crop[axis], stride[axis] = (-start, end if end < 0 else 0), step
    if any(step > 1 for step in stride.values()):
        whole = not any(map(any, crop.values()))
        return Lifted(Subsample(tuple(stride.get(a, 1) for a in range(2, x.rank))), (x,)) if whole else None
    return Lifted(Pad(tuple(crop.get(axis, (0, 0)) for axis in range(2, x.rank))), (x,), lift.parameters(node))


def _identity(lift: Lift, node: onnx_ir.Node) -> Lifted:
    return Lifted(Identity(), (lift.data(node),), lift.parameters(node))


def _dropout(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Inference only: no mask asked for, and no training_mode input but a constant false."""
    mode = lift.optional(node, 2)
    training = mode is not None and (mode.constant is None or bool(np.any(mode.constant())))
    if lift.opset < 7 or training or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return None
    return None if len(node.outputs) > 1 else _identity(lift, node)


def _cast(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    target = onnx_ir.DataType(attribute(node, "to", 0))
    source = node.inputs[0].dtype if node.inputs[0] is not None else None
    return _identity(lift, node) if source == target else None


def _constant(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    tensor = onnx_ir.convenience.get_const_tensor(node.outputs[0])
    return None if tensor is None else Lifted(Constant(tensor.numpy()), ())


def _channels(lift: Lift, node: onnx_ir.Node) -> int | None:
    """The known number of channels of an image-like operand, of which an operator may take some."""
    x = lift.data(node)
    known = x.shape is not None and len(x.shape) > 2 and x.dtype in FLOATS and x.constant is None
    return x.shape[1] if known and x.shape is not None and isinstance(x.shape[1], int) else None


def _concat(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    parts = [lift.data(node, index) for index in range(len(node.inputs))]
    ranks = {part.rank for part in parts}
    axis = attribute(node, "axis", 1)
    if None in ranks or len(ranks) > 1 or any(part.constant is not None or part.dtype not in FLOATS for part in parts):
        return None
    rank = parts[0].rank or 0
    return Lifted(Concat(), tuple(parts)) if rank > 2 and axis % rank == 1 else None


def _split(lift: Lift, node: onnx_ir.Node) -> Sequence[Lifted] | None:
    channels, count = _channels(lift, node), len(node.outputs)
    x = lift.data(node)
    if channels is None or attribute(node, "axis", 0) % len(x.shape or ()) != 1:
        return None
    sizes = lift.integers(node, 1, "split")
    if sizes is None:
        if lift.optional(node, 1) is not None or channels % count:
            return None
        sizes = [channels // count] * count
    starts = np.cumsum([0, *sizes])
    parts = [tuple(range(start, start + size)) for start, size in zip(starts, sizes, strict=False)]
    return [Lifted(Select(tuple(map(int, index))), (x,), lift.parameters(node)) for index in parts]


def _gather(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    channels, index, x = _channels(lift, node), lift.optional(node, 1), lift.data(node)
    if channels is None or attribute(node, "axis", 0) % len(x.shape or ()) != 1 or index is None or index.constant is None:
        return None
    chosen = array_of(index)
    if chosen.ndim != 1 or (np.abs(chosen) >= channels).any():
        return None
    return Lifted(Select(tuple(int(number) % channels for number in chosen)), (x,), (index,))


def _reshape(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    target = lift.integers(node, 1, "shape")
    if target is None or attribute(node, "allowzero", 0) or lift.data(node).constant is not None:
        return None
    return Lifted(Reshape(tuple(target)), (lift.data(node),), lift.parameters(node))


def _transpose(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    perm = attribute(node, "perm", None)
    return None if perm is None or lift.data(node).constant is not None else Lifted(Transpose(tuple(perm)), (lift.data(node),))


def _shape(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """A number list, where every extent is known."""
    shape = lift.data(node).shape
    if shape is None or not all(isinstance(size, int) for size in shape):
        return None
    part = slice(attribute(node, "start", 0), attribute(node, "end", None))
    return Lifted(Constant(np.array(shape[part], np.int64)), (), (lift.data(node),))


LAYOUT: dict[str, Operator] = {
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Dropout": _dropout,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
