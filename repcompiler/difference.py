"""Where do two models part?  Both are walked in float64, side by side, and values that belong together are compared.

Of the values that differ, those count that lead to a different output with no equal value between; the first of these is
named.  So channels that are permuted, or scaled, and put right again later are no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from repcompiler.alignment import align
from repcompiler.deviation import EXACT_MULTIPLE
from repcompiler.document import Document, Feeds, NDArray
from repcompiler.fingerprints import fingerprints
from repcompiler.interface import Matched
from repcompiler.ir import Graph, Value
from repcompiler.probes import epsilon

FLOATS = ("float16", "bfloat16", "float32", "float64")

SMALL = 1e-3
"""A difference of so little of the largest one is not where two models part: rounded weights may grow into it."""

HALF = 0.5
"""Of the pixels: where as many differ, it is everywhere."""


@dataclass(frozen=True)
class Difference:
    """The first value in which two models differ."""

    value: str
    other: str
    """Its name in the second model."""
    operation: str
    place: tuple[int, ...] = ()
    """Where it differs most."""
    first: float = 0.0
    second: float = 0.0
    scale: float = 0.0
    """The largest number of this value in the first model."""
    relative: float = float("inf")
    """The largest difference, as a part of that."""
    pattern: str = ""
    """Which pixels, channels and images differ, or why the values cannot be compared."""
    after: tuple[str, ...] = ()
    """The nearest values before it that agree."""
    probe: str = ""
    """What the models were run on."""

    def __str__(self) -> str:
        known_as = f" ('{self.other}' in the second model)" if self.other != self.value else ""
        name = f"they part at '{self.value}'{known_as}, made by {self.operation}"
        since = f"; equal up to {', '.join(map(repr, self.after))}" if self.after else ""
        if not self.place:
            return f"{name}: {self.pattern}{since}"
        numbers = f"{self.second:.6g} instead of {self.first:.6g} at {list(self.place)}, of at most {self.scale:.3g}"
        return f"{name}: {numbers}; {self.pattern}{since}"


def locate(first: Document, second: Matched, feeds: Feeds, probe: str) -> Difference | None:
    """The first value in which the two models differ on `feeds`; None where none does in float64.

    Raises ValueError, or what a runtime raises, where the values cannot be computed one by one.
    """
    ours, theirs = first.graph(), second.document.graph()
    prints = fingerprints(first.walk(feeds)), fingerprints(second.document.walk(second.feeds(feeds)))
    pairs = align(ours, theirs, second.pairs(ours, theirs), prints).found
    found: dict[Value, Difference | None] = {}
    walks = first.walk(feeds), second.document.walk(second.feeds(feeds))
    for value, (array, other) in _side_by_side(*walks, pairs):
        found[value] = compare(value, pairs[value], array, other)
    outputs = [found.get(value) for value in ours.outputs]
    least = SMALL * max((output.relative for output in outputs if output and output.place), default=0.0)
    found = {value: difference if difference and difference.relative > least else None for value, difference in found.items()}
    relevant = _leads_to(ours, found)
    for value, difference in found.items():
        if value in relevant and difference is not None:
            before = tuple(sorted(source.name for source in _nearest(value, found)))
            return replace(difference, after=before, probe=probe)
    return None


def _side_by_side(
    first: Iterator[tuple[Value, NDArray]], second: Iterator[tuple[Value, NDArray]], pairs: Mapping[Value, Value]
) -> Iterator[tuple[Value, tuple[NDArray, NDArray]]]:
    """The arrays of each pair, in the first graph's order; of the second only what is ahead of the first is kept."""
    wanted = {*pairs.values()}
    waiting: dict[Value, NDArray] = {}
    for value, array in first:
        if value not in pairs:
            continue
        while pairs[value] not in waiting:
            ahead = next(second, None)
            if ahead is None:
                break
            if ahead[0] in wanted:
                waiting[ahead[0]] = ahead[1] if ahead[0] is pairs[value] else ahead[1].copy()
        if pairs[value] in waiting:
            yield value, (array, waiting.pop(pairs[value]))


