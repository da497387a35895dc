"""Boxes and edges of a picture as SVG elements, for the page and for the poster; a style sheet says how they look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from repcompiler.graphdiff.layout import Picture, Shown

Opening = Callable[[Shown], tuple[str, str]]
"""Of a box or port: the attributes of its group, and a title."""


def elements(picture: Picture, opening: Opening) -> Iterator[str]:
    """The edges, then each box in a group of its own."""
    yield f'<path class="edges" d="{"".join(picture.paths)}"/>'
    for box in picture.boxes:
        yield _group(box, *opening(box))


def _group(box: Shown, attributes: str, title: str) -> str:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    place = f'x="{x:.0f}" y="{y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="{9 if box.port else 5}"'
    parts = [f"<g {attributes}>", f"<title>{escape(title)}</title>" if title else "", f"<rect {place}/>"]
    if len(box.lines) == 1:
        parts.append(f'<text x="{box.x:.0f}" y="{box.y + 4:.0f}">{escape(box.lines[0])}</text>')
    else:
        parts.append(f'<text x="{box.x:.0f}" y="{box.y - 4:.0f}">{escape(box.lines[0])}</text>')
        parts.append(f'<text class="name" x="{box.x:.0f}" y="{box.y + 11:.0f}">{escape(box.lines[1])}</text>')
    return "".join([*parts, "</g>"])
