"""The correspondence of two graphs of which nobody has told what became of what.

 1. By name: operations of one kind whose results have one name, which the file's author gave and a tool would not make up.
 2. By structure: what is computed in the same way from linked values, or read in the same way by linked operations; and
    neighbourhoods that occur once on either side (Weisfeiler-Lehman hashes, by networkx).
 3. By value: results that are the same numbers on a probe input.  Equal numbers may be chance, so that is marked.

What is linked and of another kind, or has other weights, has changed; it belongs to one region with all that is not linked
around it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

import networkx as nx

from repcompiler.graphdiff.model import Drawing, Links, Pair, Region
from repcompiler.graphdiff.numbers import Fingerprint, close, same_values, same_weights

MADE_UP = re.compile(r"[\d_]*|(\w*_)?\d+|[vtx]_?\d+")
"""Names that an exporter counts up: two of them being alike means nothing."""
RADIUS = 3
"""How far around an operation its neighbourhood reaches."""


class Alignment:
    """Links between two drawings, found step by step."""

    def __init__(self, before: Drawing, after: Drawing, fingerprints: Sequence[Mapping[int, Fingerprint]]) -> None:
        self.drawings = before, after
        self.fingerprints = fingerprints
        self.equal = {other: place for place, other in same_values(*fingerprints)}
        self.forth: dict[int, int] = {}
        self.back: dict[int, int] = {}
        self.how: dict[int, str] = {}

    def link(self, before: int, after: int, how: str) -> bool:
        """Link two boxes that are free, unless their values belie it; whether that was done."""
        if before in self.forth or after in self.back or self._belies(before, after):
            return False
        self.forth[before], self.back[after], self.how[before] = after, before, how
        return True

    def free(self, side: int) -> Iterator[int]:
        """What is not linked yet."""
        linked = (self.forth, self.back)[side]
        return (place for place in range(len(self.drawings[side].boxes)) if place not in linked)

    def by_name(self) -> None:
        """Inputs by name, or else in their order; operations by names that mean something."""
        before, after = self.drawings
        for place, box in enumerate(before.boxes):
            other = after.places.get(box.name)
            known = box.kind == "Input" or not MADE_UP.fullmatch(box.name)
            if other is not None and known and after.boxes[other].kind == box.kind:
                self.link(place, other, "name")
        inputs = ([place for place in self.free(side) if self.drawings[side].boxes[place].kind == "Input"] for side in (0, 1))
        for place, other in zip(*inputs, strict=False):
            self.link(place, other, "structure")

    def _belies(self, place: int, other: int) -> bool:
        """Whether what looks like this result has the value of another one: as a convolution has into which the batch norm
        after it was folded, and which kept its own name.
        """
        first, second = self.fingerprints[0].get(place), self.fingerprints[1].get(other)
        if first is None or second is None or self.equal.get(other, place) == place:
            return False
        return not close(first, second)

    def by_structure(self) -> None:
        """Neighbourhoods that occur once, from wide to narrow; after each, what follows from what is linked."""
        self.follow()
        hashes = [_neighbourhoods(drawing) for drawing in self.drawings]
        for radius in range(RADIUS, 0, -1):
            keys = [{place: hashes[side][place][radius - 1] for place in self.free(side)} for side in (0, 1)]
            for place, other in _unique(*keys):
                self.link(place, other, "structure")
            self.follow()

    def follow(self) -> None:
        """Link what has the same text and reads linked values, or is read in the same way by linked operations."""
        pending = list(self.forth)
        while pending:
            place = pending.pop()
            other = self.forth[place]
            before, after = self.drawings
            for around in (
                ([*before.boxes[place].reads], [*after.boxes[other].reads]),
                (before.readers[place], after.readers[other]),
            ):
                keys = [
                    {near: self._context(side, near) for near in around[side] if near not in (self.forth, self.back)[side]}
                    for side in (0, 1)
                ]
                for near, far in _unique(*keys):
                    if self.link(near, far, "structure"):
                        pending.append(near)

    def _context(self, side: int, place: int) -> Hashable:
        box = self.drawings[side].boxes[place]
        return box.text, box.shape, len(box.reads)

    def by_value(self) -> None:
        """Results of equal numbers."""
        known = self.fingerprints
        free = [{place: known[side][place] for place in self.free(side) if place in known[side]} for side in (0, 1)]
        for place, other in same_values(*free):
            self.link(place, other, "values")
        self.follow()

    def by_fused_name(self) -> None:
        """An operation of another kind whose result kept its name: something was fused into it."""
        before, after = self.drawings
        for place in list(self.free(0)):
            name = before.boxes[place].name
            other = after.places.get(name)
            if other is not None and not MADE_UP.fullmatch(name):
                self.link(place, other, "name")


def align(before: Drawing, after: Drawing, fingerprints: Sequence[Mapping[int, Fingerprint]] = ({}, {})) -> Links:
    """The links of two drawings; `fingerprints`: of each place, numbers that tell its value on a probe."""
    found = Alignment(before, after, fingerprints)
    found.by_name()
    found.by_structure()
    found.by_fused_name()
    found.by_value()
    return _regions(found)


def _regions(found: Alignment) -> Links:
    """Pairs of what is the same, and regions of neighbours of which nothing is."""
    before, _ = found.drawings
    same = {place: other for place, other in found.forth.items() if _is_same(found, place, other)}
    changed = nx.Graph()
    for side, drawing in enumerate(found.drawings):
        kept = same.keys() if side == 0 else set(same.values())
        loose = [place for place in range(len(drawing.boxes)) if place not in kept]
        changed.add_nodes_from((side, place) for place in loose)
        ends = (found.forth, found.back)[side]  # a value that both graphs have ends a region, whatever computes it
        reads = ((place, source) for place in loose for source in drawing.boxes[place].reads if source not in ends)
        changed.add_edges_from(((side, place), (side, source)) for place, source in reads)
    changed.add_edges_from(((0, place), (1, other)) for place, other in found.forth.items() if place not in same)
    changed.add_edges_from(_between(found, same))
    regions = []
    for members in nx.connected_components(changed):
        went, came = (tuple(sorted(place for side, place in members if side == which)) for which in (0, 1))
        linked = [found.how[place] for place in went if place in found.forth]
        how = "values" if "values" in linked else linked[0] if linked else _kind_of(found, same, went, came)
        regions.append(Region(went, came, how))
    pairs = [Pair(place, other, found.how[place]) for place, other in sorted(same.items())]
    return Links(tuple(pairs), tuple(sorted(regions, key=lambda region: (region.before or (len(before.boxes),), region.after))))


def _kind_of(found: Alignment, same: Mapping[int, int], went: Sequence[int], came: Sequence[int]) -> str:
    """Between the same sources and the same readers one thing came for the other; otherwise that is a guess."""
    before, after = found.drawings
    sources = {same[source] for place in went for source in before.boxes[place].reads if source in same}
    readers = {same[reader] for place in went for reader in before.readers[place] if reader in same}
    alike = sources == {source for place in came for source in after.boxes[place].reads if source not in came}
    alike = alike and readers == {reader for place in came for reader in after.readers[place] if reader not in came}
    return "structure" if alike or not (went and came) else "guess"


def _is_same(found: Alignment, place: int, other: int) -> bool:
    first, second = found.drawings[0].boxes[place], found.drawings[1].boxes[other]
    return first.text == second.text and same_weights(first, second)


def _between(found: Alignment, same: Mapping[int, int]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """What is not linked and read by the same operation at the same operand: one went where the other came."""
    for place, other in same.items():
        reads = found.drawings[0].boxes[place].reads, found.drawings[1].boxes[other].reads
        for first, second in zip(*reads, strict=False) if len(reads[0]) == len(reads[1]) else ():
            if first not in found.forth and second not in found.back:
                yield (0, first), (1, second)


def _unique(first: Mapping[int, Hashable], second: Mapping[int, Hashable]) -> list[tuple[int, int]]:
    """The places whose key occurs once on either side, and is the same."""
    counts = Counter(first.values()), Counter(second.values())
    place_of = {key: place for place, key in second.items()}
    return [(place, place_of[key]) for place, key in first.items() if counts[0][key] == counts[1][key] == 1]


def _neighbourhoods(drawing: Drawing) -> dict[int, list[str]]:
    """Of each place: a hash of everything within 1, 2, ... steps."""
    graph = nx.Graph()
    for place, box in enumerate(drawing.boxes):
        graph.add_node(place, text=f"{box.text} {box.shape} {len(box.reads)}")
        graph.add_edges_from((source, place) for source in box.reads)
    hashes: dict[int, list[str]] = nx.weisfeiler_lehman_subgraph_hashes(graph, node_attr="text", iterations=RADIUS)
    return hashes
