"""What the page shows, in the order in which it shows it: plain data for the template, the tests and `to_json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repcompiler.graphdiff.layout import Picture, picture
from repcompiler.graphdiff.model import AFTER, BEFORE, Box, Drawing, Region, linked, total
from repcompiler.graphdiff.rows import Block, Row, cut, fold
from repcompiler.terminal import short

if TYPE_CHECKING:
    from repcompiler.graphdiff.graph_diff import GraphDiff

SIDES = ("before", "after")
OPENED = 12
"""Unchanged boxes up to which a row is open at first."""


@dataclass(frozen=True)
class Bar:
    """One line of the summary."""

    what: str
    before: int
    after: int

    @property
    def words(self) -> str:
        return f"{short(self.before)} → {short(self.after)}"

    @property
    def share(self) -> str:
        """What is left, in percent."""
        return f"{100 * self.after / self.before:.0f} %" if self.before else ""

    def width(self, side: int) -> float:
        """How long to draw it, in percent."""
        return 100 * (self.before, self.after)[side] / (max(self.before, self.after) or 1)


@dataclass(frozen=True)
class ShownRow:
    """A row with its two pictures."""

    index: int
    summary: str
    changed: bool
    open: bool
    pictures: tuple[Picture, Picture]


@dataclass(frozen=True)
class Equation:
    """A rule, and what it says."""

    name: str
    count: int
    first: str
    rest: str


def of(diff: GraphDiff) -> dict[str, Any]:
    """Everything that the template asks for."""
    rows = cut(diff.before, diff.after, diff.links)
    number = {id(row): index for index, row in enumerate(rows)}

    def shown(some: Sequence[Row]) -> list[ShownRow]:
        return [_row(diff, number[id(row)], row) for row in some]

    blocks = [(block, shown(block.rows), shown(block.repeats)) for block in fold(diff.before, diff.after, rows)]
    why = _reasons(diff)
    return {
        "diff": diff,
        "bars": bars(diff),
        "sides": tuple(zip(SIDES, (diff.before, diff.after), strict=True)),
        "links": (linked(diff.links, BEFORE), linked(diff.links, AFTER)),
        "why": why,
        "blocks": [(rows, repeats, _repeated(block)) for block, rows, repeats in blocks],
        "regions": [region_contents(diff, index, region, why) for index, region in enumerate(diff.links.regions)],
        "verdict": verdict(diff),
    }


def bars(diff: GraphDiff) -> list[Bar]:
    """Operations, parameters, multiply-accumulates and bytes, where they are known."""
    old, new = diff.before.statistics, diff.after.statistics
    if old is None or new is None:
        return [
            Bar(w, b, a)
            for w, b, a in zip(
                ("operations", "parameters", "MACs"), total(diff.before.boxes), total(diff.after.boxes), strict=True
            )
        ]
    return [
        Bar("operators", old.nodes, new.nodes),
        Bar("parameters", old.parameters, new.parameters),
        Bar("multiply-accumulates", old.macs, new.macs),
        Bar("bytes of weights", old.bytes, new.bytes),
        Bar("bytes of activations", old.activations, new.activations),
    ]


def verdict(diff: GraphDiff) -> tuple[str, str]:
    """(class, words): how sure we are."""
    found = diff.verification
    if found is None:
        return "unknown", f"not compared by running them{f': {diff.unverified}' if diff.unverified else ''}"
    words = found.summary()
    if found.undecided:
        return "unknown", words
    return ("equal", f"verified by running both: {words}") if found.equal else ("different", f"they differ: {words}")


def _reasons(diff: GraphDiff) -> dict[str, str]:
    """Of each operation that is left next to a linear one: why."""
    if diff.report is None:
        return {}
    reasons: dict[str, list[str]] = {}
    for line in diff.report.remaining:
        reasons.setdefault(line.value, []).append(line.reason)
    return {name: "; ".join(dict.fromkeys(lines)) for name, lines in reasons.items()}


def _row(diff: GraphDiff, index: int, row: Row) -> ShownRow:
    drawings = (diff.before, diff.after)
    words = [_counted(drawing, places) for drawing, places in zip(drawings, (row.before, row.after), strict=True)]
    summary = " → ".join(words) if row.regions else f"unchanged: {words[0]}"
    pictures = picture(diff.before, row.before), picture(diff.after, row.after)
    return ShownRow(index, summary, bool(row.regions), bool(row.regions) or row.size <= OPENED, pictures)


def _counted(drawing: Drawing, places: Sequence[int]) -> str:
    kinds = Counter(drawing.boxes[place].kind for place in places).most_common()
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds) or "nothing"


def _repeated(block: Block) -> str:
    times = len(block.repeats) // len(block.rows)
    return f"the same {times} times more" if times > 1 else "the same once more"


def region_contents(diff: GraphDiff, index: int, region: Region, why: Mapping[str, str]) -> dict[str, Any]:
    """What a click on a region tells."""
    went = [diff.before.boxes[place] for place in region.before]
    came = [diff.after.boxes[place] for place in region.after]
    return {
        "index": index,
        "title": came[-1].label or came[-1].name if came else went[-1].label or went[-1].name,
        "how": region.how,
        "certain": region.certain,
        "equations": list(equations(region)),
        "boxes": (went, came),
        "totals": (total(went), total(came)),
        "kernels": diff.kernels(region),
        "why": [why[box.label] for box in came if box.label in why],
    }


def equations(region: Region) -> Iterator[Equation]:
    """The rules of a region, in the order in which they were first applied."""
    from repcompiler.passes import PASSES

    docs = {rule.name: rule.doc for rule in PASSES}
    for name, count in region.rules.items():
        first, _, rest = docs.get(name, "").partition("\n")
        yield Equation(name, count, first, rest.strip("\n"))


def lines(diff: GraphDiff) -> Iterator[str]:
    """The diff as text: the summary, then each region."""
    yield f"{diff.before.title} -> {diff.after.title}"
    yield from (f"{bar.what:<24}{bar.before:>16,}{bar.after:>16,}  {bar.share}" for bar in bars(diff))
    yield verdict(diff)[1]
    yield f"{len(diff.links.pairs)} operations are the same"
    for region in diff.links.regions:
        rules = ", ".join(f"{count} x {name}" for name, count in region.rules.items())
        how = rules or ("" if region.how == "log" else f"by {region.how}{'' if region.certain else ', not certain'}")
        yield f"\n{how}"
        yield from (f"  - {box.name} = {box.text} : {box.shape}" for box in map(diff.before.boxes.__getitem__, region.before))
        yield from (f"  + {box.name} = {box.text} : {box.shape}" for box in map(diff.after.boxes.__getitem__, region.after))


__all__ = ["Bar", "Box", "Equation", "ShownRow", "bars", "equations", "lines", "of", "region_contents", "verdict"]
