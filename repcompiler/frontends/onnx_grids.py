"""Indices that a model computes: Shape -> Gather -> Range -> Slice -> Unsqueeze, as the slices of axes that they name.

Arrays of indices are followed as symbols: a `Grid` counts through a slice of some axis along one of its own dimensions, and is
the same along all others.  An extent that is not known stands for itself: the axis of a value, and what was added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir

from repcompiler.frontends.onnx_lift import Lift, NDArray, array_of, attribute
from repcompiler.frontends.onnx_opaque import STANDARD
from repcompiler.frontends.onnx_sources import Extent, axis_of
from repcompiler.ir import Value
from repcompiler.refusal import refuse

ALL = slice(None)
LONGEST = 16
"""Numbers of a list of extents."""
FAR = 2**20
"""Places from an end; those that are farther are not followed."""
LAST = 2**31 - 1
"""An end this large means 'to the end'."""
RANGES = "its indices are not one range an axis"
COMPUTED = "its indices are computed, and not one range an axis at every size"


@dataclass(frozen=True)
class Part:
    """The extent of a slice of an axis."""

    whole: Extent
    start: int | None
    stop: int | None


Size = int | Extent | Part


@dataclass(frozen=True)
class Grid:
    """An array of integers that counts through `index`, a slice of an axis of extent `whole`, along its dimension `along`.

    `whole` is None where the numbers themselves are known, `along` is None where there is one number only, and beyond all
    dimensions where what it counts is not followed.
    """

    shape: tuple[Size, ...]
    along: int | None
    index: slice
    whole: Extent | int | None = None


def index_of(lift: Lift, indices: Value, data: Value) -> tuple[slice, ...]:
    """The slices, one an axis of `data`, that indices name as ScatterND takes them; refuses what is no such box."""
    rank = data.rank or 0
    found: list[slice] = []
    if indices.constant is not None:
        array = array_of(indices)
        if array.ndim - 1 != array.shape[-1]:
            refuse(RANGES)
        for axis in range(min(array.shape[-1], rank)):
            numbers = np.moveaxis(array[..., axis], axis, 0).reshape(array.shape[axis], -1)
            first = numbers[0, 0] if numbers.size else 0
            if not numbers.size or (numbers != first + np.arange(len(numbers))[:, None]).any():
                refuse(RANGES)
            found.append(slice_of(int(first), int(first) + len(numbers), axis_of(data, axis)))
    else:
        grids = Grids(lift).components(indices)
        if grids is None or len(grids) > rank:
            refuse(COMPUTED)
        for axis, grid in enumerate(grids):
            whole = axis_of(data, axis)
            if len(grid.shape) != len(grids) or grid.along not in (None, axis) or grid.whole not in (None, whole):
                refuse(COMPUTED)
            if grid.shape[axis] != (1 if grid.along is None else _count(grid)):
                refuse("it writes to one place more than once")
            found.append(grid.index if grid.whole is not None else slice_of(grid.index.start, grid.index.stop, whole))
    return (*found, *(ALL,) * (rank - len(found)))


def slice_of(start: int, stop: int, whole: Extent | int) -> slice:
    """Places from `start` to `stop`, negative ones counted from the end: as slice(None, k), slice(-k, None) or slice(a, -b)."""
    if start < 0 < stop or (isinstance(whole, int) and not -whole <= start < stop <= whole):
        refuse(RANGES)
    if not isinstance(whole, int):
        return slice(start or None, stop or None)
    start, stop = (start + whole, stop + whole) if start < 0 else (start, stop)
    if not start:
        return slice(None, None if stop == whole else stop)
    return slice(start - whole, None) if stop == whole else slice(start, stop - whole)


def _count(grid: Grid) -> Size:
    if grid.whole is None:
        return int(grid.index.stop - grid.index.start)
    if isinstance(grid.whole, int):
        return len(range(grid.whole)[grid.index])
    return grid.whole if grid.index == ALL else Part(grid.whole, grid.index.start, grid.index.stop)


class Grids:
    """What is known of the arrays of one computation of indices."""

    def __init__(self, lift: Lift) -> None:
        self.lift = lift
        self.known: dict[Value, Grid | None] = {}
        self.lists: dict[Value, list[Size] | None] = {}

    def components(self, indices: Value) -> list[Grid] | None:
        """The index along each axis: what is put side by side along the last dimension."""
        node = _node(indices)
        parts = [indices]
        if node is not None and node.op_type == "Concat":
            rank = indices.rank or 0
            if attribute(node, "axis", 0) not in (-1, rank - 1):
                return None
            parts = [self.lift.data(node, place) for place in range(len(node.inputs))]
        grids = [self.grid(part) for part in parts]
        found = [grid for grid in grids if grid is not None and grid.shape and grid.shape[-1] == 1]
        return [replace(grid, shape=grid.shape[:-1]) for grid in found] if len(found) == len(parts) else None

    def grid(self, value: Value) -> Grid | None:
        """An array as a grid, if it is one."""
        if value not in self.known:
            self.known[value] = None  # while it is looked at
            self.known[value] = _constant(array_of(value)) if value.constant is not None else self._computed(_node(value))
        return self.known[value]

    def _computed(self, node: onnx_ir.Node | None) -> Grid | None:
        if node is None or not node.inputs:
            return None
        if node.op_type == "Range":
            start, limit, step = (self.lift.data(node, place) for place in range(3))
            whole = self.extent(limit)
            counts = _constants(start) == [0] and _constants(step) == [1] and isinstance(whole, (int, Extent))
            return Grid((whole,), 0, ALL, whole) if counts and isinstance(whole, (int, Extent)) else None
        x = self.grid(self.lift.data(node))
        if x is None or node.op_type == "Identity" or _is_integral(node):
            return x
        if node.op_type in ("Add", "Expand"):
            other = self.lift.data(node, 1)
            added = self.grid(other) if node.op_type == "Add" else None
            sizes = self.extents(other) if node.op_type == "Expand" else None if added is None else added.shape
            shape = None if sizes is None else _broadcast(x.shape, tuple(sizes))
            if shape is None:
                return None
            return Grid(shape, len(shape), ALL) if node.op_type == "Add" else _placed(x, shape, len(shape) - len(x.shape))
        if node.op_type in ("Reshape", "Unsqueeze"):
            return self._reshaped(node, x)
        return self._sliced(node, x) if node.op_type == "Slice" else None

    def _reshaped(self, node: onnx_ir.Node, x: Grid) -> Grid | None:
        """Dimensions of one place before and behind."""
        if node.op_type == "Unsqueeze":
            axes = self.lift.integers(node, 1, "axes") or []
            rank = len(x.shape) + len(axes)
            new = {axis % rank for axis in axes}
            old = [place for place in range(rank) if place not in new]
        else:
            target = self.lift.integers(node, 1, "shape") or []
            rank, old = len(target), [place for place, size in enumerate(target) if size != 1]
            if len(x.shape) != 1 or len(old) != 1 or target[old[0]] != -1:
                return None
        sizes = [x.shape[old.index(place)] if place in old else 1 for place in range(rank)]
        return replace(x, shape=tuple(sizes), along=None if x.along is None else [*old, *range(rank, rank + 1)][x.along])

    def _sliced(self, node: onnx_ir.Node, x: Grid) -> Grid | None:
        start, stop, axis, step = (_constants(self.lift.optional(node, place)) for place in range(1, 5))
        if len(x.shape) != 1 or x.index != ALL or x.whole is None or axis not in (None, [0]) or step not in (None, [1]):
            return None
        if start is None or stop is None or len(start) != 1 or len(stop) != 1:
            return None
        part = slice(start[0] or None, None if stop[0] >= LAST else stop[0])
        if max(abs(part.start or 0), abs(part.stop or 0)) > FAR:
            return None
        if isinstance(x.whole, int):
            numbers = range(x.whole)[part]
            part = slice_of(numbers.start, numbers.stop, x.whole) if numbers else slice(0, 0)
        sliced = replace(x, index=part)
        return replace(sliced, shape=(_count(sliced),))

    def extent(self, value: Value) -> Size | None:
        """A single number that may be an extent."""
        found = self.extents(value)
        return found[0] if found is not None and len(found) == 1 else None

    def extents(self, value: Value) -> list[Size] | None:
        """The numbers of a list that are extents, or known."""
        if value.constant is not None:
            return [*(_constants(value) or [])]
        if value not in self.lists:
            self.lists[value] = None  # while it is looked at
            node = _node(value)
            found = self._listed(node) if node is not None and node.inputs else None
            self.lists[value] = found if found is not None and len(found) <= LONGEST else None
        return self.lists[value]

    def _listed(self, node: onnx_ir.Node) -> list[Size] | None:
        if node.op_type == "Shape":
            x = self.lift.data(node)
            grid = self.grid(x) if x.dtype in ("int64", "int32") else None
            shape = [axis_of(x, axis) for axis in range(x.rank or 0)] if grid is None else grid.shape
            return [*shape[attribute(node, "start", 0) : attribute(node, "end", None)]] if shape else None
        if node.op_type == "Where":
            return self._chosen(node)
        operands = range(len(node.inputs)) if node.op_type == "Concat" else range(1)
        parts = [self.extents(self.lift.data(node, place)) for place in operands]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        sizes = [size for part in known for size in part]
        first, last = (_constants(self.lift.optional(node, place)) for place in (1, 2))
        if node.op_type in ("Identity", "Concat") or _is_integral(node):
            return sizes
        if node.op_type in ("Reshape", "Squeeze", "Unsqueeze"):
            return sizes if len(sizes) == 1 else None
        if node.op_type == "Gather" and first is not None:
            return [sizes[place] for place in first]
        if node.op_type == "Slice" and len(node.inputs) < 5 and first is not None and last is not None:
            return sizes[first[0] : last[0]]
        return None

    def _chosen(self, node: onnx_ir.Node) -> list[Size] | None:
        """Where(extents == -1, ..., extents): what exporters write for expand, and never true."""
        condition, sizes = _node(self.lift.data(node)), self.extents(self.lift.data(node, 2))
        if (
            condition is None
            or condition.op_type != "Equal"
            or sizes is None
            or any(isinstance(n, int) and n < 0 for n in sizes)
        ):
            return None
        compared, never = self.extents(self.lift.data(condition)), _constants(self.lift.data(condition, 1))
        return sizes if compared == sizes and never is not None and max(never, default=0) < 0 else None


def _node(value: Value) -> onnx_ir.Node | None:
    """What computes a value in the document, if it is standard."""
    node = None if value.origin is None else value.origin.producer()
    return node if node is not None and node.domain in STANDARD and all(x is not None for x in node.inputs[:2]) else None


def _is_integral(node: onnx_ir.Node) -> bool:
    """Whether a cast keeps integers."""
    return node.op_type == "Cast" and attribute(node, "to", 0) in (onnx_ir.DataType.INT64, onnx_ir.DataType.INT32)


def _constants(value: Value | None) -> list[int] | None:
    if value is None or value.constant is None:
        return None
    return [int(number) for number in array_of(value).reshape(-1)]


def _constant(array: NDArray) -> Grid | None:
    """Known numbers that count up along one dimension, or are one number."""
    varying = [axis for axis, size in enumerate(array.shape) if size > 1]
    if not array.size or len(varying) > 1:
        return None
    first, count = int(array.reshape(-1)[0]), array.size
    if (array.reshape(-1) != first + np.arange(count)).any():
        return None
    return Grid(tuple(array.shape), varying[0] if varying else None, slice(first, first + count))


def _placed(x: Grid, shape: tuple[Size, ...], before: int) -> Grid:
    """The same with further dimensions before."""
    return replace(x, shape=shape, along=None if x.along is None else x.along + before)


def _broadcast(one: Sequence[Size], other: Sequence[Size]) -> tuple[Size, ...] | None:
    rank = max(len(one), len(other))
    pairs = zip((*(1,) * (rank - len(one)), *one), (*(1,) * (rank - len(other)), *other), strict=True)
    sizes = [a if a == b or b == 1 else b if a == 1 else None for a, b in pairs]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == rank else None