def compare(value: Value, other: Value, first: NDArray, second: NDArray) -> Difference | None:
    """How two arrays of one value differ, if they do."""
    operation = str(value.producer.op) if value.producer is not None else "the input"
    if first.shape != second.shape:
        shapes = f"shape {list(second.shape)} instead of {list(first.shape)}"
        return Difference(value.name, other.name, operation, pattern=shapes)
    a, b = first.astype(np.float64), second.astype(np.float64)
    numbers = np.isfinite(a)
    scale = float(np.max(np.abs(a[numbers]), initial=0.0))
    rounding = EXACT_MULTIPLE * epsilon(np.dtype(value.dtype if value.dtype in FLOATS else "float32")) * scale
    with np.errstate(invalid="ignore"):
        error = np.where(numbers & np.isfinite(b), np.abs(a - b), np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.inf))
    worst = float(np.max(error, initial=0.0))
    if worst <= rounding:
        return None
    place = tuple(int(index) for index in np.unravel_index(np.argmax(error), error.shape))
    numbers_there = float(a[place]), float(b[place]), scale, worst / scale if scale else float("inf")
    shown = pattern(error > max(rounding, SMALL * worst) if np.isfinite(worst) else error > rounding)
    return Difference(value.name, other.name, operation, place, *numbers_there, shown)


def pattern(different: NDArray) -> str:
    """Which images, channels and pixels of [N, C, *spatial] differ: 'channel 3 only, all images, border only'."""
    parts = []
    for axis, what in enumerate(("image", "channel")[: different.ndim]):
        others = tuple(other for other in range(different.ndim) if other != axis)
        parts.append(_members(what, np.flatnonzero(different.any(axis=others)).tolist(), different.shape[axis]))
    pixels = _pixels(np.asarray(different.any(axis=(0, 1)))) if different.ndim > 2 else ""
    return ", ".join([part for part in (*reversed(parts), pixels) if part])


def _members(what: str, found: list[int], count: int) -> str:
    if count == 1:
        return ""
    if len(found) == count:
        return f"all {what}s"
    if len(found) == 1:
        return f"{what} {found[0]} only"
    shown = ", ".join(map(str, found[:4])) + (", ..." if len(found) > 4 else "")
    return f"{len(found)} of {count} {what}s ({shown})"


def _pixels(different: NDArray) -> str:
    """'everywhere', 'border only' with its depth, or how many pixels."""
    along = [np.minimum(np.arange(size), np.arange(size)[::-1]) for size in different.shape]
    depth = np.min(np.meshgrid(*along, indexing="ij"), axis=0)
    deepest = int(depth[different].max())
    if 2 * (deepest + 1) <= depth.max():
        sides = _sides(different, deepest)
        return f"border only ({sides}{deepest + 1} pixel{'s' * (deepest > 0)} deep)"
    share = different.mean()
    return "everywhere" if share >= HALF else f"at {int(different.sum())} of {different.size} pixels"


def _sides(different: NDArray, deepest: int) -> str:
    """Which edges, where not all of them."""
    names = {1: ("start", "end"), 2: ("top", "bottom", "left", "right")}.get(different.ndim, ())
    inner = tuple(slice(deepest + 1, -deepest - 1) for _ in different.shape)
    edges = [
        name
        for index, name in enumerate(names)
        for axis, last in [divmod(index, 2)]
        if different[(*inner[:axis], slice(-deepest - 1, None) if last else slice(0, deepest + 1), *inner[axis + 1 :])].any()
    ]
    return f"{' and '.join(edges)}, " if 0 < len(edges) < len(names) else ""


def _leads_to(graph: Graph, found: Mapping[Value, Difference | None]) -> set[Value]:
    """The values from which a different output is reached with no equal value between."""
    reached = {value for value in graph.outputs if found.get(value) is not None}
    pending = list(reached)
    while pending:
        producer = pending.pop().producer
        for value in producer.inputs if producer is not None else ():
            if value not in reached and (value not in found or found[value] is not None):
                reached.add(value)
                pending.append(value)
    return reached


def _nearest(value: Value, found: Mapping[Value, Difference | None]) -> set[Value]:
    """The nearest values that `value` is computed from and that agree."""
    nearest: set[Value] = set()
    seen = {value}
    pending = [value]
    while pending:
        producer = pending.pop().producer
        for operand in producer.inputs if producer is not None else ():
            if operand not in seen:
                seen.add(operand)
                (nearest.add if operand in found else pending.append)(operand)
    return nearest
