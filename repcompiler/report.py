"""What a compilation did: for people (`str`), and for machines (`to_dict`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from repcompiler.deviation import Verification
from repcompiler.document import Comparison, Statistics
from repcompiler.refusal import Declined, Remaining, listed
from repcompiler.rewrite_log import Log, Step


@dataclass
class Report:
    """Filled in by `repcompiler.compile(..., report=report)`."""

    objective: str = ""
    before: Statistics | None = None
    after: Statistics | None = None
    steps: list[Step] = field(default_factory=list)
    declined: list[Declined] = field(default_factory=list)
    remaining: list[Remaining] = field(default_factory=list)
    """Why each linear operation is still next to another one."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """What the result calls the values that it calls otherwise than the rewrites did."""
    reverted: list[tuple[str, str]] = field(default_factory=list)
    """(rule, value) of rewrites taken back because the result differed with them."""
    verification: Verification | None = None
    timing: Comparison | None = None
    """Under `tune`: source and result run by turns; where the result was slower, the source's form was kept."""

    def fill(
        self,
        before: Statistics,
        after: Statistics,
        log: Log,
        objective: str,
        verification: Verification | None,
        reverted: Iterable[tuple[str, str]],
    ) -> None:
        """Record one compilation."""
        self.objective = objective
        self.before, self.after = before, after
        self.steps, self.declined, self.remaining = log.steps, log.declined, log.remaining
        self.renamed = log.renamed
        self.reverted = sorted(reverted)
        self.verification = verification

    def counts(self) -> dict[str, int]:
        """How often each rule was applied."""
        return dict(Counter(step.rule for step in self.steps).most_common())

    def certificates(self) -> dict[str, int]:
        """How many rewrites have which verdict of their own check (`repcompiler.certificate`)."""
        return dict(Counter(step.certificate.kind for step in self.steps if step.certificate is not None).most_common())

    def verdicts(self) -> str:
        """The same as a line; empty where no rewrite was checked."""
        counted = self.certificates()
        return "" if not counted else "each rewrite by itself: " + ", ".join(f"{n} {kind}" for kind, n in counted.items())

    def mistakes(self) -> list[str]:
        """Rewrites that were wrong, which should not happen: refused by their own check, or taken back."""
        refused = {(item.rule, item.root): item.reason for item in self.declined if item.is_mistake}
        return [
            *(f"refused: {rule} at '{root}' ({reason})" for (rule, root), reason in refused.items()),
            *(f"taken back: {rule} at '{root}' (the result differed with it)" for rule, root in self.reverted),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything, in plain types, for JSON."""
        return {
            "objective": self.objective,
            "before": _plain(self.before),
            "after": _plain(self.after),
            "rewrites": [asdict(step) for step in self.steps],
            "certificates": self.certificates(),
            "declined": [asdict(declined) for declined in self.declined],
            "remaining": [asdict(remaining) for remaining in self.remaining],
            "reverted": [{"rule": rule, "root": root} for rule, root in self.reverted],
            "verification": self._verification(),
            "timing": None if self.timing is None else asdict(self.timing),
        }

    def explanation(self) -> list[str]:
        """`remaining` as lines; those that differ only in names and numbers as one, with a count and the first few names."""
        alike: dict[tuple[str, ...], list[Remaining]] = defaultdict(list)
        for line in self.remaining:
            alike[line.kind].append(line)
        others = [listed([f"'{line.value}'" for line in lines[1:]]) for lines in alike.values()]
        also = (f"; also {names}" if names else "" for names in others)
        return [f"{len(lines):>6} x {lines[0]}{more}" for lines, more in zip(alike.values(), also, strict=True)]

    def dearer(self) -> list[str]:
        """What each rewrite that adds arithmetic costs, in order: a skip connection that is carried through its block."""
        return [
            f"{step.rule} at '{step.label}': parameters {step.parameters[0]:,} -> {step.parameters[1]:,}, "
            f"multiply-accumulates {step.macs[0]:,} -> {step.macs[1]:,}, "
            f"bytes of activations at once {step.activations[0]:,} -> {step.activations[1]:,}"
            for step in self.steps
            if step.macs[1] > step.macs[0]
        ]

    def _verification(self) -> dict[str, Any] | None:
        if self.verification is None:
            return None
        return {
            "checked": self.verification.checked,
            "equal": self.verification.equal if self.verification.checked else None,
            "summary": self.verification.summary(),
            "probes": self.verification.probes,
            "outputs": [{**asdict(out), "allowed": out.allowed, "equal": out.equal} for out in self.verification.outputs],
        }

    def rows(self) -> list[tuple[str, int, int]]:
        """(what, before, after): each kind of operation that changed, then the totals."""
        if self.before is None or self.after is None:
            return []
        old, new = self.before.operators, self.after.operators
        changed = [(kind, old.get(kind, 0), new.get(kind, 0)) for kind in sorted({*old, *new})]
        return [
            *(row for row in changed if row[1] != row[2]),
            ("operators", self.before.nodes, self.after.nodes),
            ("parameters", self.before.parameters, self.after.parameters),
            ("multiply-accumulates", self.before.macs, self.after.macs),
            ("bytes of weights", self.before.bytes, self.after.bytes),
            ("bytes of activations", self.before.activations, self.after.activations),
        ]

    def __str__(self) -> str:
        """The summary a person reads first."""
        lines = [f"{what:<24}{before:>16,}{after:>16,}" for what, before, after in self.rows()]
        lines += [f"{count:>6} x {rule}" for rule, count in self.counts().items()]
        lines += self.mistakes()
        if verdicts := self.verdicts():
            lines.append(verdicts)
        if self.verification is not None:
            lines.append(self.verification.summary())
        if self.timing is not None:
            lines.append(str(self.timing))
        return "\n".join(lines)


def _plain(statistics: Statistics | None) -> dict[str, Any] | None:
    return None if statistics is None else {**asdict(statistics), "operators": dict(statistics.operators)}
