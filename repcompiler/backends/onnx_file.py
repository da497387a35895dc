"""Write an ONNX model so that the target is either the old file whole or the new file whole."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir

from repcompiler.errors import ModelError

INLINE_LIMIT = 2**31 - 2**24
"""Bytes of weights that still fit into one protobuf message, with room for the structure."""


def external_files(model: onnx_ir.Model) -> list[Path]:
    """The files beside the model that hold its weights."""
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    return list(dict.fromkeys(Path(tensor.path) for tensor in tensors if isinstance(tensor, onnx_ir.ExternalTensor)))


def is_large(model: onnx_ir.Model) -> bool:
    """Whether the weights would not fit into the file."""
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None) > INLINE_LIMIT


def data_file(path: Path) -> Path:
    """Where the weights of the model at `path` go, if they go beside it."""
    return path.with_name(f"{path.name}.data")


def check_target(path: Path) -> None:
    """Raise ModelError if no file can be written to `path`."""
    folder = path.parent
    try:
        if path.is_dir():
            raise ModelError(f"{path}: cannot be written, it is a folder")
        if not folder.is_dir():
            raise ModelError(f"{path}: cannot be written, there is no folder {folder}")
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror})") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ModelError(f"{path}: cannot be written, the folder {folder} does not allow it")


def write(model: onnx_ir.Model, path: Path, external: bool) -> None:
    """Save to a temporary folder beside `path` and move into place, external data (`NAME.data`) first.

    Raises ModelError where the target cannot be written.
    """
    files = [data_file(path), path] if external else [path]
    for file in files:
        check_target(file)
    try:
        with TemporaryDirectory(prefix=".repc-", dir=path.parent) as folder:
            onnx_ir.save(model, Path(folder) / path.name, external_data=data_file(path).name if external else None)
            for file in files:
                if (Path(folder) / file.name).exists():  # small weights stay in the model
                    os.replace(Path(folder) / file.name, file)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror or error})") from error
    except ValueError as error:  # what onnx-ir says of weights that it cannot read
        raise ModelError(f"{path}: cannot be written ({error})") from error
