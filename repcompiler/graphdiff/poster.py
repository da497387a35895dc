"""Both graphs as one picture: the rows of the page below each other, without anything that moves."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from repcompiler.graphdiff.layout import picture
from repcompiler.graphdiff.model import linked
from repcompiler.graphdiff.rows import cut
from repcompiler.graphdiff.svg import Opening, elements

if TYPE_CHECKING:
    from repcompiler.graphdiff.graph_diff import GraphDiff

FILL = {"same": "#eef1f4", "changed": "#ffe3b3", "gone": "#ffd0d0", "new": "#cfefd2", "unsure": "#e8dcff"}
HEAD, GAP = 30.0, 24.0
STYLE = " ".join(
    [
        "text { font: 11px ui-monospace, monospace; text-anchor: middle; fill: #1b2430 }",
        ".name { font-size: 10px; fill: #44505c }",
        ".edges { fill: none; stroke: #8a96a3 } rect { stroke: #c8d0d8 } .port rect { fill: none }",
        *(f".{state} rect {{ fill: {colour} }}" for state, colour in FILL.items()),
    ]
)


def svg(diff: GraphDiff) -> str:
    """An SVG document, from inputs to outputs, what belongs together at one height."""
    rows = [
        (picture(diff.before, row.before), picture(diff.after, row.after)) for row in cut(diff.before, diff.after, diff.links)
    ]
    widths = [max((pair[side].width for pair in rows), default=0.0) for side in (0, 1)]
    titles = (escape(drawing.title) for drawing in (diff.before, diff.after))
    left, right = widths[0] / 2 + GAP, widths[0] + 2 * GAP + widths[1] / 2
    parts = [f'<text x="{x:.0f}" y="18">{title}</text>' for x, title in zip((left, right), titles, strict=True)]
    openings = _opening(linked(diff.links, 0)), _opening(linked(diff.links, 1))
    y = HEAD
    for pair in rows:
        for x, shown, opening in zip((left, right), pair, openings, strict=True):
            moved = f'<g transform="translate({x - shown.width / 2:.0f} {y:.0f})">'
            parts += [moved, *elements(shown, opening), "</g>"]
        y += max(shown.height for shown in pair) + GAP / 2
    width, height = f"{sum(widths) + 3 * GAP:.0f}", f"{y:.0f}"
    start = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
    paper = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([start, f"<style>{STYLE}</style>", paper, *parts, "</svg>\n"])


def _opening(states: dict[int, tuple[str, str]]) -> Opening:
    return lambda box: ('class="port"' if box.port else f'class="{states[box.place][1]}"', "")
