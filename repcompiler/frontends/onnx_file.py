"""Read an ONNX model, or say in one line why it is none."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx.external_data_helper import load_external_data_for_tensor

from repcompiler import onnx_wire
from repcompiler.errors import ModelError
from repcompiler.frontends.onnx_sizes import bodies, check_sizes

LARGEST = 2**60
"""Numbers of a tensor: their bytes can still be counted in 64 bits."""
TYPES = {int(dtype) for dtype in onnx_ir.DataType} - {onnx_ir.DataType.UNDEFINED}


def read(model: Any) -> onnx_ir.Model:
    """The model at a path, or of a ModelProto, or the `onnx_ir.Model` itself.  Weights stay where they are until needed.

    Raises ModelError where the file is missing, not ONNX, cut short or invalid, where its external data is missing or lies
    outside the model's folder, and where it holds what onnx-ir would lose (sparse initializers, training information).
    """
    if isinstance(model, onnx_ir.Model):
        _check(onnx_ir.to_proto(model))
        return model
    if isinstance(model, onnx.ModelProto):
        if any(_is_external(tensor) for tensor in (*model.graph.initializer, *_inner_tensors(model))):
            raise ModelError("the weights are external data, and a ModelProto has no folder: give the path of the file")
        return _check(model)
    if not isinstance(model, (str, os.PathLike)):
        raise ModelError(f"cannot read a model from a {type(model).__name__}")
    try:
        return _open(Path(model))
    except ModelError as error:
        raise ModelError(f"{os.fspath(model)}: {error}") from error


def _open(path: Path) -> onnx_ir.Model:
    folder = path.absolute().parent
    try:
        if not path.is_file():
            raise ModelError("not a file" if path.exists() else "no such file")
        if path.stat().st_size == 0:
            raise ModelError("the file is empty")
        proto, mapped = _load(path)
    except OSError as error:
        raise ModelError(error.strerror or str(error)) from error
    except ModelError:
        raise
    except Exception as error:  # whatever the decoder trips over
        raise ModelError(f"not an ONNX file, or cut short ({_first_line(error)})") from error
    inner = [tensor for tensor in _inner_tensors(proto) if _is_external(tensor)]
    for tensor in (*filter(_is_external, proto.graph.initializer), *inner):
        _check_external_data(tensor, folder)
    for tensor in inner:
        load_external_data_for_tensor(tensor, str(folder))  # onnx-ir moves those of the main graph only
    model = _check(proto)
    onnx_ir.external_data.set_base_dir(model.graph, folder)
    for tensor, data in mapped.items():
        _attach(model.graph.initializers[tensor], data)
    return model


def _load(path: Path) -> tuple[onnx.ModelProto, dict[str, memoryview]]:
    """The model without the data of its large weights, and that data by name: views of the file."""
    with path.open("rb") as file:
        mapped = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
    try:
        encoded, places = onnx_wire.structure(mapped)
        proto = onnx.ModelProto.FromString(encoded)
        names = [tensor.name for tensor in proto.graph.initializer]
        if len(set(names)) == len(names):
            return proto, {names[number]: mapped[place] for number, place in places.items()}
    except ModelError:
        raise
    except (ValueError, IndexError):
        pass  # laid out in another way, or no model at all: protobuf will know
    return onnx.load(path, load_external_data=False), {}


def _attach(value: onnx_ir.Value, data: memoryview) -> None:
    """Give an initializer its data."""
    empty = value.const_value
    assert empty is not None
    if len(data) != empty.nbytes:
        raise ModelError(f"the data of '{value.name}' is not of the size that its shape says")
    if empty.dtype.bitwidth < 8:  # packed, as only the proto knows
        assert isinstance(empty, onnx_ir.serde.TensorProtoTensor)
        empty.raw.raw_data = bytes(data)
        return
    array = np.frombuffer(data, empty.dtype.numpy()).reshape(empty.shape.numpy())
    value.const_value = onnx_ir.Tensor(array, empty.dtype, name=empty.name, doc_string=empty.doc_string)
    value.const_value.metadata_props.update(empty.metadata_props)


def _check(proto: onnx.ModelProto) -> onnx_ir.Model:
    """The model of a proto that ONNX's checker accepts and that onnx-ir holds without loss."""
    if not proto.opset_import or not (proto.graph.node or proto.graph.output):
        raise ModelError("not an ONNX model, or cut short: it has no operator set or no graph")
    if proto.training_info:
        raise ModelError("it carries training_info, which would be lost: remove that first")
    check_sizes(proto)
    for tensor in (*proto.graph.initializer, *_inner_tensors(proto)):
        _check_tensor(tensor)
    if any(graph.sparse_initializer for graph in (proto.graph, *bodies(_nodes(proto)))):
        raise ModelError("sparse initializers are not supported: make them dense first")
    if any(function.domain in ("", "ai.onnx") for function in proto.functions):
        raise ModelError("a local function takes the place of a standard operator, which is not supported: rename it")
    try:
        onnx.checker.check_model(_skeleton(proto))
        return onnx_ir.from_proto(proto)
    except Exception as error:
        raise ModelError(f"not a valid ONNX model: {_first_line(error)}") from error


def _skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inputs in place of its initializers: checking it copies no weights."""
    skeleton = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    graph, inputs = proto.graph, {value.name for value in proto.graph.input}
    skeleton.graph.name = graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(skeleton.graph, field).extend(getattr(graph, field))
    skeleton.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in graph.initializer
        if tensor.name not in inputs
    )
    return skeleton


def _nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [*proto.graph.node, *(node for function in proto.functions for node in function.node)]


def _inner_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor but the main graph's initializers: those of its bodies, and those in attributes."""
    nodes = _nodes(proto)
    for body in bodies(_nodes(proto)):
        yield from body.initializer
        nodes += body.node
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from attribute.tensors
        if attribute.HasField("t"):
            yield attribute.t


def _check_tensor(tensor: onnx.TensorProto) -> None:
    """Raise ModelError unless its extents are some, and its bytes as many as these say."""
    numbers = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or math.prod(max(size, 1) for size in tensor.dims) >= LARGEST:
        raise ModelError(f"'{tensor.name}' cannot be read: no tensor is of shape {list(tensor.dims)}")
    if tensor.data_type not in TYPES:
        raise ModelError(f"'{tensor.name}' cannot be read: {tensor.data_type} is no type of numbers")
    if tensor.HasField("raw_data") and tensor.data_type != onnx.TensorProto.STRING and not _is_external(tensor):
        wanted = math.ceil(numbers * onnx_ir.DataType(tensor.data_type).bitwidth / 8)
        if len(tensor.raw_data) != wanted:
            raise ModelError(f"'{tensor.name}' cannot be read: it has {len(tensor.raw_data)} bytes, not {wanted}")


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _check_external_data(tensor: onnx.TensorProto, folder: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    data = f"external data '{entries.get('location', '')}' of '{tensor.name}'"
    try:
        file = (folder / entries["location"]).resolve()
        is_there = file.is_file()
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
        needed = math.ceil(math.prod(tensor.dims) * onnx_ir.DataType(tensor.data_type).bitwidth / 8)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ModelError(f"{data} is not described correctly ({_first_line(error)})") from error
    if not file.is_relative_to(folder.resolve()):
        raise ModelError(f"{data} lies outside the model's folder")
    if not is_there:
        raise ModelError(f"{data} is missing")
    if offset < 0 or length not in (0, needed) or offset + needed > file.stat().st_size:
        raise ModelError(f"{data} is cut short, or not of the size that its shape says")


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
