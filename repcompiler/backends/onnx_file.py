"""Write an ONNX model so that the target is either the old file whole or the new file whole."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir

from repcompiler.errors import ModelError

INLINE_LIMIT = 2**31 - 2**24
"""Bytes of weights that still fit into one protobuf message, with room for the structure."""


def is_large(model: onnx_ir.Model) -> bool:
    """Whether the weights belong beside the file: they came from external data, or would not fit into it."""
    tensors = [value.const_value for graph in model.graphs() for value in graph.initializers.values()]
    external = any(isinstance(tensor, onnx_ir.ExternalTensor) for tensor in tensors)
    return external or sum(tensor.nbytes for tensor in tensors if tensor is not None) > INLINE_LIMIT


def write(model: onnx_ir.Model, path: Path) -> None:
    """Save to a temporary folder beside `path` and move into place, external data (`NAME.data`) first.

    Raises ModelError where the target cannot be written.
    """
    try:
        with TemporaryDirectory(prefix=".repc-", dir=path.parent) as folder:
            data = f"{path.name}.data" if is_large(model) else None
            onnx_ir.save(model, Path(folder) / path.name, external_data=data)
            for name in (data, path.name):
                if name is not None:
                    os.replace(Path(folder) / name, path.parent / name)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror or error})") from error
