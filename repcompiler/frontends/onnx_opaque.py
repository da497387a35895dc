"""The ONNX operators that no rewrite looks into: what is known of them all the same, and why they are left alone."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import onnx
import onnx_ir

from repcompiler.ops import Opaque
from repcompiler.runtime import NodeRuntime, bodies_of, captured

STANDARD = ("", "ai.onnx")
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout")
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
LINEAR = ("Conv", "ConvTranspose", "BatchNormalization", "Gemm", "MatMul", "AveragePool", "Pad", "ScatterND", "Einsum")
"""Of these it is told why they are not lifted."""
LINEAR_QUANTISED = ("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger")


def opaque(node: onnx_ir.Node, reason: str, runtime: NodeRuntime) -> Opaque:
    """A node as it is; `reason`: why it was not lifted, which matters where it is linear.

    What an operator of a foreign domain does is not known: it may have an effect.
    """
    label = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
    inner = [each for body in bodies_of(node) for each in body.all_nodes()]
    nodes = [node, *inner]
    foldable = not captured(node) and "Sequence" not in node.op_type  # a sequence is no constant that a file could hold
    foldable &= all(each.domain in STANDARD and each.op_type not in (*RANDOM, *QUANTISED) for each in nodes)
    effect = any(n.domain not in STANDARD and n.op_identifier() not in runtime.model.functions for n in nodes)
    function = runtime.model.functions.get(node.op_identifier())
    if inside := _linear(inner):
        why = f"its bodies are not looked into: {inside}"
    elif inside := _linear(function or ()):
        why = f"the function is not looked into: {inside}; onnx.inliner puts its nodes into the graph"
    elif label in LINEAR_QUANTISED:
        why = "it is quantised"
    else:
        why = reason if label in LINEAR else ""
    return Opaque(label, partial(runtime.evaluate, node), foldable, effect, why)


def _linear(nodes: Iterable[onnx_ir.Node]) -> str:
    return ", ".join(sorted({node.op_type for node in nodes if node.op_type in LINEAR}))


def attributes_of(node: onnx_ir.Node, model: onnx_ir.Model) -> dict[str, Any]:
    """What a node states other than its operator's defaults: numbers and strings, tensors as arrays, bodies as bytes."""
    stated = {name: attribute.value for name, attribute in node.attributes.items()}
    with suppress(onnx.defs.SchemaError):
        schema = onnx.defs.get_schema(node.op_type, model.opset_imports.get(node.domain, 1), node.domain)
        usual = {name: attribute.default_value for name, attribute in schema.attributes.items()}
        defaults = {name: onnx_ir.serde.deserialize_attribute(proto).value for name, proto in usual.items() if proto.type}
        stated = {name: value for name, value in stated.items() if name not in defaults or value != defaults[name]}
    return {name: _plain(value) for name, value in sorted(stated.items())}


def _plain(value: Any) -> Any:
    if hasattr(value, "numpy"):
        return value.numpy()
    if isinstance(value, onnx_ir.Graph):
        return bytes(onnx_ir.to_proto(value).SerializeToString(deterministic=True))
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (int, float, str, bytes)) else str(value)


def made_by(kind: str, value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    """The node that computes a value, if it is a standard one of that kind."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == kind and node.domain in STANDARD else None
