"""What the page shows, in the order in which it shows it: plain data for the template, the script and the tests."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from repcompiler.graphdiff.layout import Picture, picture
from repcompiler.graphdiff.model import AFTER, BEFORE, Box, Drawing, Region, linked, shown, total
from repcompiler.graphdiff.regions import differences
from repcompiler.graphdiff.rows import CHANNELS, Block, Row, cut, fold
from repcompiler.graphdiff.summary import bars, certificate, told, verdict
from repcompiler.graphdiff.svg import Opening, elements

if TYPE_CHECKING:
    from repcompiler.graphdiff.graph_diff import GraphDiff

SIDES = ("before", "after")
OPENED = 12
"""Unchanged boxes up to which a row is open at first."""
STATES = {"same": "the same", "unsure": "probably the same", "changed": "rewritten", "gone": "gone", "new": "new"}
MARKS = {"why it stays": "stays", "taken back": "reverted"}
"""What is said of boxes that they show by their frames."""
AT_ONCE = 40
"""Rows, and changes in the list for print, that are in the page from the beginning; others when they are asked for."""
MOST = 6
"""Names in a list of things that are alike."""

Notes = dict[str, list[tuple[str, str]]]
"""(what, text) of boxes by their labels."""


@dataclass(frozen=True)
class ShownRow:
    """A row with its two pictures."""

    index: int
    summary: str
    changed: bool
    open: bool
    late: bool
    """Whether it is drawn only when it is near what is looked at."""
    pictures: tuple[tuple[Picture, str], ...]
    """Of either side: the picture, and its elements."""

    @property
    def height(self) -> float:
        return max(drawn.height for drawn, _ in self.pictures)


@dataclass(frozen=True)
class Equation:
    """A rule, and what it says."""

    name: str
    count: int
    parts: tuple[tuple[str, bool], ...]
    """Paragraphs, and whether each is set as a formula."""


def of(diff: GraphDiff) -> dict[str, Any]:
    """Everything that the template asks for."""
    rows = cut(diff.before, diff.after, diff.links)
    number = {id(row): index for index, row in enumerate(rows)}
    notes = _notes(diff)
    openings = [_opening(diff, side, notes[side]) for side in (BEFORE, AFTER)]

    def drawn(some: Sequence[Row]) -> list[ShownRow]:
        return [_row(diff, number[id(row)], row, openings) for row in some]

    blocks = fold(diff.before, diff.after, rows)
    return {
        "diff": diff,
        "sides": SIDES,
        "bars": bars(diff),
        "verdict": verdict(diff),
        "told": told(diff),
        "remaining": [] if diff.report is None else [shown(line) for line in diff.report.explanation()],
        "parting": _parting(diff),
        "states": {state: words for state, words in _words(diff).items() if state in _states(diff)},
        "noted": [(what, mark) for what, mark in MARKS.items() if _is_told(what, notes)],
        "blocks": [(drawn(block.rows), drawn(block.repeats), _repeated(block)) for block in blocks],
        "rules": list(equations(region for region in diff.links.regions)),
        **_listed(_regions(diff, notes[AFTER])),
        "data": _data(diff, blocks, number, notes),
    }


def _words(diff: GraphDiff) -> dict[str, str]:
    """What became of a box: what nobody has told to be rewritten has changed."""
    return STATES if diff.report is not None else {**STATES, "changed": "changed"}


def _states(diff: GraphDiff) -> set[str]:
    return {state for side in (BEFORE, AFTER) for _, state in linked(diff.links, side).values()}


def _notes(diff: GraphDiff) -> tuple[Notes, Notes]:
    """What is to be said of boxes of either side: why they stay, what was refused there, what was taken back."""
    notes: tuple[Notes, Notes] = defaultdict(list), defaultdict(list)
    if diff.report is None:
        return notes
    for line in diff.report.remaining:
        notes[AFTER][shown(line.value)].append(("why it stays", line.reason + (f" ({line.rule})" if line.rule else "")))
    label = {box.name: box.label for box in diff.after.boxes}
    for refusal in diff.report.declined:
        name = diff.report.renamed.get(refusal.root, refusal.root)
        if name in label and not any(refusal.reason in text for _, text in notes[AFTER][label[name]]):
            notes[AFTER][label[name]].append(("refused here", f"{refusal.rule}: {refusal.reason}"))
    for side, drawing in enumerate((diff.before, diff.after)):
        label = {box.name: box.label for box in drawing.boxes}
        for rule, root in diff.report.reverted:
            if root in label:
                notes[side][label[root]].append(("taken back", f"{rule}: the result differed with it"))
    return tuple({at: [*dict.fromkeys(lines)] for at, lines in found.items()} for found in notes)  # type: ignore[return-value]


def _opening(diff: GraphDiff, side: int, notes: Notes) -> Opening:
    """The attributes of a box on the page; what went on in it is in the page's data."""
    words = _words(diff)
    drawing, states, letter = (diff.before, diff.after)[side], linked(diff.links, side), SIDES[side][0]

    def opening(drawn: Any) -> tuple[str, str]:
        if drawn.port:
            return f'class="port" data-to="{letter}{drawn.place}"', ""
        box, (link, state) = drawing.boxes[drawn.place], states[drawn.place]
        marks = {MARKS[what] for what, _ in notes.get(box.label, ()) if what in MARKS}
        classes = " ".join(["box", state, *(["output"] if box.output else []), *sorted(marks)])
        known = f'class="{classes}" id="{letter}{drawn.place}" data-link="{link}" tabindex="0" role="button"'
        return known, f"{words[state]}: {box.text}, {box.label}"

    return opening


