"""Tensors, types and shapes of an ONNX file, in numpy's terms and in ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir

from repcompiler.errors import ModelError
from repcompiler.frontends.onnx_shapes import UNDEFINED
from repcompiler.ir import Shape

NDArray = np.ndarray[Any, Any]


def constant_tensor(node: onnx_ir.Node) -> onnx_ir.TensorProtocol | None:
    """The tensor of a Constant node; None where it is text, or sparse.  (`get_const_tensor` renames the tensor.)"""
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, given in node.attributes.items():
        if name in types:
            return onnx_ir.Tensor(np.array(given.value, types[name]))
        if name == "value" and (tensor := given.as_tensor()).dtype != onnx_ir.DataType.STRING:
            return tensor
    return None


def read_tensor(tensor: onnx_ir.TensorProtocol, name: str) -> NDArray:
    """Its numbers; raises ModelError where they are not there."""
    try:
        return tensor.numpy()
    except Exception as error:  # whatever is wrong with its bytes
        raise ModelError(f"'{name}' cannot be read: {error}") from error


def dtype_name(dtype: onnx_ir.DataType | None) -> str:
    """numpy's name of an ONNX element type."""
    name = UNDEFINED if dtype is None else dtype.name.lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def shape_of(shape: onnx_ir.Shape | Sequence[Any]) -> Shape:
    """A shape in neutral terms; some exporters write -1 for what they do not know."""
    dims = (dim if isinstance(dim, int) else getattr(dim, "value", None) for dim in shape)
    return tuple(None if isinstance(dim, int) and dim < 0 else dim for dim in dims)
