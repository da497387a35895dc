"""What writes the nodes of a plan: names, weights, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from fuzz_plans import Shape
from onnx import helper

NDArray = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
END = 2**31 - 1


class Emitter:
    """Nodes and tensors so far; a value is known by its name."""

    def __init__(self, shapes: Sequence[Shape], opset: int) -> None:
        self.shapes, self.opset = shapes, opset
        self.names: list[str] = []
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}
        self.known: dict[int, tuple[str, NDArray]] = {}
        self.splits: dict[Any, list[str]] = {}
        self.count = 0

    @property
    def shape(self) -> Shape:
        """Of the value that is being emitted."""
        return self.shapes[len(self.names)]

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind.lower()}{self.count}"

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = self.name(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, array: NDArray, style: int = 0) -> str:
        """An initializer, one for each array; or a Constant node, or an initializer behind an Identity."""
        if id(array) not in self.known:
            name = self.name("w")
            tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
            if style % 5 == 1:
                name = self.node("Constant", [], value=tensor)
            else:
                self.tensors[name] = tensor
                if style % 5 == 2:
                    name = self.node("Identity", [name])
            self.known[id(array)] = name, array
        return self.known[id(array)][0]

    def integers(self, numbers: Sequence[int], scalar: bool = False) -> str:
        name = self.name("i")
        self.tensors[name] = onnx.numpy_helper.from_array(np.array(numbers[0] if scalar else numbers, np.int64), name)
        return name

    def number(self, value: float) -> str:
        name = self.name("c")
        self.tensors[name] = onnx.numpy_helper.from_array(np.array(value, np.float32), name)
        return name

    def kernel(self, a: Attrs, style: int) -> str:
        """A weight, perhaps as an expression of parameters."""
        name = self.weight(a["weight"], style)
        if a.get("computed") == "scaled":
            return self.node("Mul", [self.node("Mul", [name, self.number(2.0)]), self.number(0.5)])
        if a.get("computed") == "transposed":
            perm = [1, 0, *range(2, a["weight"].ndim)]
            return self.node("Transpose", [self.node("Transpose", [name], perm=perm)], perm=perm)
        if a.get("computed") == "sum":
            half = self.number(0.5)
            return self.node("Add", [self.node("Mul", [name, half]), self.node("Mul", [name, half])])
        return name

    def flat_shape(self, x: str) -> str:
        """(batch, -1), computed."""
        batch = self.node("Gather", [self.node("Shape", [x]), self.integers([0], scalar=True)], axis=0)
        first = self.node("Unsqueeze", [batch, self.integers([0])])
        return self.node("Concat", [first, self.integers([-1])], axis=0)


def pads_of(pads: Sequence[tuple[int, int]]) -> list[int]:
    return [before for before, _ in pads] + [after for _, after in pads]
