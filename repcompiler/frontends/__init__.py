"""From a user's model to the neutral graph."""

from __future__ import annotations

import os
import sys
from typing import Any

from repcompiler.document import Document
from repcompiler.errors import ModelError


def open_document(model: Any, example_inputs: Any = None) -> Document:
    """The document for a model of any supported kind.  torch is imported only for a torch module."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from repcompiler.frontends.fx import FxDocument

        document: Document = FxDocument.trace(model, example_inputs)
        return document
    if isinstance(model, (str, os.PathLike)) or type(model).__module__.split(".")[0] in ("onnx", "onnx_ir"):
        from repcompiler.frontends.onnx import OnnxDocument

        return OnnxDocument.open(model, example_inputs)
    raise ModelError(
        f"cannot compile a {type(model).__name__}: give a torch.nn.Module, the path of an .onnx file, or an ONNX model"
    )
