"""What a person reads first: what got smaller or faster and by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from repcompiler.deviation import EXACT_MULTIPLE, MULTIPLE, Deviation
from repcompiler.equivalence import VerifyResult, strain
from repcompiler.graphdiff.model import shown, total
from repcompiler.rewrite_log import Step
from repcompiler.terminal import short

if TYPE_CHECKING:
    from repcompiler.graphdiff.graph_diff import GraphDiff


ROUNDED = 100
"""From where on digits behind the point say nothing."""


@dataclass(frozen=True)
class Bar:
    """One number, before and after."""

    what: str
    before: float
    after: float
    unit: str = ""

    @property
    def words(self) -> str:
        return " → ".join(
            f"{number:.3g} {self.unit}" if self.unit else short(int(number)) for number in (self.before, self.after)
        )

    @property
    def change(self) -> str:
        """By how much it fell or rose, in percent."""
        if self.before == self.after or not self.before:
            return "the same" if self.before == self.after else ""
        percent = 100 * (self.after / self.before - 1)
        return f"{'+' if percent > 0 else '−'}{abs(percent):.{0 if abs(percent) >= 1 else 1}f} %"  # noqa: RUF001 - a minus sign

    @property
    def direction(self) -> str:
        return "less" if self.after < self.before else "more" if self.after > self.before else "equal"

    def width(self, side: int) -> float:
        """How long to draw it, in percent."""
        return 100 * (self.before, self.after)[side] / (max(self.before, self.after) or 1)


@dataclass(frozen=True)
class Gauge:
    """How far off the result is, of what is allowed."""

    what: str
    off: float
    allowed: float

    @property
    def words(self) -> str:
        off = f"{self.off:.2g}" if self.off < ROUNDED else short(int(self.off)) if isfinite(self.off) else "∞"
        return f"{off} of {self.allowed:g}"

    @property
    def width(self) -> float:
        return min(100.0, 100 * self.off / self.allowed)


@dataclass(frozen=True)
class Verdict:
    """How sure we are."""

    state: str
    """"equal", "different" or "unknown"."""
    title: str
    words: str
    gauges: tuple[Gauge, ...] = ()
    probes: tuple[str, ...] = ()
    parting: str = ""
    """Where the two part."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """In plain types; what is off by more than any number is None."""
        return {**asdict(self), "gauges": [{**asdict(g), "off": g.off if isfinite(g.off) else None} for g in self.gauges]}


def bars(diff: GraphDiff) -> list[Bar]:
    """Milliseconds, operations, parameters, multiply-accumulates and bytes, where they are known."""
    timing = None if diff.report is None else diff.report.timing
    times = [] if timing is None else [Bar("latency, measured here", 1e3 * timing.before, 1e3 * timing.after, "ms")]
    old, new = diff.before.statistics, diff.after.statistics
    if old is None or new is None:
        sums = zip(("operations", "parameters", "MACs"), total(diff.before.boxes), total(diff.after.boxes), strict=True)
        return [*times, *(Bar(*line) for line in sums)]
    return [
        *times,
        Bar("operators", old.nodes, new.nodes),
        Bar("parameters", old.parameters, new.parameters),
        Bar("multiply-accumulates", old.macs, new.macs),
        Bar("bytes of weights", old.bytes, new.bytes),
        Bar("bytes of activations", old.activations, new.activations),
    ]


def verdict(diff: GraphDiff) -> Verdict:
    """Of the verification of a compilation, or of `verify`."""
    found = diff.verification
    if found is None:
        return Verdict("unknown", "Not compared", shown(diff.unverified) or "nobody has run them on the same inputs")
    words = shown(found.summary())
    probes = tuple(found.probes) if isinstance(found, VerifyResult) else ()  # a compilation's summary names them
    if found.undecided:
        return Verdict("unknown", "Not decided", words, (), probes)
    gauges = tuple(_gauges(max(found.outputs, key=strain))) if found.outputs else ()
    notes = tuple(map(shown, found.notes)) if isinstance(found, VerifyResult) else ()
    if found.equal:
        return Verdict("equal", "The same function, to rounding", words, gauges, probes, "", notes)
    parting = ""
    if isinstance(found, VerifyResult):
        parting = shown(str(found.difference) if found.difference is not None else found.unlocated)
    return Verdict("different", "They differ", words, gauges, probes, parting, notes)


def _gauges(worst: Deviation) -> Iterator[Gauge]:
    """Of the output that is nearest to its limit, or furthest beyond it."""
    if worst.reason:
        return
    run, exact = worst.units
    yield Gauge("as they run", run, MULTIPLE)
    if worst.exact is not None:
        yield Gauge("both in float64", exact, EXACT_MULTIPLE)


def certificate(step: Step) -> str:
    """What the rewrite's own check says, where it has one."""
    return shown(str(step.certificate or ""))


def told(diff: GraphDiff) -> list[str]:
    """What else there is to say of a compilation: what it was for, what was taken back, how long both take."""
    if diff.report is None:
        return []
    report = diff.report
    lines = [f"compiled for objective {report.objective}: {len(report.steps)} rewrites"] if report.objective else []
    lines += [report.verdicts(), *report.mistakes()]
    lines += [str(report.timing)] if report.timing is not None else []
    return [shown(line) for line in lines if line]


__all__ = ["Bar", "Gauge", "Verdict", "bars", "certificate", "told", "verdict"]
