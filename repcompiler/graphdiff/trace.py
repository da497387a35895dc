"""The correspondence that the rewriter's log tells: no guess in it.

A rewrite takes values out and puts others in; rewrites that touch the same value belong to one region.  What no rewrite
touched has kept its name.
"""

from __future__ import annotations

from collections import defaultdict

import networkx as nx

from repcompiler.graphdiff.model import Drawing, Links, Pair, Region
from repcompiler.report import Report
from repcompiler.rewriter import Step


def trace(before: Drawing, after: Drawing, report: Report) -> Links:
    """Pairs by name, and regions from the rewrites."""
    touched = nx.Graph()
    for step in report.steps:
        names = [step.root, *(name for name, _ in (*step.removed, *step.added))]
        nx.add_path(touched, [*names, *(report.renamed[name] for name in names if name in report.renamed)])
        touched.add_node(step.root)
    region_of = {name: index for index, names in enumerate(nx.connected_components(touched)) for name in names}
    told: dict[int, list[Step]] = defaultdict(list)
    for step in report.steps:
        told[region_of[step.root]].append(step)

    def inside(drawing: Drawing) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for place, box in enumerate(drawing.boxes):
            if box.name in region_of and box.node is not None:
                found[region_of[box.name]].append(place)
        return found

    went, came = inside(before), inside(after)
    regions = [
        Region(tuple(went[index]), tuple(came[index]), "log", tuple(told[index]))
        for index in sorted({*went, *came}, key=lambda index: (went[index] or [len(before.boxes)])[0])
    ]
    return _with_the_rest(before, after, regions)


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
