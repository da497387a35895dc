"""A walk over the graph that computes its values in float64, by what each operation means (`repcompiler.meaning`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import repcompiler.meaning_activations  # noqa: F401 - registers what activations mean
from repcompiler.ir import Graph, Value
from repcompiler.meaning import meaning, wide
from repcompiler.ops import Op, Opaque

NDArray = np.ndarray[Any, Any]


def run(graph: Graph, feeds: Mapping[Value, NDArray], wanted: Iterable[Value] | None = None) -> dict[Value, NDArray]:
    """The values `wanted` (the graph's outputs) for the given inputs, in float64.  Values are freed after their last use."""
    kept = set(graph.outputs if wanted is None else wanted)
    return {value: array for value, array in trace(graph, feeds, kept) if value in kept}


def trace(graph: Graph, feeds: Mapping[Value, NDArray], kept: Iterable[Value] = ()) -> Iterator[tuple[Value, NDArray]]:
    """Each value of the graph in order, with its array; memory holds only what is still to be read, and `kept`."""
    order = graph.topological()
    keep = {*kept, *graph.outputs}
    last = {value: index for index, node in enumerate(order) for value in node.inputs}
    live: dict[Value, NDArray] = {value: wide(array) for value, array in feeds.items()}
    yield from live.items()
    for index, node in enumerate(order):
        if all(value.constant is not None for value in node.outputs):
            continue  # parameters: read through `Value.constant` by whoever wants them
        arrays = [live[value] if value in live else wide(_constant(value)) for value in node.inputs]
        for value, array in zip(node.outputs, evaluate(node.op, arrays), strict=True):
            live[value] = array
            yield value, array
        for value in node.inputs:
            if last[value] == index and value not in keep:
                live.pop(value, None)
    for value in graph.outputs:
        if value not in live:
            yield value, wide(_constant(value))


def evaluate(op: Op, arrays: Sequence[NDArray]) -> Sequence[NDArray]:
    """The results of one operation."""
    if isinstance(op, Opaque):
        if op.evaluate is None:
            raise ValueError(f"{op.kind} cannot be evaluated here")
        return [wide(np.asarray(array)) for array in op.evaluate(arrays)]
    with np.errstate(all="ignore"):  # inf and nan are values: whoever reads them decides what they say
        return [meaning(op, *arrays)]


def _constant(value: Value) -> NDArray:
    if value.constant is None:
        raise ValueError(f"no array was given for '{value.name}'")
    return np.asarray(value.constant())
