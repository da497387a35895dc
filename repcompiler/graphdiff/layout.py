"""One side of a row as a picture: boxes placed and edges routed by graphlay (layered, top to bottom), drawn as plain SVG.

graphlay rather than Graphviz, which is no Python package; than fast-sugiyama, which knows no sizes of boxes and routes no
edges; and than grandalf, which is slow beyond a few hundred boxes and under the GPL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from textwrap import wrap

from repcompiler.errors import ModelError
from repcompiler.graphdiff.model import Drawing

LINE, LETTER, MARGIN = 14.0, 6.7, 10.0
"""Height of a line, width of a letter, and what a box has around its text, in px."""
WIDEST, STEP = 24, 3
"""Letters a line, and the steps in which boxes grow with them."""
PORTS = 4
"""Values of other rows that an operation is drawn to read one by one."""
OPTIONS = {
    "direction": "topbottom",
    "effort": "fast",
    "spacing": {"layer_gap": 26.0, "node_gap": 18.0, "dummy_gap": 14.0, "port_gap": 10.0, "stub": 8.0},
    "routing": {"style": "diagonal"},
}


Item = tuple[int, str]
"""The place of a box, and whether it is itself, or a port that its value comes from or goes to."""
Laid = tuple[tuple[tuple[float, float], ...], tuple[str, ...], float, float]


@dataclass(frozen=True)
class Shown:
    """One box or port where it is drawn: the middle of it, and its size."""

    place: int
    port: str
    """Empty for a box; "from" or "to" for a value that comes from, or goes on to, another row."""
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """What an SVG element of this size shows."""

    width: float
    height: float
    boxes: tuple[Shown, ...]
    paths: tuple[str, ...]


def shortened(text: str, most: int = WIDEST) -> str:
    """The end of a long name, which tells more than its beginning."""
    return text if len(text) <= most else "…" + text[1 - most :]


def picture(drawing: Drawing, places: Sequence[int]) -> Picture:
    """The boxes at `places`, with ports for what they read from elsewhere and what is read of them there."""
    inside = set(places)
    items: dict[Item, tuple[str, ...]] = {}
    edges: list[tuple[Item, Item]] = []
    for place in sorted(places):
        box = drawing.boxes[place]
        outside = [source for source in box.reads if source not in inside]
        edges += [((source, ""), (place, "")) for source in box.reads if source in inside]
        if len(outside) > PORTS:
            items[place, "from"] = (f"{len(outside)} values from above",)
            edges.append(((place, "from"), (place, "")))
        else:
            items |= {(source, "from"): (shortened(drawing.boxes[source].label),) for source in outside}
            edges += [((source, "from"), (place, "")) for source in outside]
        items[place, ""] = _lines(box.text, box.label)
        if box.output or any(reader not in inside for reader in drawing.readers[place]):
            items[place, "to"] = ("output" if box.output else shortened(box.label),)
            edges.append(((place, ""), (place, "to")))
    return _placed(items, edges)


def _lines(text: str, name: str) -> tuple[str, ...]:
    """The operation in one or two lines, and its name."""
    first, *others = wrap(text, WIDEST, break_on_hyphens=False) or [""]
    more = " ".join(others)
    second = [] if not others else [more if len(more) <= WIDEST else more[: WIDEST - 1] + "…"]
    return (first, *second, shortened(name))


def _placed(items: Mapping[Item, tuple[str, ...]], edges: Iterable[tuple[Item, Item]]) -> Picture:
    if not items:
        return Picture(0, 0, (), ())
    sizes = [(_width(lines), LINE * len(lines) + (MARGIN / 2 if port else MARGIN)) for (_, port), lines in items.items()]
    index = {item: place for place, item in enumerate(items)}
    centres, paths, width, height = _laid(tuple(sizes), tuple((index[source], index[target]) for source, target in edges))
    shown = [
        Shown(*item, *centre, *size, lines) for (item, lines), centre, size in zip(items.items(), centres, sizes, strict=True)
    ]
    return Picture(width, height, tuple(shown), paths)


def _width(lines: Sequence[str]) -> float:
    """In steps of some letters, so that blocks that differ in names alone are laid out once."""
    return STEP * -(-max(map(len, lines)) // STEP) * LETTER + 2 * MARGIN


@lru_cache(maxsize=1024)
def _laid(sizes: tuple[tuple[float, float], ...], edges: tuple[tuple[int, int], ...]) -> Laid:
    """The middle of each box, the path of each edge, and the width and height of all."""
    try:
        import graphlay
    except ImportError as error:
        raise ModelError("a drawing needs graphlay and jinja2: pip install repcompiler[diff]") from error
    graph = graphlay.Graph()
    for place, (width, height) in enumerate(sizes):
        graph.node(place, width=width, height=height)
    for source, target in edges:
        graph.edge(source, target)
    laid = graphlay.layout(graph, options=OPTIONS)
    left, top = laid.bounds["min"]["x"] - 4, laid.bounds["min"]["y"] - 4
    centres = tuple((node["center"]["x"] - left, node["center"]["y"] - top) for node in laid.nodes)
    paths = tuple(
        "M" + "L".join(f"{point['x'] - left:.0f} {point['y'] - top:.0f}" for point in edge["points"]) for edge in laid.edges
    )
    return centres, paths, laid.bounds["max"]["x"] - left + 4, laid.bounds["max"]["y"] - top + 4
