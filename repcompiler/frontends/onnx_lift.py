"""From an ONNX graph to the neutral one: what the algebra understands is lifted, everything else stays opaque.

The operators themselves are in `repcompiler.frontends.onnx_ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import onnx_ir

from repcompiler.errors import ModelError
from repcompiler.frontends import onnx_shapes
from repcompiler.frontends.expressions import build
from repcompiler.frontends.onnx_opaque import QUANTISED, STANDARD, opaque
from repcompiler.frontends.onnx_paging import Paging
from repcompiler.frontends.onnx_shapes import UNDEFINED
from repcompiler.frontends.onnx_tensors import dtype_name, read_tensor, shape_of
from repcompiler.frontends.onnx_wellformed import wellformed
from repcompiler.implied import set_aside
from repcompiler.ir import Expr, Graph, Shape, Value
from repcompiler.meaning import meaning
from repcompiler.ops import Constant, Conv, ConvTranspose, Identity, Linear, Op, Opaque, Scale, Select, Take
from repcompiler.refusal import Refusal, refuse
from repcompiler.runtime import NodeRuntime, inputs_of

NDArray = np.ndarray[Any, Any]

FLOATS = ("float32", "float64", "float16", "bfloat16")
PARTS = (Identity, Select, Take)
"""What takes numbers of its operand as they are; a node may be several of these, one a result."""
OLDEST = 7
"""Before this operator set, broadcasting and inference were attributes: nothing of such a model is lifted."""


class Known(NamedTuple):
    """What inference says of a value."""

    shape: Shape | None = None
    dtype: onnx_ir.DataType | None = None
    typical: Shape | None = None
    """The extents of a common input, where some are free."""


Inferred = Mapping[str, Known]


@dataclass(frozen=True)
class Lifted:
    """An operation, the data it reads, and the document's constants it was made from.

    A node whose results are an operation each (Split) is lifted as one `Lifted` a result; a node that is several operations,
    one behind the other (ScatterND), as the last of them, on expressions.
    """

    op: Op
    inputs: tuple[Expr | Value, ...]
    parameters: tuple[Value, ...] = ()


Operator = Callable[["Lift", onnx_ir.Node], "Lifted | Sequence[Lifted] | None"]
Follow = Callable[["Lift", onnx_ir.Node], "NDArray | None"]


class Lift:
    """Builds the neutral graph of one ONNX model.

    `inferred`: what inference says of each value, by name.  `operators`: how to lift each standard operator; a function
    answers None where a node has a form outside the algebra.  `follow`: what is known of a shape that the model computes.
    """

    def __init__(
        self, model: onnx_ir.Model, inferred: Inferred, operators: Mapping[str, Operator], follow: Follow = lambda *_: None
    ) -> None:
        self.model = model
        self.opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
        self.inferred = inferred
        self.operators = operators
        self.follow = follow
        self.named = {dim for value in model.graph.inputs for dim in shape_of(value.shape or ()) if isinstance(dim, str)}
        """Extents that the user has named."""
        self.extents: dict[Value, NDArray] = {}
        """Shapes that the model computes, element by element: numbers, symbols, None."""
        self.runtime = NodeRuntime(model)
        self.values: dict[onnx_ir.Value, Value] = {}
        self.graph = Graph()
        self.graph.let_go = Paging(model).let_go

    def run(self) -> Graph:
        """The graph, nodes in the document's order."""
        source = self.model.graph
        for initializer in source.initializers.values():
            self.declare(initializer)
        self.graph.inputs = [self.declare(value) for value in source.inputs]
        for node in source:
            self.node(node)
        self.graph.outputs = [self.declare(value) for value in source.outputs]
        set_aside(self.graph, lambda node: [self.declare(value) for value in inputs_of(node.origin)])
        return self.graph

    def declare(self, source: onnx_ir.Value) -> Value:
        """The neutral value of a document's value, made on first sight."""
        if source in self.values:
            return self.values[source]
        name = source.name or f"unnamed_{len(self.values)}"
        shape, dtype, typical = self.inferred.get(name, Known())
        shape = shape_of(source.shape) if source.shape is not None else shape
        value = Value(name, shape, dtype_name(source.dtype or dtype), origin=source, typical=typical)
        overridable = source.is_graph_input() and self.model.ir_version >= 4
        if source.is_initializer() and source.const_value is not None and not overridable:
            value.constant = partial(read_tensor, source.const_value, name)
            value.shape = tuple(int(size) for size in source.const_value.shape)  # type: ignore[arg-type]
        self.values[source] = value
        return value

    def node(self, node: onnx_ir.Node) -> None:
        """Lift one node."""
        inputs = [self.declare(value) for value in inputs_of(node)]
        outputs = [self.declare(value) for value in node.outputs]
        try:
            lifted = self.operation(node)
            reason = "" if lifted is None else "it does not compute in floating point"
        except Refusal as refusal:
            lifted, reason = None, str(refusal)
        if isinstance(lifted, Lifted):
            parts = [(lifted, outputs)]
        else:
            parts = [(part, [output]) for part, output in zip(lifted or (), outputs, strict=False) if _is_read(output)]
        if not all(self.note(part, results[0]) for part, results in parts) or not parts:
            parts = [(Lifted(opaque(node, reason, self.runtime), tuple(inputs)), outputs)]
        for part, results in parts:
            operands, within = build(self.graph, part.inputs, results)
            onnx_shapes.note(part.op, node, self.opset, operands, results, self.named)
            made = self.graph.add(part.op, operands, results, part.parameters, node)
            made.parts = within
            self.graph.let_go(made)
            self.mark_constant(node, part.op, operands, inputs, results)
        for output in outputs[:1]:
            self.mark_extents(node, output)

    def operation(self, node: onnx_ir.Node) -> Lifted | Sequence[Lifted] | None:
        """What the algebra knows a node as; None, or a refusal, where it does not."""
        if self.opset < OLDEST:
            refuse(f"operator set {self.opset} is older than {OLDEST}")
        operator = self.operators.get(node.op_type) if node.domain in STANDARD else None
        return None if operator is None else checked(operator, self, node)

    def note(self, lifted: Lifted, result: Value) -> bool:
        """Note the type of a result as far as its operation tells; whether rewriting knows numbers of that type."""
        typed = tuple(value for value in lifted.inputs if isinstance(value, Value))
        if isinstance(lifted.op, (Conv, ConvTranspose, Linear, Scale)):
            typed += lifted.parameters
        if result.dtype == UNDEFINED:
            result.dtype = next((value.dtype for value in typed if value.dtype != UNDEFINED), UNDEFINED)
        return result.dtype in FLOATS or isinstance(lifted.op, (Identity, Constant))

    def mark_constant(
        self, node: onnx_ir.Node, op: Op, operands: Sequence[Value], inputs: Sequence[Value], outputs: Sequence[Value]
    ) -> None:
        """Give `Value.constant` to results that depend on parameters alone."""
        if isinstance(op, Constant):
            outputs[0].constant = lambda: op.array
        elif isinstance(op, PARTS) and operands[0].constant is not None:
            outputs[0].constant = lambda: meaning(op, array_of(operands[0]))
        elif inputs and all(value.constant is not None for value in inputs) and (not isinstance(op, Opaque) or op.foldable):
            folded = cache(partial(self.fold, node, inputs, outputs))
            for index, value in enumerate(outputs):
                value.constant = partial(lambda index: folded()[index], index)

    def mark_extents(self, node: onnx_ir.Node, output: Value) -> None:
        """Note what is known of a result that is computed from shapes: it is a constant where every extent is."""
        known = self.follow(self, node) if node.domain in STANDARD and output.constant is None else None
        if known is not None:
            self.extents[output] = known
            if all(isinstance(size, int) for size in known.reshape(-1)):
                output.constant = lambda: known.astype(output.dtype)

    def fold(self, node: onnx_ir.Node, inputs: Sequence[Value], outputs: Sequence[Value]) -> list[NDArray]:
        """The results of a node of constants alone, or a refusal where the runtime cannot tell."""
        arrays = [array_of(value) for value in inputs]
        try:
            results = self.runtime.evaluate(node, arrays)
        except Exception as error:  # a runtime may raise anything
            refuse(f"onnxruntime does not run {describe(node)}: {next(iter(str(error).splitlines()), '')}")
        for value, array in zip(outputs, results, strict=True):
            value.dtype = array.dtype.name if value.dtype == UNDEFINED else value.dtype
            if array.dtype.name != value.dtype:  # a type that numpy does not know, a sequence, text
                refuse(f"{describe(node)} makes no array of numbers")
        return results

    # What the operator functions below ask.

    def data(self, node: onnx_ir.Node, index: int = 0) -> Value:
        value = node.inputs[index]
        assert value is not None
        return self.declare(value)

    def optional(self, node: onnx_ir.Node, index: int) -> Value | None:
        source = node.inputs[index] if index < len(node.inputs) else None
        return None if source is None else self.declare(source)

    def weight(self, node: onnx_ir.Node, index: int) -> NDArray:
        """The array of a constant floating-point input, all numbers finite; refuses where it depends on data."""
        value = self.data(node, index)
        if value.producer is not None and value.producer.op.kind in QUANTISED:
            refuse(f"'{value.name}' is quantised")
        if value.constant is None or value.dtype not in FLOATS:
            refuse(f"'{value.name}' {'depends on data' if value.constant is None else 'is not in floating point'}")
        array = array_of(value)
        with np.errstate(all="ignore"):
            total = np.sum(array)
        if not np.isfinite(total) and not np.isfinite(array).all():
            raise ModelError(f"{describe(node)}: its weight '{value.name}' contains NaN or infinity")
        return array

    def bias(self, node: onnx_ir.Node, index: int, channels: int) -> NDArray:
        """The same of an optional input: zeros, a number each of `channels`, where it is not given."""
        return np.zeros(channels) if self.optional(node, index) is None else self.weight(node, index)

    def parameters(self, node: onnx_ir.Node) -> tuple[Value, ...]:
        """All inputs but the first, those that are given."""
        return tuple(self.declare(value) for value in node.inputs[1:] if value is not None)

    def expect(self, x: Value, shape: Shape) -> Value:
        """`x`, whose shape an operator that reads it implies where nothing else states it."""
        x.shape = onnx_shapes.merge(x.shape, shape, self.named)
        return x

    def integers(self, node: onnx_ir.Node, index: int, attribute: str) -> list[int] | None:
        """A list of integers that is an attribute in old opsets and an input in new ones; None where it is not given.

        Raises Refusal where it depends on data.
        """
        if attribute in node.attributes:
            return list(node.attributes[attribute].as_ints())
        value = self.optional(node, index)
        if value is None:
            return None
        if value.constant is None:
            refuse(f"'{value.name}' depends on data")
        return [int(number) for number in array_of(value).reshape(-1)]


def attribute(node: onnx_ir.Node, name: str, default: Any) -> Any:
    """The value of an attribute, or the default that its specification states."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def checked(operator: Operator, lift: Lift, node: onnx_ir.Node) -> Lifted | Sequence[Lifted] | None:
    """What `operator` knows a node as; refuses where it is not as its specification says, for a file may say anything."""
    try:
        lifted = operator(lift, node)
    except (ModelError, Refusal):
        raise
    except Exception as error:  # whatever it trips over
        refuse(f"it is not as its specification says ({error})")
    for part in [lifted] if isinstance(lifted, Lifted) else lifted or ():
        given = [value for value in part.inputs if isinstance(value, Value)]
        if len(given) == len(part.inputs):
            wellformed(part.op, given, attribute(node, "kernel_shape", None))
    return lifted


def _is_read(value: Value) -> bool:
    return bool(value.origin.uses()) or value.origin.is_graph_output()


def describe(node: onnx_ir.Node) -> str:
    """A node as users know it."""
    return f"{node.op_type} '{node.name or node.outputs[0].name}'"


def array_of(value: Value) -> NDArray:
    """The array of a constant value."""
    assert value.constant is not None
    return np.asarray(value.constant())
