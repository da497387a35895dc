"""Slice assignment as exporters write it: ScatterND, often between transpositions that bring the axis to the front.

    out[:, a:b] = v                 concat(out[:, :a], v, out[:, b:])
    out[:, :, :k] = c               frame(crop(out)), for one number a channel
    out = c; out[:, :, a:-b] = v    frame(v)

The document has one node for several operations of ours, which it computes by itself as long as nothing merges with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import onnx_ir

from repcompiler.algebra import float64
from repcompiler.frontends.frames import added, around, overwrite, settled, side_of
from repcompiler.frontends.onnx_grids import ALL, Grids, Size, index_of
from repcompiler.frontends.onnx_lift import FLOATS, Lift, Lifted, array_of, attribute
from repcompiler.frontends.onnx_opaque import STANDARD
from repcompiler.frontends.onnx_sources import Extent, axis_of
from repcompiler.ir import Expr, Node, Value
from repcompiler.ops import Array, Concat, Frame, Identity, Opaque, Pad, PadChannels, Padding, Select, Transpose
from repcompiler.refusal import refuse

Perm = tuple[int, ...]
Constant = tuple[Array, "int | None"]
"""The numbers of a constant along the one axis along which it varies; a single one for none."""


EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
DEPTH = 16
"""Nodes that what is written is followed through."""


def scatter_nd(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """A slice of one value overwritten with another."""
    data, indices, updates = (lift.data(node, place) for place in range(3))
    if data.dtype not in FLOATS or data.rank is None or data.rank < 3 or updates.rank != data.rank:
        return None
    if attribute(node, "reduction", "none") != "none":
        refuse("it adds to what is there")
    index = index_of(lift, indices, data)
    over, under = _uniform(lift, updates), _uniform(lift, data)
    if over is not None and under is not None:
        return None
    if (over is None and updates.constant is not None) or (under is None and data.constant is not None):
        refuse("its constant is not one number a channel")
    (x, perm), (v, order) = _arranged(lift, data), _arranged(lift, updates)
    perm = order if under is not None else perm
    if over is None and order != perm:
        refuse("what it writes has its axes in another order")
    places = {axis: part for axis, part in zip(perm, index, strict=True) if part != ALL}
    if over is not None:
        written = _over(x, places, _per_channel(over, perm, x), EPS[data.dtype])
    elif under is not None:
        sizes = {axis: axis_of(data, place) for place, axis in enumerate(perm)}
        written = _into(v, places, _per_channel(under, perm, v), EPS[data.dtype], sizes)
    else:
        written = _joined(x, _chosen(lift, v), places)
    if perm != tuple(range(len(perm))):
        written = Transpose(perm)(written)
    return Lifted(written.op, written.operands)


def _over(x: Value, places: Mapping[int, slice], value: Array, eps: float) -> Expr:
    """Numbers over the border of a map."""
    rank = x.rank or 0
    side = side_of(tuple(places.get(axis, ALL) for axis in range(rank)), rank)
    if side is None:
        refuse("it writes a constant, and not along a border of the image")
    base, zeros, frame, value = _surroundings(x, value, eps)
    zeros, frame = overwrite(zeros, frame, side)
    extent = axis_of(base, side[0] + 2)
    if -sum(min(amount, 0) for amount in zeros[side[0]]) > (extent if isinstance(extent, int) else 1):
        refuse("the image may have fewer pixels than it writes")
    return around(base, zeros, frame, value)


def _into(v: Value, places: Mapping[int, slice], value: Array, eps: float, sizes: Mapping[int, Extent | int]) -> Expr:
    """A map into a constant."""
    around_it = dict.fromkeys(range(1, len(sizes)), (0, 0))
    for axis, part in places.items():
        size = sizes[axis]
        start, stop = part.start or 0, part.stop or 0
        if isinstance(size, int):
            start, stop = start % size, stop - size if stop > 0 else stop
        if start < 0 or stop > 0 or axis == 0:
            refuse("where it writes depends on the size of the image")
        around_it[axis] = start, -stop
    before, behind = around_it.pop(1)
    if before or behind:
        if value.any() or any(map(any, around_it.values())):
            refuse("it writes some channels into a constant that is not zero, or not all of the image")
        return PadChannels(before, behind)(v)
    base, zeros, frame, value = _surroundings(v, value, eps)
    return around(base, zeros, added(frame, tuple(around_it.values())), value)


def _joined(x: Value, written: Sequence[Value], places: Mapping[int, slice]) -> Expr:
    """Channels of one map in the place of those of another."""
    channels = (x.shape or (None, None))[1]
    if set(places) - {1} or not isinstance(channels, int):
        refuse("it writes to a part of the image, and not to channels")
    part = range(channels)[places.get(1, ALL)]
    parts = [*_channels(x, 0, part.start), *written, *_channels(x, part.stop, channels)]
    return Concat()(*parts) if len(parts) > 1 else Identity()(*parts)


def _channels(x: Value, start: int, stop: int) -> Sequence[Expr | Value]:
    """Channels of a map: parts of a concatenation where they are that."""
    if start == stop:
        return ()
    return _parts(x, start, stop) or (Select(tuple(range(start, stop)))(x),)


def _chosen(lift: Lift, v: Value) -> Sequence[Value]:
    """What is written, as parts of a concatenation where it is that: out[:, a:b] += x writes its own result once more."""
    op = None if v.producer is None else v.producer.op
    if v.producer is None or not isinstance(op, Select) or op.index != tuple(range(op.index[0], op.index[-1] + 1)):
        return (v,)
    x, perm = _arranged(lift, v.producer.inputs[0])
    return (_parts(x, op.index[0], op.index[-1] + 1) if perm == tuple(range(len(perm))) else ()) or (v,)


def _parts(x: Value, start: int, stop: int) -> Sequence[Value]:
    """The parts of a concatenation that begin and end at these channels; none where they do not."""
    made = x.producer
    sizes = (
        [(part.shape or (None, None))[1] for part in made.inputs] if made is not None and isinstance(made.op, Concat) else []
    )
    known = [size for size in sizes if isinstance(size, int)]
    ends = [*accumulate(known, initial=0)]
    if made is None or len(known) < len(sizes) or start not in ends or stop not in ends:
        return ()
    return made.inputs[ends.index(start) : ends.index(stop)]


def _surroundings(x: Value, value: Array, eps: float) -> tuple[Value, Padding, Padding, Array]:
    """(map, zeros, frame, value): what x is made of, so far as it is a map in zeros, and these in a frame of that value."""
    none: Padding = ((0, 0),) * ((x.rank or 2) - 2)
    framing = x.producer.op if x.producer is not None and isinstance(x.producer.op, Frame) else None
    inner = x.producer.inputs[0] if framing is not None and x.producer is not None else x
    padding = inner.producer.op.padding if inner.producer is not None and isinstance(inner.producer.op, Pad) else None
    base = inner.producer.inputs[0] if padding is not None and inner.producer is not None else inner
    value = settled(value, base.producer, eps)
    if framing is not None and not np.array_equal(framing.value, value):
        return x, none, none, value
    return base, padding or none, none if framing is None else framing.padding, value


def _per_channel(constant: Constant, perm: Perm, x: Value) -> Array:
    """A number for each channel of x, from a constant whose axes are those of x in the order `perm`."""
    vector, axis = constant
    channels = (x.shape or (None, None))[1]
    if not isinstance(channels, int) or (axis is not None and (perm[axis] != 1 or len(vector) != channels)):
        refuse("it writes a constant that is not one number a channel")
    return np.broadcast_to(vector, channels)


def _uniform(lift: Lift, value: Value, depth: int = DEPTH) -> Constant | None:
    """A constant of any extents that varies along one axis at most, as its numbers along that axis."""
    if value.constant is not None:
        array = np.asarray(array_of(value))
        if not array.size or not np.isfinite(array).all():
            return None
        varying = [axis for axis in range(array.ndim) if (array != array.take([0], axis)).any()]
        if len(varying) > 1:
            return None
        line = tuple(ALL if axis in varying else 0 for axis in range(array.ndim))
        return float64(array[line]).reshape(-1), varying[0] if varying else None
    node = value.producer
    kind = "" if node is None else _kind(node)
    if node is None or not kind or not depth or not node.origin.inputs:
        return None
    if kind == "ConstantOfShape":
        fill = node.origin.attributes.get("value")
        return np.zeros(1) if fill is None else float64(fill.as_tensor().numpy()).reshape(-1), None
    if kind not in ("Expand", "Identity", "Reshape", "Slice", "Transpose"):
        return None
    found, x = _uniform(lift, lift.data(node.origin), depth - 1), lift.data(node.origin)
    if found is None:
        return None
    (vector, axis), op = found, node.op
    if axis is None:
        return found
    if kind == "Transpose" and isinstance(op, Transpose):
        return vector, op.perm.index(axis)
    if kind == "Expand" and value.rank is not None and x.rank is not None:
        return vector, axis + value.rank - x.rank
    if kind == "Reshape":  # in row-major order the axes up to this one stay
        before, after = _sizes(lift, x), Grids(lift).extents(lift.data(node.origin, 1))
        return found if after and len(before) == len(after) and before[: axis + 1] == after[: axis + 1] else None
    kept = isinstance(op, Identity) or (isinstance(op, Pad) and max(map(max, op.padding)) <= 0)
    return found if kept else None


def _arranged(lift: Lift, value: Value) -> tuple[Value, Perm]:
    """(x, perm) with value = transpose(x, perm), as far back as only transpositions, and what changes nothing, lie between."""
    perm: Perm = tuple(range(value.rank or 0))
    while (node := value.producer) is not None:
        if isinstance(node.op, Transpose):
            perm = tuple(node.op.perm[axis] for axis in perm)
        elif not isinstance(node.op, Identity) and not _is_same(lift, node):
            break
        value = node.inputs[0]
    return value, perm


def _kind(node: Node) -> str:
    """The standard operator that a node is in the document; none for a part of one."""
    return node.origin.op_type if isinstance(node.origin, onnx_ir.Node) and node.origin.domain in STANDARD else ""


def _is_same(lift: Lift, node: Node) -> bool:
    """Whether an Expand or Reshape has the extents of what it reads."""
    kind = _kind(node)
    if kind not in ("Expand", "Reshape") or len(node.origin.inputs) < 2:
        return False
    x, target = lift.data(node.origin), Grids(lift).extents(lift.data(node.origin, 1))
    if target is None or len(target) != x.rank:
        return False
    kept, sizes = 1 if kind == "Expand" else 0, _sizes(lift, x)
    other = [size for size, given in zip(target, sizes, strict=True) if size not in (kept, given)]
    return len(other) <= (kind == "Reshape")


def _sizes(lift: Lift, value: Value, depth: int = DEPTH) -> list[Size]:
    """The extents of a value, of what Expand makes too: a number but 1 is the extent of all that broadcasts with it."""
    node = value.producer
    if node is None or not isinstance(node.op, Opaque) or node.op.label != "Expand" or not depth:
        return [axis_of(value, axis) for axis in range(value.rank or 0)]
    given, target = _sizes(lift, node.inputs[0], depth - 1), Grids(lift).extents(node.inputs[1])
    if target is None or len(given) > len(target):
        return []
    own = [axis_of(value, axis) for axis in range(len(target))]
    return [_wider(*sizes) for sizes in zip([1] * (len(target) - len(given)) + given, target, own, strict=True)]


def _wider(one: Size, other: Size, unknown: Size) -> Size:
    """The extent to which two broadcast; any of two that are not known may be 1."""
    numbers = [size for size in (one, other) if isinstance(size, int) and size != 1]
    if numbers:
        return numbers[0]
    return one if other in (1, one) else other if one == 1 else unknown
