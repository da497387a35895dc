"""From an ONNX graph to the neutral one: what the algebra understands is lifted, everything else stays opaque.

The operators themselves are in `repcompiler.frontends.onnx_arithmetic` and `onnx_layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import onnx_ir

from repcompiler.errors import ModelError
from repcompiler.ir import Graph, Shape, Value
from repcompiler.ops import Constant, Identity, Op, Opaque
from repcompiler.runtime import NodeRuntime, captured, inputs_of

NDArray = np.ndarray[Any, Any]

UNDEFINED = "undefined"
FLOATS = ("float32", "float64", "float16", "bfloat16")
STANDARD = ("", "ai.onnx")
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout")
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")

Inferred = Mapping[str, tuple[Shape | None, onnx_ir.DataType | None]]


@dataclass(frozen=True)
class Lifted:
    """An operation, the data it reads, and the document's constants it was made from.

    A node with several results that are each an operation of their own (Split) is lifted as one `Lifted` a result.
    """

    op: Op
    inputs: tuple[Value, ...]
    parameters: tuple[Value, ...] = ()


Operator = Callable[["Lift", onnx_ir.Node], "Lifted | Sequence[Lifted] | None"]


class Lift:
    """Builds the neutral graph of one ONNX model.

    `inferred`: what shape inference says of each value, by name.  `operators`: how to lift each standard operator; a function
    answers None where a node has a form outside the algebra.
    """

    def __init__(self, model: onnx_ir.Model, inferred: Inferred, operators: Mapping[str, Operator]) -> None:
        self.model = model
        self.opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
        self.inferred = inferred
        self.operators = operators
        self.runtime = NodeRuntime(model)
        self.values: dict[onnx_ir.Value, Value] = {}
        self.graph = Graph()

    def run(self) -> Graph:
        """The graph, nodes in the document's order."""
        source = self.model.graph
        for initializer in source.initializers.values():
            self.declare(initializer)
        self.graph.inputs = [self.declare(value) for value in source.inputs]
        for node in source:
            self.node(node)
        self.graph.outputs = [self.declare(value) for value in source.outputs]
        return self.graph

    def declare(self, source: onnx_ir.Value) -> Value:
        """The neutral value of a document's value, made on first sight."""
        if source in self.values:
            return self.values[source]
        name = source.name or f"unnamed_{len(self.values)}"
        shape, dtype = self.inferred.get(name, (None, None))
        shape = shape_of(source.shape) if source.shape is not None else shape
        value = Value(name, shape, dtype_name(source.dtype or dtype), origin=source)
        overridable = source.is_graph_input() and self.model.ir_version >= 4
        if source.is_initializer() and source.const_value is not None and not overridable:
            value.constant = source.const_value.numpy
            value.shape = tuple(int(size) for size in source.const_value.shape)  # type: ignore[arg-type]
        self.values[source] = value
        return value

    def node(self, node: onnx_ir.Node) -> None:
        """Lift one node."""
        inputs = [self.declare(value) for value in inputs_of(node)]
        outputs = [self.declare(value) for value in node.outputs]
        lifted = None
        if node.domain in STANDARD and node.op_type in self.operators:
            lifted = self.operators[node.op_type](self, node)
        if lifted is None:
            lifted = self.opaque(node, inputs)
        if isinstance(lifted, Lifted):
            parts = [(lifted, outputs)]
        else:
            parts = [(part, [output]) for part, output in zip(lifted, outputs, strict=True)]
        for part, results in parts:
            shape = part.op.infer_shape([value.shape for value in part.inputs])
            results[0].shape = _merge(results[0].shape, shape)
            if results[0].dtype == UNDEFINED and not isinstance(part.op, Opaque) and part.inputs:
                results[0].dtype = part.inputs[0].dtype
            self.graph.add(part.op, part.inputs, results, part.parameters, node)
            self.mark_constant(node, part.op, inputs, results)

    def opaque(self, node: onnx_ir.Node, inputs: Sequence[Value]) -> Lifted:
        """A node that no rewrite looks into."""
        label = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
        foldable = node.domain in STANDARD and node.op_type not in (*RANDOM, *QUANTISED) and not captured(node)
        op = Opaque(label, lambda arrays: self.runtime.evaluate(node, arrays), foldable)
        return Lifted(op, tuple(inputs))

    def mark_constant(self, node: onnx_ir.Node, op: Op, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        """Give `Value.constant` to results that depend on parameters alone."""
        if isinstance(op, Constant):
            outputs[0].constant = lambda: op.array
        elif inputs and all(value.constant is not None for value in inputs):
            if isinstance(op, Identity):
                outputs[0].constant = inputs[0].constant
            elif not isinstance(op, Opaque) or op.foldable:
                evaluated = cache(lambda: self.runtime.evaluate(node, [array_of(value) for value in inputs]))
                for index, value in enumerate(outputs):
                    value.constant = partial(lambda index: evaluated()[index], index)

    # What the operator functions below ask.

    def data(self, node: onnx_ir.Node, index: int = 0) -> Value:
        value = node.inputs[index]
        assert value is not None
        return self.declare(value)

    def optional(self, node: onnx_ir.Node, index: int) -> Value | None:
        source = node.inputs[index] if index < len(node.inputs) else None
        return None if source is None else self.declare(source)

    def weight(self, node: onnx_ir.Node, index: int) -> NDArray | None:
        """The array of a constant floating-point input, all numbers finite; None where it is not constant."""
        value = self.optional(node, index)
        if value is None or value.constant is None or value.dtype not in FLOATS:
            return None
        array = np.asarray(value.constant())
        if not np.isfinite(np.sum(array)) and not np.isfinite(array).all():
            raise ModelError(f"{describe(node)}: its weight '{value.name}' contains NaN or infinity")
        return array

    def parameters(self, node: onnx_ir.Node) -> tuple[Value, ...]:
        """All inputs but the first, those that are given."""
        return tuple(self.declare(value) for value in node.inputs[1:] if value is not None)

    def expect(self, x: Value, shape: Shape) -> Value:
        """`x`, whose shape an operator that reads it implies where nothing else states it."""
        x.shape = _merge(x.shape, shape)
        return x

    def integers(self, node: onnx_ir.Node, index: int, attribute: str) -> list[int] | None:
        """A list of integers that is an attribute in old opsets and a constant input in new ones."""
        if attribute in node.attributes:
            return list(node.attributes[attribute].as_ints())
        value = self.optional(node, index)
        if value is None or value.constant is None:
            return None
        return [int(number) for number in np.asarray(value.constant()).reshape(-1)]


def describe(node: onnx_ir.Node) -> str:
    """A node as users know it."""
    return f"{node.op_type} '{node.name or node.outputs[0].name}'"


def attribute(node: onnx_ir.Node, name: str, default: Any) -> Any:
    """The value of an attribute, or the specification's default."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def array_of(value: Value) -> NDArray:
    """The array of a constant value."""
    assert value.constant is not None
    return np.asarray(value.constant())


def dtype_name(dtype: onnx_ir.DataType | None) -> str:
    """numpy's name of an ONNX element type."""
    name = UNDEFINED if dtype is None else dtype.name.lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def shape_of(shape: onnx_ir.Shape | Sequence[Any]) -> Shape:
    """A shape in neutral terms; some exporters write -1 for what they do not know."""
    dims = (dim if isinstance(dim, int) else getattr(dim, "value", None) for dim in shape)
    return tuple(None if isinstance(dim, int) and dim < 0 else dim for dim in dims)


def _merge(stated: Shape | None, inferred: Shape | None) -> Shape | None:
    """The document's shape, its gaps filled by what the operation implies."""
    if stated is None or inferred is None or len(stated) != len(inferred):
        return inferred if stated is None else stated
    return tuple(b if isinstance(b, int) or a is None else a for a, b in zip(stated, inferred, strict=True))
