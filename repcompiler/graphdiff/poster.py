"""Both graphs as one picture: the rows of the page below each other, without anything that moves."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from repcompiler.graphdiff.layout import Picture, Shown, picture
from repcompiler.graphdiff.model import linked
from repcompiler.graphdiff.rows import cut

if TYPE_CHECKING:
    from repcompiler.graphdiff.graph_diff import GraphDiff

FILL = {"same": "#eef1f4", "changed": "#ffe3b3", "gone": "#ffd0d0", "new": "#cfefd2", "unsure": "#e8dcff"}
HEAD, GAP = 30.0, 24.0


def svg(diff: GraphDiff) -> str:
    """An SVG document, from inputs to outputs, what belongs together at one height."""
    rows = [
        (picture(diff.before, row.before), picture(diff.after, row.after)) for row in cut(diff.before, diff.after, diff.links)
    ]
    widths = [max((pair[side].width for pair in rows), default=0.0) for side in (0, 1)]
    titles = (escape(drawing.title) for drawing in (diff.before, diff.after))
    left, right = widths[0] / 2 + GAP, widths[0] + 2 * GAP + widths[1] / 2
    parts = [f'<text x="{x:.0f}" y="18" font-size="14">{title}</text>' for x, title in zip((left, right), titles, strict=True)]
    y = HEAD
    for pair in rows:
        for side, (x, shown) in enumerate(zip((left, right), pair, strict=True)):
            states = linked(diff.links, side)
            moved = f'<g transform="translate({x - shown.width / 2:.0f} {y:.0f})">'
            parts += [moved, *_drawn(shown, {place: state for place, (_, state) in states.items()}), "</g>"]
        y += max(shown.height for shown in pair) + GAP / 2
    size = f"{sum(widths) + 3 * GAP:.0f}", f"{y:.0f}"
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" font-family="monospace" font-size="11"'
    )
    return "\n".join(
        [f'{start} text-anchor="middle">', f'<rect width="{size[0]}" height="{size[1]}" fill="#fff"/>', *parts, "</svg>\n"]
    )


def _drawn(shown: Picture, states: dict[int, str]) -> Iterator[str]:
    yield f'<path d="{"".join(shown.paths)}" fill="none" stroke="#8a96a3"/>'
    for box in shown.boxes:
        yield from _box(box, "none" if box.port else FILL[states[box.place]])


def _box(box: Shown, fill: str) -> Iterator[str]:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    place = f'x="{x:.0f}" y="{y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}"'
    yield f'<rect {place} rx="5" fill="{fill}" stroke="#c8d0d8"/>'
    for index, line in enumerate(box.lines):
        down = box.y + 4 + (0 if len(box.lines) == 1 else 15 * index - 8)
        yield f'<text x="{box.x:.0f}" y="{down:.0f}">{escape(line)}</text>'
