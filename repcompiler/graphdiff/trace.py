"""The correspondence that the rewriter's log tells: no guess in it.

A rewrite takes values out and puts others in; rewrites that touch the same value belong to one region.  What no rewrite
touched has kept its name.  What only went (an identity between a batch norm and a sum) belongs to the region that read it, or
else to the one that it read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import networkx as nx

from repcompiler.graphdiff.model import Drawing, Links, Pair, Region
from repcompiler.report import Report
from repcompiler.rewrite_log import Step


def trace(before: Drawing, after: Drawing, report: Report) -> Links:
    """Pairs by name, and regions from the rewrites."""
    touched = nx.Graph()
    for step in report.steps:
        names = [step.root, *(name for name, _ in (*step.removed, *step.added))]
        nx.add_path(touched, [*names, *(report.renamed[name] for name in names if name in report.renamed)])
        touched.add_node(step.root)
    region_of = {name: index for index, names in enumerate(nx.connected_components(touched)) for name in names}
    came_in = {region_of[box.name] for box in after.boxes if box.node is not None and box.name in region_of}
    joined = nx.Graph(_absorbed(before, region_of, came_in))
    joined.add_nodes_from(region_of.values())
    whole = {index: number for number, members in enumerate(nx.connected_components(joined)) for index in members}
    told: dict[int, list[Step]] = defaultdict(list)
    for step in report.steps:
        told[whole[region_of[step.root]]].append(step)

    def inside(drawing: Drawing) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for place, box in enumerate(drawing.boxes):
            if box.name in region_of and box.node is not None:
                found[whole[region_of[box.name]]].append(place)
        return found

    went, came = inside(before), inside(after)
    regions = [
        Region(tuple(went[index]), tuple(came[index]), "log", tuple(told[index]))
        for index in sorted({*went, *came}, key=lambda index: (went[index] or [len(before.boxes)])[0])
    ]
    return _with_the_rest(before, after, regions)


def _absorbed(before: Drawing, region_of: dict[str, int], came_in: set[int]) -> Iterator[tuple[int, int]]:
    """Of each region of which nothing came: the one that all its readers are in, or else all that it reads."""
    at = {
        place: region_of[box.name] for place, box in enumerate(before.boxes) if box.node is not None and box.name in region_of
    }
    gone: dict[int, list[int]] = defaultdict(list)
    for place, region in at.items():
        if region not in came_in:
            gone[region].append(place)
    for region, places in gone.items():
        readers = {at.get(reader) for place in places for reader in before.readers[place]} - {region}
        sources = {at.get(source) for place in places for source in before.boxes[place].reads} - {region}
        near = next((next(iter(around)) for around in (readers, sources) if len(around) == 1 and None not in around), None)
        if near is not None:
            yield region, near


def _with_the_rest(before: Drawing, after: Drawing, regions: list[Region]) -> Links:
    """What is in no region: pairs of one name; and what has no counterpart, each a region of its own."""
    went = {place for region in regions for place in region.before}
    came = {place for region in regions for place in region.after}
    pairs = [
        Pair(place, after.places[box.name])
        for place, box in enumerate(before.boxes)
        if place not in went and box.name in after.places and after.places[box.name] not in came
    ]
    went |= {pair.before for pair in pairs}
    came |= {pair.after for pair in pairs}
    regions += [Region((place,), ()) for place in range(len(before.boxes)) if place not in went]
    regions += [Region((), (place,)) for place in range(len(after.boxes)) if place not in came]
    return Links(tuple(pairs), tuple(regions))
