"""Shapes and types of a whole model, as ONNX's own inference says.

It is asked about a message of its own, without the large weights: nothing is written into the model.  (onnx-ir's pass does the
same in time that is quadratic in the number of initializers.)
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import onnx
import onnx_ir
from onnx.shape_inference import InferenceError
from onnx_ir import serde

from repcompiler.frontends.onnx_lift import Known
from repcompiler.frontends.onnx_tensors import shape_of
from repcompiler.ir import Shape

SMALL = 1024
"""Bytes of a constant that inference may want to read."""

FAILURES = (InferenceError, RuntimeError, ValueError)
"""What ONNX's inference raises where a model is not as its specification says, or too large for one message."""


def infer(model: onnx_ir.Model, inputs: Mapping[str, Shape]) -> dict[str, Known]:
    """What is known of each value that a node of the main graph makes, by name.

    `inputs`: extents to reckon with in the place of those that are stated; then shapes stated of other values do not count.
    """
    message = _message(model, inputs)
    with suppress(*FAILURES):  # then what is stated is all there is
        message = onnx.shape_inference.infer_shapes(message, data_prop=True)
    tensors = (value for value in (*message.graph.value_info, *message.graph.output) if value.type.HasField("tensor_type"))
    known = {value.name: _known(value.type) for value in tensors}
    return {str(value.name): known.get(str(value.name), Known()) for node in model.graph for value in node.outputs}


def _known(tensor: onnx.TypeProto) -> Known:
    shape = serde.deserialize_type_proto_for_shape(tensor)
    return Known(None if shape is None else shape_of(shape), onnx_ir.DataType(tensor.tensor_type.elem_type))


def _message(model: onnx_ir.Model, inputs: Mapping[str, Shape]) -> onnx.ModelProto:
    """The model without its large weights, which are inputs instead."""
    source = model.graph

    def stated(value: onnx_ir.Value) -> onnx.ValueInfoProto:
        info = serde.serialize_value(value)
        if value.name in inputs:
            serde.serialize_shape_into(info.type, onnx_ir.Shape(inputs[str(value.name)]))
        elif inputs and value.producer() is not None and info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
        return info

    message = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opset_imports.items():
        message.opset_import.add(domain=domain, version=version)
    message.functions.extend(map(serde.serialize_function, model.functions.values()))
    graph = message.graph
    graph.name = source.name or "graph"
    graph.node.extend(map(serde.serialize_node, source))
    graph.input.extend(map(stated, source.inputs))
    overridable = {value.name for value in source.inputs}
    for name, tensor in ((str(value.name), value.const_value) for value in source.initializers.values()):
        if tensor is not None and name not in overridable:
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.dtype, tensor.shape.numpy()))
        if tensor is not None and tensor.nbytes <= SMALL:
            graph.initializer.append(serde.serialize_tensor(_inside(tensor, name)))
    made = (value for node in source for value in node.outputs if value.type is not None and not value.is_graph_output())
    graph.value_info.extend(map(stated, made))
    graph.output.extend(map(stated, source.outputs))
    return message


def _inside(tensor: onnx_ir.TensorProtocol, name: str) -> onnx_ir.TensorProtocol:
    """The tensor with its data, wherever that lies."""
    return onnx_ir.Tensor(tensor.numpy(), tensor.dtype, name=name) if isinstance(tensor, onnx_ir.ExternalTensor) else tensor
