"""Shapes of one node's results, given those of its inputs.

Inference of the whole model loses a shape where the model computes one (Shape -> Concat -> Reshape), and then all that follow
from it.  `onnx_extents` follows such a shape; from there on each node is asked by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx.defs import SchemaError
from onnx.shape_inference import InferenceError

from repcompiler.ir import Dim, Shape, Value
from repcompiler.ops import Op, Opaque
from repcompiler.refusal import Refusal
from repcompiler.runtime import bodies_of

UNDEFINED = "undefined"
FAILURES = (InferenceError, SchemaError, Refusal, RuntimeError, ValueError, KeyError)
"""What a specification says nothing for: of ONNX's own, of constants that cannot be computed, of names that nothing has."""
TELLING = ("int64", "int32", "float32")
LARGEST = 64
"""Numbers of a constant that says what a shape is."""


def note(
    op: Op, node: onnx_ir.Node, opset: int, inputs: Sequence[Value], results: Sequence[Value], named: Collection[Dim]
) -> None:
    """Fill what inference of the whole model left open of the results of `op`: shapes, and the extents of a typical run."""
    if isinstance(op, Opaque) and (node.domain not in ("", "ai.onnx") or bodies_of(node)):
        return
    exact = [x.shape for x in inputs]
    typical = [x.typical or x.shape for x in inputs]
    if not isinstance(op, Opaque) or any(_is_open(value.shape, named) for value in results):
        for value, shape in zip(results, _results(op, node, opset, inputs, exact), strict=True):
            value.shape = merge(value.shape, shape, named)
    if exact != typical and any(value.typical is None for value in results):
        for value, shape in zip(results, _results(op, node, opset, inputs, typical), strict=True):
            value.typical = value.typical or (None if _is_open(shape) else shape)


def _results(
    op: Op, node: onnx_ir.Node, opset: int, inputs: Sequence[Value], shapes: Sequence[Shape | None]
) -> list[Shape | None]:
    if isinstance(op, Opaque):
        return _infer(node, opset, dict(zip(inputs, shapes, strict=True)))
    return [op.infer_shape(shapes)]


def _infer(node: onnx_ir.Node, opset: int, shapes: Mapping[Value, Shape | None]) -> list[Shape | None]:
    """What the specification of a standard operator says of its results; None for each that it says nothing of."""
    if any(value.dtype == UNDEFINED for value in shapes):
        return [None for _ in node.outputs]
    try:
        types = {value.name: onnx.helper.make_tensor_type_proto(_type(value.dtype), shape) for value, shape in shapes.items()}
        schema = _schema(node.op_type, opset)
        data = {value.name: array for value in shapes if (array := _small(value)) is not None}
        proto, opsets = onnx_ir.serde.serialize_node(node), [onnx.helper.make_opsetid("", opset)]
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=opsets)
    except FAILURES:  # it needs to know more, or the node is not as it should be
        return [None for _ in node.outputs]
    return [_shape(found[value.name]) if value.name in found else None for value in node.outputs]


def merge(stated: Shape | None, inferred: Shape | None, named: Collection[Dim] = ()) -> Shape | None:
    """One shape, its gaps filled by the other: numbers first, then symbols in `named`, for inference makes symbols up."""
    if stated is None or inferred is None or len(stated) != len(inferred):
        return inferred if stated is None else stated
    pairs = zip(stated, inferred, strict=True)
    return tuple(max(pair, key=lambda dim: (isinstance(dim, int), dim in named, dim is not None)) for pair in pairs)


def _is_open(shape: Shape | None, named: Collection[Dim] = ()) -> bool:
    """Whether an extent could still be learnt."""
    return shape is None or not all(isinstance(dim, int) or dim in named for dim in shape)


@cache
def _schema(kind: str, opset: int) -> Any:
    return onnx.defs.get_schema(kind, opset, "")


def _type(name: str) -> int:
    return onnx_ir.DataType[{"float32": "FLOAT", "float64": "DOUBLE"}.get(name, name.upper())]


def _small(value: Value) -> Any:
    """The numbers of a constant that may be a shape, an axis or a length."""
    sizes: Sequence[Dim] = (None,) if value.shape is None else value.shape
    known = [size for size in sizes if isinstance(size, int)]
    if value.constant is None or value.dtype not in TELLING or len(known) < len(sizes) or prod(known) > LARGEST:
        return None
    return onnx.numpy_helper.from_array(np.asarray(value.constant()), value.name)


def _shape(found: Any) -> Shape | None:
    if not found.HasField("tensor_type") or not found.tensor_type.HasField("shape"):
        return None
    dims = found.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims)