def _is_told(what: str, notes: tuple[Notes, Notes]) -> bool:
    """Whether it is said of any box."""
    return any(what == told for side in notes for lines in side.values() for told, _ in lines)


def _parting(diff: GraphDiff) -> str:
    """The box in which two models part."""
    difference = getattr(diff.verification, "difference", None)
    place = None if difference is None else diff.before.places.get(difference.value)
    return "" if place is None else f"b{place}"


def _data(diff: GraphDiff, blocks: Sequence[Block], number: dict[int, int], notes: tuple[Notes, Notes]) -> str:
    """What the script knows of rows and boxes: [name, operation, shape, parameters, MACs, link, state, row, notes]."""
    folded = {number[id(row)]: index for index, block in enumerate(blocks) for row in block.repeats}
    rows = [row for block in blocks for row in (*block.rows, *block.repeats)]
    boxes = []
    for side, drawing in enumerate((diff.before, diff.after)):
        states = linked(diff.links, side)
        row_of = {place: number[id(row)] for row in rows for place in (row.before, row.after)[side]}
        boxes.append(
            [
                [
                    b.label,
                    b.text,
                    b.shape,
                    b.parameters,
                    b.macs,
                    *states[place],
                    row_of[place],
                    *_told(notes[side].get(b.label)),
                ]
                for place, b in enumerate(drawing.boxes)
            ]
        )
    changed = sorted(number[id(row)] for row in rows if row.regions)
    content = {"boxes": boxes, "changed": changed, "folded": folded, "states": _words(diff)}
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _told(notes: list[tuple[str, str]] | None) -> list[list[list[str]]]:
    return [[[what, shown(text)] for what, text in notes]] if notes else []


def _row(diff: GraphDiff, index: int, row: Row, openings: Sequence[Opening]) -> ShownRow:
    sides = (diff.before, row.before), (diff.after, row.after)
    words = [_counted(drawing, places) for drawing, places in sides]
    summary = " → ".join(words) if row.regions else f"unchanged: {words[0]}"
    pictures = [picture(drawing, places) for drawing, places in sides]
    drawn = tuple((shape, "".join(elements(shape, opening))) for shape, opening in zip(pictures, openings, strict=True))
    return ShownRow(index, summary, bool(row.regions), bool(row.regions) or row.size <= OPENED, index >= AT_ONCE, drawn)


def _counted(drawing: Drawing, places: Sequence[int]) -> str:
    kinds = Counter(drawing.boxes[place].kind for place in places).most_common()
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds) or "nothing"


def _repeated(block: Block) -> str:
    times = len(block.repeats) // len(block.rows)
    return f"the same {times} times more" if times > 1 else "the same once more"


