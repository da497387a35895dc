"""New nodes and initializers of an ONNX model.  Weights are rounded here, once, to the value's type."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
import onnx_ir

from repcompiler.ir import Shape, Value

NDArray = np.ndarray[Any, Any]

Made = dict[tuple[Any, ...], onnx_ir.Value]
"""The new initializers of a graph, by type, shape and a hash of their numbers."""


class Writer:
    """The nodes and initializers of one operation whose result is `output`.

    `shape` is stated of it; `anchor`: the node they take the place of; `fresh` makes a wished name unique.  Initializers `made`
    before serve again where they hold the same numbers.
    """

    def __init__(
        self,
        model: onnx_ir.Model,
        output: Value,
        shape: Shape | None,
        anchor: onnx_ir.Node,
        fresh: Callable[[str], str],
        made: Made,
    ) -> None:
        self.opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
        self.output, self.shape = output, shape
        self.name = anchor.name
        self.heir = output.origin is not None and len(anchor.outputs) == 1
        """Whether the first node bears the old one's name: of several outputs, each would want it."""
        self.fresh, self.made = fresh, made
        self.dtype = onnx_ir.DataType.FLOAT if output.dtype == "undefined" else _data_type(output.dtype)
        self.nodes: list[onnx_ir.Node] = []
        self.initializers: list[onnx_ir.Value] = []

    def initializer(self, suffix: str, array: NDArray, dtype: onnx_ir.DataType | None = None) -> onnx_ir.Value:
        """A new constant, rounded to the type of the result (integers as they are)."""
        if dtype is None and array.dtype.kind in "fV":
            array = array.astype(self.dtype.numpy(), order="C")
        array = np.asarray(array, order="C")
        key = (array.dtype, dtype, array.shape, sha256(array.tobytes()).digest())
        if key in self.made:
            return self.made[key]
        name = self.fresh(f"{self.output.name}{suffix}")
        tensor = onnx_ir.Tensor(array, dtype=dtype, name=name)
        value = onnx_ir.Value(name=name, type=onnx_ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        self.initializers.append(value)
        self.made[key] = value
        return value

    def _node(self, kind: str, *inputs: onnx_ir.Value | None, **attributes: Any) -> onnx_ir.Value:
        attrs = onnx_ir.convenience.convert_attributes(attributes)
        name = self.name if not self.name or (self.heir and not self.nodes) else self.fresh(self.name)
        shape = None if self.shape is None else onnx_ir.Shape(self.shape)
        result = onnx_ir.Value(name=self.fresh(self.output.name), type=onnx_ir.TensorType(self.dtype), shape=shape)
        self.nodes.append(onnx_ir.Node("", kind, inputs, attrs, outputs=[result], name=name))
        return result

    def _by_channel(self, constants: NDArray) -> NDArray:
        assert self.output.rank is not None, "the frontend lifts constants of a known axis"
        return constants.reshape(-1, *(1,) * (self.output.rank - 2))


def _data_type(name: str) -> onnx_ir.DataType:
    return onnx_ir.DataType[{"float32": "FLOAT", "float64": "DOUBLE"}.get(name, name.upper())]
