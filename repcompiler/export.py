"""From a torch module to a plain ONNX file: compile, export, compile what only ONNX shows, verify, write."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repcompiler.compiler import compile_document, select
from repcompiler.errors import ModelError, VerificationError
from repcompiler.reference import Reference
from repcompiler.report import Report
from repcompiler.rewriter import Pass

if TYPE_CHECKING:
    from torch import nn

    from repcompiler.document import Document, InputSpec
    from repcompiler.frontends.fx import FxDocument
    from repcompiler.ir import Dim

Axes = Sequence[str] | Mapping[str, Mapping[int, str]]
"""Names of axes, or for each input by name the number and name of each."""


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    example_inputs: Any,
    *,
    dynamic_axes: Axes = (),
    dynamic_shapes: Any = None,
    opset_version: int | None = None,
    objective: str = "latency",
    passes: Sequence[str | Pass] | None = None,
    verify: bool = True,
    report: Report | None = None,
) -> None:
    """Write a plain ONNX file of a torch module.  Either the old file stays whole, or the new one is.

    Args:
        model: an `nn.Module` or `torch.fx.GraphModule` in eval mode.
        path: the file to write.
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments.
        dynamic_axes: what may have another extent than in the example: names among "batch", "length", "depth", "height" and
            "width", for all inputs, or {"x": {0: "batch", 2: "rows"}}.  All else is fixed.
        dynamic_shapes: instead, what `torch.onnx.export` takes under this name.
        opset_version: of the file; torch's own choice by default.
        objective, passes, verify, report: as for `repcompiler.compile`.  The file is compared with `model` itself: its
            outputs in onnxruntime, at other sizes too where axes are dynamic.

    Raises:
        ModelError: the model cannot be compiled, run at other sizes as asked for, or exported, or the file cannot be written.
        VerificationError: the file does not compute what the model does; nothing is written.
    """
    from repcompiler.frontends.fx import FxDocument
    from repcompiler.frontends.onnx import OnnxDocument

    path, report = Path(path), report or Report()
    chosen = select(passes)
    source = FxDocument.trace(model, example_inputs)
    if dynamic_shapes is None:
        dynamic_shapes = _shapes(source, dynamic_axes)
    traced = compile_document(source, objective, chosen, verify, report)
    exported = OnnxDocument.open(_export(traced, source, dynamic_shapes, opset_version))
    plain, found = _compile_file(exported, objective, chosen, verify=False)
    if verify:
        source.specs = plain.inputs()  # what the file lets vary
        reference = Reference(source)
        verification = reference.compare(plain)
        if not verification.equal:
            plain, found = _compile_file(exported, objective, chosen, verify=True)
            verification = reference.compare(plain)
        if not verification.equal:
            raise VerificationError(f"the file differs from the model: {verification.summary()}")
        report.verification = verification
    report.steps = [*report.steps, *found.steps]
    report.declined = [*report.declined, *found.declined]
    plain.save(path)


def _compile_file(exported: Document, objective: str, passes: Sequence[Pass], verify: bool) -> tuple[Document, Report]:
    """Rewrite what torch.fx could not see and the exported graph shows."""
    report = Report()
    return compile_document(exported, objective, passes, verify, report), report


def _export(compiled: Any, source: FxDocument, dynamic_shapes: Any, opset_version: int | None) -> Any:
    import torch

    names = [spec.name for spec in source.inputs()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's own exporter
            program = torch.onnx.export(
                compiled.model,
                source.values or (),
                dynamo=True,
                verbose=False,
                input_names=names,
                opset_version=opset_version,
                dynamic_shapes=dynamic_shapes,
            )
    except Exception as error:
        raise ModelError(f"torch.onnx cannot export the model: {_reason(error)}") from error
    assert program is not None
    return program.model


def _shapes(source: FxDocument, axes: Axes) -> Any:
    """torch's dynamic shapes, for the values of all placeholders."""
    import torch
    from torch.utils import _pytree as pytree

    specs = source.inputs()
    known = {spec.name if isinstance(axes, Mapping) else _base(spec, dim) for spec in specs for dim in spec.shape or ()}
    if missing := [str(name) for name in axes if name not in known]:
        raise ModelError(f"no input of the model can vary in its {', '.join(missing)}")
    each = iter([_free(spec, axes) for spec in specs])
    return tuple(
        pytree.tree_map(lambda leaf: next(each) or None if isinstance(leaf, torch.Tensor) else None, value)
        for value in source.values or ()
    )


def _free(spec: InputSpec, axes: Axes) -> dict[int, str]:
    """The axes of one input that are to be dynamic, with their names."""
    free = {axis: dim for axis, dim in enumerate(spec.shape or ()) if isinstance(dim, str)}
    if not isinstance(axes, Mapping):
        return {axis: name for axis, name in free.items() if _base(spec, name) in axes}
    wanted = dict(axes.get(spec.name, {}))
    if fixed := [name for axis, name in wanted.items() if axis not in free]:
        raise ModelError(f"'{spec.name}' cannot vary in its {', '.join(fixed)}: the model takes one extent only")
    return wanted


def _base(spec: InputSpec, dim: Dim) -> str:
    """The kind of axis that a symbol names."""
    return str(dim).removeprefix(f"{spec.name}_")


def _reason(error: BaseException) -> str:
    """The first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
