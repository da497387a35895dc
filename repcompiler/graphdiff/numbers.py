"""Numbers that tell whether two operations have the same weights, or two values are the same."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from repcompiler.document import InputSpec
from repcompiler.graphdiff.model import Box, Drawing
from repcompiler.interpreter import evaluate
from repcompiler.ir import Node, Value
from repcompiler.meaning import wide

NDArray = np.ndarray[Any, Any]
Fingerprint = tuple[float, ...]
"""Extents of a value, and three numbers that differ where it does."""
CLOSE = 1e-4
"""Relative difference up to which values count as the same: weights that were merged are rounded to float32."""
SPATIAL, LARGE = 16, 5e9
"""Pixels an axis of a probe where the graph leaves it free; multiply-accumulates from which on it takes too long."""


def weights(box: Box) -> list[NDArray]:
    """The arrays of an operation."""
    op = None if box.node is None else box.node.op
    if op is None or not is_dataclass(op):
        return []
    found = (getattr(op, field.name) for field in fields(op))
    return [np.asarray(array) for array in found if hasattr(array, "shape")]


def same_weights(first: Box, second: Box) -> bool:
    """Whether two operations of one text hold the same numbers."""
    pairs = list(zip(weights(first), weights(second), strict=False))
    eps = [getattr(box.node.op, "eps", None) if box.node else None for box in (first, second)]
    return eps[0] == eps[1] and all(a.shape == b.shape and np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def fingerprints(drawing: Drawing, feeds: Mapping[str, NDArray]) -> dict[int, Fingerprint]:
    """Of each box that can be computed from `feeds` (in float64): what tells its value from others."""
    live: dict[Value, NDArray] = {value: feeds[value.name] for value in drawing.graph.inputs if value.name in feeds}
    found = {place: _fingerprint(live[value]) for place, value in enumerate(drawing.graph.inputs) if value in live}
    order = [(place, box.node) for place, box in enumerate(drawing.boxes) if box.node is not None]
    last = {value: place for place, node in order for value in node.inputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a probe may be too small for a pool, and have a mean of nothing
        for place, node in order:
            if (arrays := _operands(node, live)) is not None:
                with suppress(Exception):  # what the document cannot evaluate here; what does not read it still counts
                    live |= zip(node.outputs, evaluate(node.op, arrays), strict=True)
            if node.output in live and live[node.output].size and np.isfinite(live[node.output]).all():
                found[place] = _fingerprint(live[node.output])
            for value in node.inputs:
                if last[value] == place:
                    live.pop(value, None)
    return found


def _operands(node: Node, live: Mapping[Value, NDArray]) -> list[NDArray] | None:
    """The arrays that a node reads, if all of them are known."""
    if any(value not in live and value.constant is None for value in node.inputs):
        return None
    return [live[value] if value in live else wide(np.asarray(value.constant and value.constant())) for value in node.inputs]


def _fingerprint(array: NDArray) -> Fingerprint:
    return (*map(float, array.shape), *_projections(array))


def _projections(array: NDArray) -> tuple[float, float, float]:
    numbers = array.astype(np.float64).ravel()
    waves = np.cos(np.arange(numbers.size) * 0.7390851332)
    return float(np.abs(numbers).mean()), float(numbers @ waves / numbers.size), float(numbers @ waves[::-1] / numbers.size)


def same_values(first: Mapping[int, Fingerprint], second: Mapping[int, Fingerprint]) -> list[tuple[int, int]]:
    """Places of equal values; of several on one side (an identity has the value it reads) the last."""
    like: dict[Fingerprint, list[int]] = defaultdict(list)
    for place, numbers in second.items():
        like[numbers[:-3]].append(place)
    last = {}
    for place, numbers in sorted(first.items()):
        if others := [other for other in like[numbers[:-3]] if close(numbers, second[other])]:
            last[max(others)] = place
    return [(place, other) for other, place in last.items()]


def close(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two fingerprints, of values of one shape, are of the same numbers."""
    scale = max(first[-3], second[-3])
    return all(abs(a - b) <= CLOSE * scale for a, b in zip(first[-3:], second[-3:], strict=True))


def too_large(drawing: Drawing) -> bool:
    """Whether running it in float64 here would take long."""
    return sum(box.macs for box in drawing.boxes) > LARGE


def probe(specs: Sequence[InputSpec]) -> dict[str, NDArray] | None:
    """One small input of each, or None where a shape says too little."""
    rng = np.random.default_rng(0)
    feeds = {}
    for spec in specs:
        if spec.shape is None:
            return None
        shape = [dim if isinstance(dim, int) else 1 if axis == 0 else SPATIAL for axis, dim in enumerate(spec.shape)]
        whole = np.dtype(spec.dtype).kind in "iub" if spec.dtype != "bfloat16" else False
        feeds[spec.name] = rng.integers(0, 2, shape) if whole else rng.standard_normal(shape)
    return feeds
