"""The ONNX operators that move channels, and the shapes they are told by.

Each returns what `Lift` is to put in the node's place; None, or a refusal, where this node has a form outside the algebra.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod

import numpy as np
import onnx_ir

from repcompiler.frontends import onnx_extents as extents
from repcompiler.frontends.onnx_lift import Lift, Lifted, NDArray, array_of, attribute
from repcompiler.frontends.onnx_opaque import made_by
from repcompiler.ir import Shape, Value
from repcompiler.ops import Concat, Constant, Reshape, Select, Transpose
from repcompiler.refusal import refuse


def channels_of(x: Value, axis: int) -> int:
    """The number of channels of an image-like value, which `axis` must be the axis of; refuses anything else."""
    if x.shape is None or len(x.shape) < 3 or axis % len(x.shape) != 1:
        refuse("it does not act on the channels of an image")
    count = x.shape[1]
    if not isinstance(count, int):
        refuse("the number of channels is not known")
    return count


def per_channel(array: NDArray, shape: Shape | None) -> tuple[NDArray, int] | None:
    """A broadcast constant as (vector, axis), where it varies along one axis of `shape` at most and does not enlarge it."""
    vector = array.astype(np.float64).reshape(-1)
    if array.ndim > len(shape or ()) or not array.size:
        return None
    if array.size == 1:
        return vector, 1
    assert shape is not None
    axis = next(index for index, size in enumerate(array.shape) if size > 1) + len(shape) - array.ndim
    if shape[axis] != array.size:
        return None  # it varies along several axes, or would enlarge one whose extent is 1 or unknown
    return vector, axis


def concat(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Along channels, where every part is data."""
    parts = tuple(lift.data(node, index) for index in range(len(node.inputs)))
    if any(part.constant is not None or part.rank != parts[0].rank for part in parts):
        return None
    rank = parts[0].rank
    return Lifted(Concat(), parts) if rank is not None and rank > 2 and attribute(node, "axis", 1) % rank == 1 else None


def split(lift: Lift, node: onnx_ir.Node) -> Sequence[Lifted] | None:
    """Along channels: each part is a selection."""
    x, parts = lift.data(node), len(node.outputs)
    channels = channels_of(x, attribute(node, "axis", 0))
    sizes = lift.integers(node, 1, "split")
    if sizes is None and (lift.optional(node, 1) is not None or channels % parts):
        return None
    stops = list(accumulate(sizes or [channels // parts] * parts))
    ranges = [range(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
    return [Lifted(Select(tuple(part)), (x,), lift.parameters(node)) for part in ranges]


def sequence_at(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """One part of a SplitToSequence along channels: how PyTorch's exporter writes `chunk` and `split`."""
    made, place = made_by("SplitToSequence", node.inputs[0]), lift.data(node, 1)
    if made is None or place.constant is None:
        return None
    x, given = lift.data(made), lift.optional(made, 1)
    channels, index = channels_of(x, attribute(made, "axis", 0)), int(array_of(place))
    if given is None or given.constant is None:
        return None
    sizes = array_of(given)
    width = 1 if sizes.ndim else int(sizes)
    parts = sizes.tolist() if sizes.ndim else [min(width, channels - start) for start in range(0, channels, width)]
    if sum(parts) != channels or not -len(parts) <= index < len(parts):
        return None
    first = sum(parts[: index % len(parts)])
    return Lifted(Select(tuple(range(first, first + parts[index]))), (x,), lift.parameters(node))


def gather(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Channels by a constant list."""
    x, index = lift.data(node), lift.data(node, 1)
    channels = channels_of(x, attribute(node, "axis", 0))
    chosen = None if index.constant is None else array_of(index)
    if chosen is None or chosen.ndim != 1 or not chosen.size or (chosen < -channels).any() or (chosen >= channels).any():
        return None
    return Lifted(Select(tuple(int(number) % channels for number in chosen)), (x,), lift.parameters(node))


def reshape(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """To a constant shape, or one computed from extents."""
    x, wanted, parameters = lift.data(node), lift.optional(node, 1), lift.parameters(node)
    target: Sequence[int] | None
    if wanted is not None and (known := lift.extents.get(wanted)) is not None:
        lift.expect(lift.declare(node.outputs[0]), extents.stated(known))
        target, parameters = extents.target(known, x.shape), ()
    else:
        target = lift.integers(node, 1, "shape")
        if target is not None and attribute(node, "allowzero", 0) and 0 in target:
            return None
    if target is None:
        return None
    return Lifted(Reshape(tuple(target)), (x,), parameters)


def flatten(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """All axes but the batch as one, or all but the last (tokens)."""
    x = lift.data(node)
    if x.shape is None or len(x.shape) < 2:
        return None
    rest, axis = x.shape[1:], attribute(node, "axis", 1) % len(x.shape)
    if axis == len(rest) > 1 and isinstance(rest[-1], int):
        return Lifted(Reshape((-1, rest[-1])), (x,))
    if axis != 1:
        return None
    known = [size for size in rest if isinstance(size, int)]
    return Lifted(Reshape((0, prod(known) if len(known) == len(rest) else -1)), (x,))


def transpose(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """In a stated order."""
    perm = attribute(node, "perm", None)
    if perm is None:
        return None
    return _chosen(lift, node, perm) or Lifted(Transpose(tuple(perm)), (lift.data(node),))


def _chosen(lift: Lift, node: onnx_ir.Node, perm: Sequence[int]) -> Lifted | None:
    """x[:, [2, 0, 1]] as PyTorch's exporter writes it: GatherND along the first axis, with the channels there for so long."""
    gathered = made_by("GatherND", node.inputs[0])
    swapped = None if gathered is None else made_by("Transpose", gathered.inputs[0])
    if gathered is None or swapped is None or attribute(gathered, "batch_dims", 0):
        return None
    there, back, index = attribute(swapped, "perm", ()), tuple(perm), lift.data(gathered, 1)
    if tuple(there) != back or back[:2] != (1, 0) or back[2:] != tuple(range(2, len(back))) or index.constant is None:
        return None
    x, chosen = lift.data(swapped), array_of(index)
    channels = channels_of(x, 1)
    if x.constant is not None or chosen.ndim != 2 or chosen.shape[1] != 1 or not chosen.size:
        return None
    if (chosen < -channels).any() or (chosen >= channels).any():
        return None
    return Lifted(Select(tuple(int(number) % channels for number in chosen[:, 0])), (x,))


def shape(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """A list of numbers, where every extent is one."""
    extents = lift.data(node).shape
    if extents is None or not all(isinstance(size, int) for size in extents):
        return None
    part = slice(attribute(node, "start", 0), attribute(node, "end", None))
    return Lifted(Constant(np.array(extents[part], np.int64)), ())
