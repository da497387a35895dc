"""Shapes computed by the model itself: Shape -> Gather -> Mul -> Concat -> Reshape, with a free batch.

Each such value is known element by element: a number, a symbol of the model, or None.  Where all are numbers it is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import onnx_ir

from repcompiler.frontends.onnx_lift import Lift, NDArray, array_of, attribute
from repcompiler.ir import Shape, Value

LARGEST = 64
"""Numbers of a constant that may take part."""

Arithmetic = Callable[[int, int], "int | None"]

ARITHMETIC: Mapping[str, Arithmetic] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a // b if a >= 0 and b > 0 else None,  # rounding towards zero
}


def follow(lift: Lift, node: onnx_ir.Node) -> NDArray | None:
    """The elements of the one result of `node` (an object array), where it computes with extents; None where it does not."""
    inputs = [lift.declare(value) for value in node.inputs if value is not None]
    if node.op_type == "Shape":
        shape = inputs[0].shape
        return None if shape is None else _objects(shape[attribute(node, "start", 0) : attribute(node, "end", None)])
    if len(inputs) < len(node.inputs) or not any(value in lift.extents for value in inputs):
        return None
    arrays = [array for value in inputs if (array := _known(lift, value)) is not None]
    return _compute(node, arrays) if len(arrays) == len(inputs) else None


def target(known: NDArray, shape: Sequence[Any] | None) -> tuple[int, ...] | None:
    """What a Reshape to these extents says in ONNX's terms: 0 for an extent that stays, -1 for one that is not known."""
    before = shape or ()
    found = [
        0 if isinstance(size, str) and axis < len(before) and before[axis] == size else size if isinstance(size, int) else -1
        for axis, size in enumerate(known.tolist())
    ]
    return tuple(found) if found.count(-1) <= 1 and 0 not in known.tolist() else None


def stated(known: NDArray) -> Shape:
    """The shape that a Reshape to these extents makes, as far as they say."""
    return tuple(None if size in (0, -1) else size for size in known.tolist())


def _compute(node: onnx_ir.Node, arrays: list[NDArray]) -> NDArray | None:
    first, *rest = arrays
    kind = node.op_type
    if kind == "Identity" or (kind == "Cast" and attribute(node, "to", 0) in (onnx_ir.DataType.INT64, onnx_ir.DataType.INT32)):
        return first
    if kind == "Gather" and first.ndim == 1:
        return _objects(first[rest[0].astype(np.int64)])
    if kind == "Concat" and all(array.ndim == 1 for array in arrays):
        return np.concatenate(arrays)
    if kind == "Unsqueeze" and first.ndim == 0:
        return first.reshape(1)
    if kind == "Squeeze" and first.shape == (1,):
        return first.reshape(())
    if kind == "Reshape" and first.size == 1 and all(size in (1, -1) for size in rest[0].tolist()):
        return first.reshape((1,) * len(rest[0]))
    if kind == "Slice" and first.ndim == 1 and len(rest) in (2, 3):
        return first[rest[0].item() : rest[1].item()]
    if kind in ARITHMETIC:
        return _objects(np.frompyfunc(partial(_combine, ARITHMETIC[kind]), 2, 1)(first, rest[0]))
    return None


def _combine(arithmetic: Arithmetic, a: Any, b: Any) -> int | None:
    return arithmetic(a, b) if isinstance(a, int) and isinstance(b, int) else None


def _known(lift: Lift, value: Value) -> NDArray | None:
    if value in lift.extents:
        return lift.extents[value]
    sizes = [size for size in value.shape or () if isinstance(size, int)]
    small = value.rank == len(sizes) and prod(sizes) <= LARGEST
    if value.constant is None or value.dtype not in ("int64", "int32") or not small:
        return None
    return _objects(array_of(value).tolist())


def _objects(values: Any) -> NDArray:
    """An array of Python numbers, symbols and None."""
    array = np.asarray(values, dtype=object)
    return array if array.shape or not isinstance(values, tuple) else array.reshape(0)
