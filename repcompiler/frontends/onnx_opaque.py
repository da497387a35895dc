"""The ONNX operators that no rewrite looks into: what is known of them all the same, and why they are left alone."""

from __future__ import annotations

from functools import partial

import onnx_ir

from repcompiler.ops import Opaque
from repcompiler.runtime import NodeRuntime, bodies_of, captured

STANDARD = ("", "ai.onnx")
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout")
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
LINEAR = ("Conv", "ConvTranspose", "BatchNormalization", "Gemm", "MatMul", "AveragePool", "Pad")
"""Of these it is told why they are not lifted."""
LINEAR_QUANTISED = ("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger")


def opaque(node: onnx_ir.Node, reason: str, runtime: NodeRuntime) -> Opaque:
    """A node as it is; `reason`: why it was not lifted, which matters where it is linear.

    What an operator of a foreign domain does is not known: it may have an effect.
    """
    label = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
    inner = [each for body in bodies_of(node) for each in body.all_nodes()]
    nodes = [node, *inner]
    foldable = not captured(node) and all(n.domain in STANDARD and n.op_type not in (*RANDOM, *QUANTISED) for n in nodes)
    effect = any(n.domain not in STANDARD and n.op_identifier() not in runtime.model.functions for n in nodes)
    linear = {each.op_type for each in inner if each.op_type in LINEAR}
    if linear:
        why = f"its bodies are not looked into: {', '.join(sorted(linear))}"
    elif label in LINEAR_QUANTISED:
        why = "it is quantised"
    else:
        why = reason if label in LINEAR else ""
    return Opaque(label, partial(runtime.evaluate, node), foldable, effect, why)
