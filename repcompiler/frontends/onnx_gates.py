"""The ONNX operators that gates are made of: what weighs values against each other, by numbers that depend on data.

Each returns what `Lift` is to put in the node's place; None, or a refusal, where this node has a form outside the algebra.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir

from repcompiler.frontends import onnx_activations as activations
from repcompiler.frontends.onnx_lift import FLOATS, Lift, Lifted, array_of, attribute
from repcompiler.frontends.onnx_sources import axis_of
from repcompiler.ir import Dim, Value
from repcompiler.ops import GlobalAvgPool, Identity, Reshape, Sigmoid, Softmax, Stack, Take


def sigmoid(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Of each number."""
    return Lifted(Sigmoid(), (lift.data(node),))


def softmax(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Along one axis; before opset 13 along all from that axis on, which is one where it is the last."""
    x, axis = lift.data(node), attribute(node, "axis", -1 if lift.opset >= 13 else 1)
    if x.rank is None or (lift.opset < 13 and axis % x.rank != x.rank - 1):
        return None
    return Lifted(Softmax(axis % x.rank), (x,))


def global_average_pool(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Over all pixels."""
    x = lift.data(node)
    return Lifted(GlobalAvgPool(), (x,)) if x.rank is not None and x.rank > 2 else None


def reduce_mean(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Over all pixels."""
    x, axes = lift.data(node), lift.integers(node, 1, "axes")
    if x.rank is None or axes is None:
        return None
    pixels = x.rank > 2 and sorted(axis % x.rank for axis in axes) == list(range(2, x.rank))
    dropped = 0 if attribute(node, "keepdims", 1) else x.rank - 2
    return Lifted(GlobalAvgPool(dropped), (x,), lift.parameters(node)) if pixels else None


def expand(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """To the shape of a value that multiplies it, and nothing else does: the product does that by itself."""
    x, shape = node.inputs[:2]
    maker = None if shape is None else shape.producer()
    if x is None or maker is None or maker.op_type != "Shape" or {"start", "end"} & set(maker.attributes):
        return None
    (other,), (result,) = maker.inputs, node.outputs
    readers = [reader for reader, _ in result.uses()]
    if result.is_graph_output() or not readers or any(reader.op_type != "Mul" for reader in readers):
        return None
    if any(set(reader.inputs) != {result, other} for reader in readers):
        return None
    return Lifted(Identity(), (lift.data(node),), lift.parameters(node))


def stack(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """A concatenation along another axis than the channels, of which each part has one number."""
    parts = tuple(lift.data(node, index) for index in range(len(node.inputs)))
    rank, axis = parts[0].rank, attribute(node, "axis", 1)
    if rank is None or any(part.shape is None or part.rank != rank or part.constant is not None for part in parts):
        return None
    single = all(part.shape is not None and part.shape[axis % rank] == 1 for part in parts)
    return Lifted(Stack(axis % rank, new=False), parts) if single and parts[0].dtype in FLOATS else None


def take_each(lift: Lift, node: onnx_ir.Node) -> Sequence[Lifted] | None:
    """A split into single numbers."""
    x, axis = lift.data(node), attribute(node, "axis", 0)
    sizes = lift.integers(node, 1, "split")
    parts = range(len(node.outputs))
    if x.shape is None or x.shape[axis] != len(parts) or (sizes is not None and set(sizes) != {1}):
        return None
    return [Lifted(Take(axis % len(x.shape), index, keep=True), (x,), lift.parameters(node)) for index in parts]


def take(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """One number of an axis, by a constant that is one, or a list of one."""
    x, index, axis = lift.data(node), lift.data(node, 1), attribute(node, "axis", 0)
    if x.shape is None or x.dtype not in FLOATS or index.constant is None or x.constant is not None:
        return None
    chosen, extent = array_of(index), x.shape[axis]
    if chosen.size != 1 or chosen.ndim > 1 or not isinstance(extent, int) or not -extent <= int(chosen.item()) < extent:
        return None
    number = int(chosen.item()) % extent
    return Lifted(Take(axis % len(x.shape), number, keep=chosen.ndim == 1), (x,), lift.parameters(node))


def where(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """An activation; or one of two values, by a constant that chooses the same everywhere, and that neither enlarges."""
    condition, *values = (lift.data(node, place) for place in range(3))
    if condition.constant is None:
        return activations.where(lift, node)
    if any(value.dtype not in FLOATS for value in values):
        return None
    chosen, other = values if (array := array_of(condition)).all() else values[::-1]
    if chosen.constant is not None or array.any() != array.all() or not array.size:
        return None
    if not (_fits(condition, chosen) and _fits(other, chosen)):
        return None
    return Lifted(Identity(), (chosen,), tuple(value for value in (condition, other) if value is not chosen))


def _fits(value: Value, into: Value) -> bool:
    """Whether a value broadcasts to the extents of another at every size."""
    if value.shape is None or into.shape is None or len(value.shape) > len(into.shape):
        return False
    first = len(into.shape) - len(value.shape)
    return all(size == 1 or axis_of(value, axis) == axis_of(into, first + axis) for axis, size in enumerate(value.shape))


def unsqueeze(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """New axes of one number."""
    x, axes = lift.data(node), lift.integers(node, 1, "axes")
    if x.shape is None or axes is None:
        return None
    rank = len(x.shape) + len(axes)
    new, old = {axis % rank for axis in axes}, iter(x.shape)
    return _reshaped(lift, node, [1 if axis in new else next(old) for axis in range(rank)])


def squeeze(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Without these axes, of one number each."""
    x, axes = lift.data(node), lift.integers(node, 1, "axes")
    if x.shape is None or axes is None:
        return None
    gone = {axis % len(x.shape) for axis in axes}
    return _reshaped(lift, node, [size for axis, size in enumerate(x.shape) if axis not in gone])


def _reshaped(lift: Lift, node: onnx_ir.Node, sizes: Sequence[Dim]) -> Lifted | None:
    """With a symbol where it stands as 0, elsewhere as what is inferred."""
    x = lift.data(node)
    stays = {axis for axis, (size, old) in enumerate(zip(sizes, x.shape or (), strict=False)) if size == old is not None}
    target = tuple(size if isinstance(size, int) else 0 if axis in stays else -1 for axis, size in enumerate(sizes))
    if target.count(-1) > 1 or x.dtype not in FLOATS or x.constant is not None or not target:
        return None
    return Lifted(Reshape(target), (x,), lift.parameters(node))
