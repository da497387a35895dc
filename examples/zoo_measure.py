"""One network of the zoo through both frontends; what came out goes into a JSON file, stage by stage.

    python examples/zoo_measure.py timm repvgg_a0 row.json

Meant to be a process of its own: a crash, a hang or an empty memory costs one row, and what was measured before it is kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import resource
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import latency
import numpy as np
import torch
import torchvision_ops  # noqa: F401 - before timm
from mobileone import export_training_form, settle_batch_norms
from tables import operators
from timm.utils import reparameterize_model
from torch import nn
from zoo_families import build, input_shape

import repcompiler
from repcompiler.errors import VerificationError
from repcompiler.runtime import session

MEMORY = 32 * 2**30
"""Bytes of address space."""
ROUNDS = (8, 60)
BUDGET = 6_000.0
"""Milliseconds for the rounds of a comparison of latencies."""
REASONS = 5
Row = dict[str, Any]


@torch.no_grad()
def as_trained(source: str, name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network with random weights and statistics, and the shape of its input.

    What is constant when training begins (biases, layer scales, skip gains) is not when it ends.
    """
    torch.manual_seed(0)
    model = build(source, name)
    for parameter in model.parameters():
        if parameter.ndim <= 1 or bool((parameter == parameter.flatten()[0]).all()):
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    shape = input_shape(source, name, model)
    return settle_batch_norms(model, shape), shape


def export_branches(model: nn.Module, file: Path, shape: Sequence[int]) -> None:
    """By torch's older exporter; what that does not know, by the newer one without its optimisations."""
    try:
        export_training_form(model, file, shape)
    except Exception:  # an exporter may raise anything
        image, sizes = torch.randn(2, *shape[1:]), ({0: torch.export.Dim("batch")},)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (image,),
                dynamo=True,
                optimize=False,
                dynamic_shapes=sizes,
                input_names=["image"],
                output_names=["logits"],
            )
        assert program is not None
        program.save(file)


def counts(file: Path) -> dict[str, int]:
    found = operators(file)
    return {"nodes": found.total(), **{kind: found[kind] for kind in ("Conv", "BatchNormalization", "Add")}}


def reasons(report: repcompiler.Report) -> dict[str, int]:
    """The commonest refusals, without names and figures."""
    found = Counter(re.sub(r"'[^']*'", "'...'", re.sub(r" \(.*\)", "", item.reason)) for item in report.declined)
    return dict(found.most_common(REASONS))


def compiled(model: nn.Module | Path, example: torch.Tensor | None, write: Callable[[Any], None]) -> Row:
    """Compile, write the result, and say how it went."""
    report = repcompiler.Report()
    start = time.perf_counter()
    result = repcompiler.compile(model, example, report=report)
    seconds = time.perf_counter() - start
    write(result)
    content = report.to_dict()
    verification = content["verification"]
    worst = report.verification.worst if report.verification else None
    return {
        "seconds": seconds,
        "parameters": [content[when]["parameters"] for when in ("before", "after")],
        "macs": [content[when]["macs"] for when in ("before", "after")],
        "rewrites": report.counts(),
        "reverted": content["reverted"],
        "verified": verification["equal"],
        "deviation": worst and worst.result / (worst.scale or 1.0),
        "rounding": worst and worst.source / (worst.scale or 1.0),
        "reasons": reasons(report),
    }


def timm_converts(model: nn.Module) -> nn.Module | None:
    """timm's own conversion, or None where it changes nothing."""
    converted = reparameterize_model(copy.deepcopy(model))
    assert isinstance(converted, nn.Module)
    return None if converted.state_dict().keys() == model.state_dict().keys() else converted


def latencies(files: Mapping[str, Path], shape: Sequence[int]) -> Row:
    """Milliseconds of the source; ratios of the others, and of the source to itself, which is noise."""
    names, paths = ["source", "again", *list(files)[1:]], [files["source"], *files.values()]
    once = sum(item.milliseconds for item in latency.compare(paths, {"image": shape}, rounds=3, warm_up=1))
    rounds = int(min(max(BUDGET / once, ROUNDS[0]), ROUNDS[1]))
    times = latency.compare(paths, {"image": shape}, rounds=rounds, warm_up=2)
    ratios = {name: item.ratio for name, item in zip(names[1:], times[1:], strict=True)}
    return {"milliseconds": times[0].milliseconds, "rounds": rounds, **ratios}


def differences(files: Mapping[str, Path], shape: Sequence[int]) -> Row:
    """How far the outputs of each file are from those of the source, in onnxruntime: a check beside the compiler's own."""
    image = np.random.default_rng(1).standard_normal(tuple(shape), np.float32)
    outputs = {name: session(str(file), threads=1, optimised=True).run(None, {"image": image}) for name, file in files.items()}
    scale = max(float(np.abs(array).max()) for array in outputs["source"])
    return {
        name: max(float(np.abs(one - other).max()) for one, other in zip(arrays, outputs["source"], strict=True)) / scale
        for name, arrays in outputs.items()
        if name != "source"
    }


def stages(source: str, name: str, folder: Path) -> Iterable[Row]:
    """Parts of the row as they become known; a stage that fails is an entry in `errors`."""
    errors: dict[str, str] = {}

    def attempt(stage: str, function: Callable[[], Row]) -> Row:
        try:
            return function()
        except VerificationError as error:
            errors[stage] = f"wrong: {first_line(error)}"
        except Exception as error:
            errors[stage] = f"{first_line(error)} ({place(error)})"
        return {}

    model, shape = as_trained(source, name)
    yield {"shape": shape}
    files = {kind: folder / f"{kind}.onnx" for kind in ("source", "torch", "onnx", "timm")}
    example = torch.randn(*shape)
    export = {kind: lambda made, file=file: export_branches(made, file, shape) for kind, file in files.items()}
    exports = attempt("export", lambda: export["source"](model) or {"exported": True})
    yield {"torch": attempt("torch", lambda: compiled(model, example, save_module(export["torch"], errors))), "errors": errors}
    if exports:
        save = lambda proto: files["onnx"].write_bytes(proto.SerializeToString())  # noqa: E731
        yield {"onnx": attempt("onnx", lambda: compiled(files["source"], None, save)), "errors": errors}
    converted = timm_converts(model) if source == "timm" else None
    if converted is not None and exports:
        attempt("timm", lambda: export["timm"](converted) or {})
    there = {kind: file for kind, file in files.items() if file.exists()}
    yield {"counts": {kind: counts(file) for kind, file in there.items()}}
    if exports:
        yield {"differences": attempt("differences", lambda: differences(there, shape))}
        yield {"latency": attempt("latency", lambda: latencies(there, shape))}
    yield {"errors": errors, "done": True}


def save_module(export: Callable[[nn.Module], None], errors: dict[str, str]) -> Callable[[nn.Module], None]:
    """Export a result to be counted and timed; that it cannot be exported is no fault of the compilation."""

    def write(module: nn.Module) -> None:
        try:
            export(module)
        except Exception as error:
            errors["export of the torch result"] = first_line(error)

    return write


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def place(error: BaseException) -> str:
    """Type, file and line of an error, without folders."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}, {Path(frame.filename).name}:{frame.lineno}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=("timm", "torchvision"))
    parser.add_argument("name")
    parser.add_argument("row", type=Path)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    row: Row = {}
    with TemporaryDirectory() as folder:
        for part in stages(arguments.source, arguments.name, Path(folder)):
            row |= part
            arguments.row.write_text(json.dumps(row))


if __name__ == "__main__":
    main()
