"""Read an ONNX model, or say in one line why it is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
from onnx_ir.passes.common import CheckerPass

from repcompiler.errors import ModelError


def read(model: Any) -> onnx_ir.Model:
    """The model at a path, or of a ModelProto, or the `onnx_ir.Model` itself.  Weights stay where they are until needed.

    Raises ModelError where the file is missing, not ONNX, cut short or invalid, or its external data is missing or lies
    outside the model's folder.
    """
    if isinstance(model, (str, os.PathLike)):
        loaded = _load(Path(model))
    elif isinstance(model, onnx.ModelProto):
        loaded = onnx_ir.from_proto(model)
    elif isinstance(model, onnx_ir.Model):
        loaded = model
    else:
        raise ModelError(f"cannot read a model from a {type(model).__name__}")
    _check(loaded)
    return loaded


def _load(path: Path) -> onnx_ir.Model:
    if not path.exists():
        raise ModelError(f"{path}: no such file")
    if not path.is_file():
        raise ModelError(f"{path}: not a file")
    try:
        if path.stat().st_size == 0:
            raise ModelError(f"{path}: the file is empty")
        loaded = onnx_ir.load(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except ModelError:
        raise
    except Exception as error:  # whatever the decoder trips over
        raise ModelError(f"{path}: not an ONNX file, or cut short ({_first_line(error)})") from error
    _check_external_data(loaded, path)
    return loaded


def _check_external_data(model: onnx_ir.Model, path: Path) -> None:
    folder = path.resolve().parent
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if not isinstance(tensor, onnx_ir.ExternalTensor):
                continue
            file = (folder / tensor.location).resolve()
            if not file.is_relative_to(folder):
                raise ModelError(f"{path}: external data '{tensor.location}' of '{value.name}' lies outside the model's folder")
            if not file.is_file():
                raise ModelError(f"{path}: external data '{tensor.location}' of '{value.name}' is missing")
            if (tensor.offset or 0) + (tensor.length or 0) > file.stat().st_size:
                raise ModelError(f"{path}: external data '{tensor.location}' is cut short at '{value.name}'")


def _check(model: onnx_ir.Model) -> None:
    if not model.opset_imports or (not len(model.graph) and not model.graph.outputs):
        raise ModelError("not an ONNX model: it has no operator set or no graph")
    try:
        CheckerPass()(model)
    except Exception as error:
        raise ModelError(f"not a valid ONNX model: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
