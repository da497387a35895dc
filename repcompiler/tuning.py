"""Cost by measurement: `--tune` times operations in onnxruntime on this machine instead of estimating them.

What an operation takes depends on its shapes and attributes, not on its weights: so the outline of a merge costs what the
merged operation will cost, each is timed once, and the figure is kept in a file for the next run.  What cannot be timed by
itself (an operation that no ONNX node computes, a shape of unknown rank, one run of half a second) is estimated as under
`latency`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from repcompiler.cost import LAUNCH, TUNE, Objective, extents, latency, params
from repcompiler.ir import Shape
from repcompiler.ops import BatchNorm, Constant, Identity, Linear, Op, Opaque, Scale, Sum

Progress = Callable[[str], None]

LONGEST = 0.5
"""Estimated seconds of an operation that is not worth running many times."""
LARGEST = 1 << 26
"""Numbers of a weight that is not worth making up."""
FORMAT = 1
"""Of the figures: one more whenever what is measured changes."""


def tuned(progress: Progress = lambda message: None, file: Path | None = None) -> Objective:
    """The objective `tune`: seconds measured here, or known from an earlier run.  `file`: where they are kept."""
    return Objective(TUNE, Timings(file or cache_folder() / "timings.json", progress).of_op, LAUNCH)


class Timings:
    """Seconds by operation, as measured on this machine."""

    def __init__(self, file: Path, progress: Progress) -> None:
        self.file = file
        self.progress = progress
        self.machine = machine()
        self.seconds = _read(file).get(self.machine, {})
        self.measured = 0
        """How many were timed and not looked up."""

    def of_op(self, op: Op, inputs: Sequence[Shape | None], output: Shape | None) -> float:
        """Seconds for one application, free extents being typical ones."""
        estimate = latency(op, inputs, output)
        known = [shape for shape in inputs if shape is not None]
        untimed = isinstance(op, (Constant, Identity, Opaque)) or len(known) < len(inputs)
        if untimed or estimate > LONGEST or params(op) > LARGEST:
            return estimate
        shapes = [tuple(extents(shape)) for shape in known]
        alike = plainest(op)
        key = signature(alike, shapes)
        if key not in self.seconds:
            self.seconds[key] = self._measure(alike, shapes, key, estimate)
        return self.seconds[key]

    def _measure(self, op: Op, shapes: Sequence[tuple[int, ...]], key: str, estimate: float) -> float:
        from repcompiler.stopwatch import time_operation

        self.measured += 1
        self.progress(f"timing operation {self.measured}: {op} on {' '.join('x'.join(map(str, shape)) for shape in shapes)}")
        result = op.infer_shape(shapes)
        try:
            seconds = time_operation(stand_in(op), shapes, len(result or shapes[0]))
        except Exception:  # no writer for it, or no kernel: a runtime may raise anything
            return estimate
        _write(self.file, self.machine, key, seconds)
        return seconds


def signature(op: Op, shapes: Sequence[tuple[int, ...]]) -> str:
    """What the time of an operation depends on, as a key: attributes and shapes, of weights too, but not their values."""
    parts = [f"{name}={_plain(op, value)}" for name, value in vars(op).items()]
    return f"{op.kind} {' '.join(parts)} on {' '.join(map(str, shapes))}"


def plainest(op: Op) -> Op:
    """An operation that is written in the same way, where several are."""
    if isinstance(op, Sum):
        return Sum((1,) * len(op.signs))
    if isinstance(op, BatchNorm):
        return Scale(np.full(op.channels, 2.0), np.full(op.channels, 2.0))
    return op


def stand_in(op: Op) -> Op:
    """The same operation on weights that are made up."""
    rng = np.random.default_rng(0)
    made = {name: rng.standard_normal(array.shape).astype(np.float32) for name, array in op.arrays.items()}
    made |= {name: np.full(array.shape, float(known)) for name, array in op.arrays.items() if (known := _constant(op, array))}
    return op.with_arrays(made)


def _plain(op: Op, value: Any) -> str:
    return f"{tuple(value.shape)}{_constant(op, value)}" if hasattr(value, "shape") else str(value)


def _constant(op: Op, array: Any) -> str:
    """The 0 or 1 that is everywhere in a bias, scale or shift for which another ONNX node is written then."""
    if not isinstance(op, (Linear, Scale)) or not isinstance(array, np.ndarray) or array.ndim > 1:
        return ""
    return next((f"{number}" for number in (0, 1) if (array == number).all()), "")


@cache
def machine() -> str:
    """What figures hold for: processor, runtime, and how they are measured."""
    import onnxruntime

    return f"{_processor()}, onnxruntime {onnxruntime.__version__}, float32, 1 thread, format {FORMAT}"


def _processor() -> str:
    """The model of the processor; its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def cache_folder() -> Path:
    """The user's folder for what can be made again: $REPC_CACHE, or where the system keeps caches."""
    if folder := os.environ.get("REPC_CACHE"):
        return Path(folder)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "repcompiler"


def _read(file: Path) -> dict[str, dict[str, float]]:
    """Figures by machine and operation; none from a file that is missing or broken."""
    try:
        content = json.loads(file.read_text())
        return {
            str(name): {str(key): float(seconds) for key, seconds in figures.items() if float(seconds) >= 0}
            for name, figures in content.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(file: Path, name: str, key: str, seconds: float) -> None:
    """Add a figure to the file, whole or not at all; a folder that cannot be written to is no error."""
    content = _read(file)
    content.setdefault(name, {})[key] = seconds
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=file.parent, prefix=".repc-", delete=False) as draft:
            json.dump(content, draft, indent=1)
        os.replace(draft.name, file)
    except OSError:
        return
