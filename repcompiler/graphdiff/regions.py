"""Pairs and regions of two drawings whose values were aligned: what belongs together and is the same, and what has changed.

Operations that belong together and have other attributes or weights have changed; they and what belongs to nothing around them
are a region, which ends where both graphs have the same value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import networkx as nx
import numpy as np

from repcompiler.alignment import GUESS, STRUCTURE, VALUES, Alignment
from repcompiler.graphdiff.model import Box, Drawing, Links, Pair, Region
from repcompiler.ops import Opaque
from repcompiler.refusal import Refusal

TEXT = "OSU"
"""Kinds of numpy's types that hold no numbers."""
NDArray = np.ndarray[Any, Any]


def links(before: Drawing, after: Drawing, found: Alignment) -> Links:
    """Every box of either side in one pair or region."""
    return Regions(before, after, found).links()


class Regions:
    """What is the same of two drawings, and what is not."""

    def __init__(self, before: Drawing, after: Drawing, found: Alignment) -> None:
        self.drawings = before, after
        place = {box.value: index for index, box in enumerate(after.boxes)}
        self.forth: dict[int, int] = {}
        self.how: dict[int, str] = {}
        self.ends: tuple[set[int], set[int]] = set(), set()
        """What both graphs have, whatever computes it."""
        self.same: dict[int, int] = {}
        for index, box in enumerate(before.boxes):
            other = None if box.value is None else place.get(found.found.get(box.value))
            if other is None or box.value is None:
                continue
            self.forth[index], self.how[index] = other, found.how[box.value]
            twin = after.boxes[other]
            if twin.value is not None and (box.text == twin.text or found.is_equal(box.value, twin.value)):
                self.ends[0].add(index)
                self.ends[1].add(other)
            if is_same(box, twin):
                self.same[index] = other

    def links(self) -> Links:
        """Pairs of what is the same, and regions of neighbours of which nothing is."""
        before, _ = self.drawings
        regions = []
        for members in nx.connected_components(self._changed()):
            went, came = (tuple(sorted(place for side, place in members if side == which)) for which in (0, 1))
            regions.append(Region(went, came, self._kind(went, came)))
        pairs = [Pair(place, other, self.how[place]) for place, other in sorted(self.same.items())]
        last = (len(before.boxes),)
        return Links(tuple(pairs), tuple(sorted(regions, key=lambda region: (region.before or last, region.after))))

    def _changed(self) -> nx.Graph:
        """What is not the same, next to what it reads, to its counterpart, and to what came in its place."""
        changed = nx.Graph()
        for side, drawing in enumerate(self.drawings):
            kept = {*(self.same if side == 0 else self.same.values())}
            loose = [place for place in range(len(drawing.boxes)) if place not in kept]
            fixed = self.ends[side] | kept
            changed.add_nodes_from((side, place) for place in loose)
            reads = ((place, source) for place in loose for source in drawing.boxes[place].reads)
            changed.add_edges_from(((side, place), (side, source)) for place, source in reads if source not in fixed)
        changed.add_edges_from(((0, place), (1, other)) for place, other in self.forth.items() if place not in self.same)
        changed.add_edges_from(self._instead())
        return changed

    def _instead(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """What belongs to nothing and is read by the same operation at the same operand: one went where the other came."""
        taken = {*self.forth.values()}
        for place, other in self.same.items():
            reads = self.drawings[0].boxes[place].reads, self.drawings[1].boxes[other].reads
            for first, second in zip(*reads, strict=False) if len(reads[0]) == len(reads[1]) else ():
                if first not in self.forth and second not in taken:
                    yield (0, first), (1, second)

    def _kind(self, went: Sequence[int], came: Sequence[int]) -> str:
        """What says that one came for the other; between the same sources and readers that is certain, otherwise a guess."""
        known = [self.how[place] for place in went if place in self.forth]
        if known:
            return next((how for how in (VALUES, GUESS) if how in known), known[0])
        before, after = self.drawings
        sources = {self.same[source] for place in went for source in before.boxes[place].reads if source in self.same}
        readers = {self.same[reader] for place in went for reader in before.readers[place] if reader in self.same}
        alike = sources == {source for place in came for source in after.boxes[place].reads if source not in came}
        alike = alike and readers == {reader for place in came for reader in after.readers[place] if reader not in came}
        return STRUCTURE if alike or not (went and came) else GUESS


def is_same(first: Box, second: Box) -> bool:
    """Whether two operations have the same attributes and the same numbers."""
    if first.text != second.text or first.settings != second.settings or _plain(first) != _plain(second):
        return False
    ours, theirs = _arrays(first), _arrays(second)
    return len(ours) == len(theirs) and all(_equal(one, other) for (_, one), (_, other) in zip(ours, theirs, strict=True))


def differences(first: Box, second: Box) -> list[str]:
    """In what two operations of one kind differ: attributes with both values, weights with the largest difference."""
    ours, theirs = {**_plain(first), **first.settings}, {**_plain(second), **second.settings}
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    told = [
        f"{name}: {ours.get(name, 'the default')} → {theirs.get(name, 'the default')}" for name in names if name != "arguments"
    ]
    told += [f"{ours.get(name, 'nothing')} → {theirs.get(name, 'nothing')}" for name in names if name == "arguments"]
    for (name, one), (_, other) in zip(_arrays(first), _arrays(second), strict=False):
        if one.shape != other.shape:
            told.append(f"{name}: {list(one.shape)} → {list(other.shape)}")
        elif one.dtype.kind in TEXT and not _equal(one, other):
            told.append(f"{name}: other text")
        elif not _equal(one, other):
            a, b = one.astype(np.float64), other.astype(np.float64)
            largest = float(np.abs(a).max(initial=0.0)) or 1.0
            told.append(f"{name}: other numbers, by up to {float(np.abs(a - b).max()) / largest:.2g} of the largest")
    return told


def _fields(box: Box) -> dict[str, Any]:
    """What the graph knows of an operation; of one that it does not look into, that is in `Box.settings`."""
    op = None if box.node is None else box.node.op
    return {field.name: getattr(op, field.name) for field in fields(op)} if is_dataclass(op) and type(op) is not Opaque else {}


def _plain(box: Box) -> dict[str, Any]:
    """Its attributes; an ONNX file has them in float32."""
    found = {name: value for name, value in _fields(box).items() if not hasattr(value, "shape")}
    return {name: np.float32(value) if isinstance(value, float) else value for name, value in found.items()}


def _arrays(box: Box) -> list[tuple[str, NDArray]]:
    """Its weights, with names: those the graph knows, constants that it reads, and what its document says of it."""
    known = [(name, value) for name, value in _fields(box).items() if hasattr(value, "shape")]
    operands = () if box.node is None else box.node.inputs
    constants = []
    for value in operands:
        with suppress(Refusal):  # it is random, or no tensor
            constants += [(value.name, value.constant())] if value.constant is not None else []
    return [(name, np.asarray(array)) for name, array in (*known, *constants, *box.arrays)]


def _equal(first: NDArray, second: NDArray) -> bool:
    return first.shape == second.shape and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