def _regions(diff: GraphDiff, notes: Notes) -> list[dict[str, Any]]:
    """What a click on each region tells; in print, of those that are alike the first."""
    found = [_region(diff, index, region, notes) for index, region in enumerate(diff.links.regions)]
    alike: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for region, content in zip(diff.links.regions, found, strict=True):
        went, came = ([CHANNELS.sub("", box.text) for box in boxes] for boxes in content["boxes"])
        alike[(*region.rules.items(), *went, "", *came)].append(content)
    for first, *others in alike.values():
        names = [content["title"] for content in others]
        first["more"] = ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
        first["times"] = len(others)
        for content in others:
            content["alike"] = True
    return found


def _listed(regions: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Those that are listed at once, those that follow in print, and those that are like one of these."""
    kinds = [region for region in regions if not region["alike"]]
    alike = [region for region in regions if region["alike"]]
    return {"listed": kinds[:AT_ONCE], "further": kinds[AT_ONCE:], "alike": alike}


def _region(diff: GraphDiff, index: int, region: Region, notes: Notes) -> dict[str, Any]:
    went = [diff.before.boxes[place] for place in region.before]
    came = [diff.after.boxes[place] for place in region.after]
    checked = Counter((step.rule, certificate(step)) for step in region.steps if certificate(step))
    return {
        "index": index,
        "title": came[-1].label if came else went[-1].label,
        "how": region.how,
        "certain": region.certain,
        "rules": region.rules,
        "boxes": (went, came),
        "totals": (total(went), total(came)),
        "differences": [shown(text) for text in _differences(went, came)],
        "kernels": diff.kernels(region),
        "notes": [(what, shown(text)) for box in came for what, text in notes.get(box.label, ())],
        "checked": [(rule, text, count) for (rule, text), count in checked.items()],
        "more": "",
        "times": 0,
        "alike": False,
    }


def _differences(went: Sequence[Box], came: Sequence[Box]) -> list[str]:
    """In what one operation differs from the one that came for it."""
    return differences(went[0], came[0]) if len(went) == len(came) == 1 and went[0].kind == came[0].kind else []


def equations(regions: Iterator[Region]) -> Iterator[Equation]:
    """The rules of some regions, in the order in which they were first applied."""
    from repcompiler.passes import PASSES

    docs = {rule.name: rule.doc for rule in PASSES}
    counts: Counter[str] = Counter()
    for region in regions:
        counts.update(region.rules)
    for name, count in counts.items():
        yield Equation(name, count, tuple(_paragraphs(docs.get(name, ""))))


def _paragraphs(doc: str) -> Iterator[tuple[str, bool]]:
    """Prose as it flows, formulas line by line, with what stands beside one below it."""
    for formula, group in groupby(doc.splitlines(), key=lambda line: line.startswith("  ")):
        if formula:
            yield "\n".join(part for line in group for part in re.split(r"(?<=\S) {4,}", line.removeprefix("    "))), True
        else:
            yield from (
                (" ".join(text.split()), False) for text in re.split(r"\n\n|\n(?=Source)", "\n".join(group)) if text.strip()
            )


def lines(diff: GraphDiff) -> Iterator[str]:
    """The diff as text: the summary, then each region."""
    sure = verdict(diff)
    yield f"{diff.before.title} -> {diff.after.title}"
    yield from (f"{bar.what:<24}{bar.before:>16,.12g}{bar.after:>16,.12g}  {bar.change}" for bar in bars(diff))
    yield f"{sure.title}: {sure.words}"
    yield from (line for line in (*sure.notes, sure.parting, *told(diff)) if line)
    yield f"{len(diff.links.pairs)} operations are the same"
    for region in diff.links.regions:
        rules = ", ".join(f"{count} x {name}" for name, count in region.rules.items())
        how = rules or ("" if region.how == "log" else f"by {region.how}{'' if region.certain else ', not certain'}")
        yield f"\n{how}"
        went, came = (
            [d.boxes[at] for at in places] for d, places in ((diff.before, region.before), (diff.after, region.after))
        )
        yield from (f"  {shown(text)}" for text in _differences(went, came))
        yield from (f"  - {box.label} = {box.text} : {box.shape}" for box in went)
        yield from (f"  + {box.label} = {box.text} : {box.shape}" for box in came)


__all__ = ["Equation", "ShownRow", "equations", "lines", "of"]
