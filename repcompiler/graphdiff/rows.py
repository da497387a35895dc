"""Both graphs cut into rows that stand beside each other, so that a part and its counterpart are at one height.

One order serves both sides: linked boxes are contracted to one, cycles that this makes too, and what remains is sorted
topologically.  It is cut where at most one tensor is alive on either side, and, where there is no such place for long, where
the fewest are.  A region that is larger than a row takes several.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import networkx as nx

from repcompiler.graphdiff.model import Drawing, Links

MOST = 120
"""Boxes in a row, about: how large a drawing a person can take in, and the layout do fast."""
CROWDED = 400
"""Tensors alive, summed over the operations of a row: long edges take a person as much time to follow as the layout."""
FEW = 3
"""Unchanged boxes that are shown as the context of a change."""
PERIOD = 8
"""Rows that a repeated block may have."""
CHANNELS = re.compile(r"\b\d+->\d+\b|groups=\d+")


@dataclass
class Row:
    """A stretch of both graphs: the places of its boxes, and of the regions that it has."""

    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    regions: list[int] = field(default_factory=list)

    def extend(self, other: Row) -> None:
        self.before += other.before
        self.after += other.after
        self.regions += other.regions

    @property
    def size(self) -> int:
        return max(len(self.before), len(self.after))


@dataclass(frozen=True)
class Block:
    """Rows, and how many repetitions of their like follow: `rows` has one period, `repeats` all others."""

    rows: tuple[Row, ...]
    repeats: tuple[Row, ...] = ()


def cut(before: Drawing, after: Drawing, links: Links) -> list[Row]:
    """The rows, from inputs to outputs."""
    order = _order(before, after, links)
    position: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for index, row in enumerate(order):
        for side, places in enumerate((row.before, row.after)):
            position[side].update(dict.fromkeys(places, index))
    alive = [
        max(counts) for counts in zip(*(_alive(d, position[s], len(order)) for s, d in enumerate((before, after))), strict=True)
    ]
    rows: list[Row] = []
    start, best, size, crowd = 0, 0, 0, 0
    index = 0
    while index < len(order):
        size += order[index].size
        crowd += alive[index]
        best = index if index == start or alive[index] <= alive[best] else best
        if alive[index] <= 1 or max(size / MOST, crowd / CROWDED) >= 1 or index == len(order) - 1:
            end = index if alive[index] <= 1 or index == len(order) - 1 else best
            rows.append(Row())
            for row in order[start : end + 1]:
                rows[-1].extend(row)
            start = best = index = end + 1
            size = crowd = 0
        else:
            index += 1
    return _joined(rows)


def _order(before: Drawing, after: Drawing, links: Links) -> list[Row]:
    """Every pair and region, in an order that both graphs agree with; those that read each other are one."""
    units = [Row([pair.before], [pair.after]) for pair in links.pairs]
    units += [Row([*region.before], [*region.after], [index]) for index, region in enumerate(links.regions)]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(units)))
    for drawing, side in ((before, "before"), (after, "after")):
        unit_of = {place: index for index, unit in enumerate(units) for place in getattr(unit, side)}
        for place, box in enumerate(drawing.boxes):
            graph.add_edges_from((unit_of[source], unit_of[place]) for source in box.reads)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    merged = nx.condensation(graph)
    first = {part: min(_key(units[unit]) for unit in merged.nodes[part]["members"]) for part in merged}
    order = []
    for part in nx.lexicographical_topological_sort(merged, key=first.__getitem__):
        row = Row()
        for unit in sorted(merged.nodes[part]["members"], key=lambda unit: _key(units[unit])):
            row.extend(units[unit])
        row = Row(sorted(row.before), sorted(row.after), row.regions)
        order += [
            Row(row.before[start : start + MOST], row.after[start : start + MOST], row.regions)
            for start in range(0, row.size, MOST)
        ]
    return order


def _key(unit: Row) -> tuple[int, int]:
    """Where a unit stands in the source, or else in the result."""
    return (min(unit.before), 0) if unit.before else (min(unit.after), 1)


def _alive(drawing: Drawing, position: dict[int, int], count: int) -> list[int]:
    """How many results are still to be read after each place of the order."""
    changes = [0] * (count + 1)
    for place, readers in enumerate(drawing.readers):
        last = max((position[reader] for reader in readers), default=position[place])
        changes[position[place]] += 1
        changes[last] -= 1
    return list(accumulate(changes[:count]))


def _joined(rows: Sequence[Row]) -> list[Row]:
    """Unchanged neighbours as one; few of them as the context of the change before."""
    joined: list[Row] = []
    for row in rows:
        last = joined[-1] if joined else None
        if last is not None and not row.regions and last.size + row.size <= MOST:
            context = sum(1 for _ in last.before) and last.regions and row.size <= FEW
            if not last.regions or context:
                last.extend(row)
                continue
        joined.append(row)
    return joined


def fold(before: Drawing, after: Drawing, rows: Sequence[Row]) -> list[Block]:
    """Repeated blocks as one each: rows that differ in nothing but names and channels, in a period of up to `PERIOD`."""
    shapes = [_shape(before, after, row) for row in rows]
    blocks: list[Block] = []
    index = 0
    while index < len(rows):
        best, count = 1, 1
        for period in range(1, PERIOD + 1):
            repeats = 1
            while shapes[index : index + period] == shapes[index + repeats * period : index + (repeats + 1) * period]:
                repeats += 1
            if repeats > 1 and repeats * period > best * count:
                best, count = period, repeats
        end = index + best * count
        blocks.append(Block(tuple(rows[index : index + best]), tuple(rows[index + best : end])))
        index = end
    return blocks


def _shape(before: Drawing, after: Drawing, row: Row) -> tuple[object, ...]:
    """What two rows have in common that are alike."""
    sides = []
    for drawing, places in ((before, row.before), (after, row.after)):
        inside = {place: index for index, place in enumerate(places)}
        sides.append(
            tuple(
                (
                    CHANNELS.sub("", drawing.boxes[place].text),
                    tuple(inside.get(read, -1) for read in drawing.boxes[place].reads),
                )
                for place in places
            )
        )
    return (*sides, len(row.regions))
