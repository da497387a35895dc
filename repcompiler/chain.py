"""Which merges along a chain of linear steps save most together.

    chain    ::=  step ... step          the result of each read by the next alone
    segment  ::=  neighbouring steps that a match would merge into one
    plan     ::=  segments that share no step, of the greatest total saving

What a segment saves is known from its geometry (`repcompiler.region.outline`), before any weight is computed.  Leaving a step
as it is saves nothing, so a plan is a heaviest set of disjoint intervals: a shortest path over the places between steps
(Kleinberg and Tardos, Algorithm Design, 6.1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary, ref

from repcompiler.cost import Objective
from repcompiler.ir import Node, Value
from repcompiler.pattern import Match
from repcompiler.refusal import Refusal
from repcompiler.region import HORIZON, Scope, is_read_within, last_step
from repcompiler.sites import Saving, inside, outlined, saving

STRETCH = 64
"""Steps to either side for which a chain is planned at once."""

Key = tuple["ref[Node]", ...]
"""The nodes of a segment: weakly, or the weights of what was rewritten would stay in memory."""


@dataclass(frozen=True)
class Candidates:
    """The segments that end in a node: where they start, and what each saves."""

    seen: Key
    """The nodes of all matches: while these are there, so are the matches."""
    savings: tuple[tuple[ref[Value], Saving], ...]


@dataclass(frozen=True)
class Segment:
    """The steps from `start` up to, not including, `stop`, and what merging them saves."""

    start: int
    stop: int
    saving: Saving

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether it shares a step with others."""
        return self.start < stop and start < self.stop


@dataclass(frozen=True)
class Plan:
    """The segments of a chain to merge."""

    chain: tuple[Node, ...]
    readers: Mapping[Value | None, int]
    """Which step reads a value."""
    segments: tuple[Segment, ...]

    @property
    def saving(self) -> float:
        """How much the cost falls by merging all segments."""
        return sum(segment.saving[0] for segment in self.segments)


def chain(node: Node, scope: Scope, planned: Callable[[Node], bool] = lambda node: False) -> tuple[Node, ...]:
    """The chain that `node` is a step of, first step to last; of a join, the node that adds up or concatenates.

    It goes on to what is `planned` already, and no more than `STRETCH` steps to either side: so a change of a long chain costs
    no more than one of a short one.
    """
    steps = deque([node])
    while len(steps) <= STRETCH and (earlier := _before(steps[0], scope)) is not None and not planned(earlier):
        steps.appendleft(earlier)
    for _ in range(STRETCH):
        later = _after(steps[-1], scope)
        if later is None or planned(later):
            break
        steps.append(later)
    return tuple(steps)


def heaviest(segments: Iterable[Segment], steps: int) -> tuple[Segment, ...]:
    """Among segments of a chain of so many steps, those that share no step and save most; as few and short as can be."""
    ending: dict[int, list[Segment]] = {}
    for segment in segments:
        ending.setdefault(segment.stop, []).append(segment)
    best: list[tuple[Saving, tuple[Segment, ...]]] = [((0.0, 0), ())]
    for stop in range(1, steps + 1):
        best.append(best[-1])  # leave the last step as it is
        for segment in sorted(ending.get(stop, ()), key=lambda segment: -segment.start):
            (cost, count), chosen = best[segment.start]
            total = cost + segment.saving[0], count + segment.saving[1]
            if total > best[-1][0]:
                best[-1] = total, (*chosen, segment)
    return best[-1][1]


class Planner:
    """Plans the merges of one rule, and plans again where one was refused after all."""

    def __init__(self, matches: Callable[[Node], Iterable[Match]], scope: Scope, objective: Objective) -> None:
        self.matches = matches
        self.scope = scope
        self.objective = objective
        self.verdicts: dict[Key, Saving | str | None] = {}
        """What merging these nodes saves, or why it does not pay; None where their geometry does not tell."""
        self.plans: dict[Node, Plan] = {}
        self.candidates: WeakKeyDictionary[Node, Candidates] = WeakKeyDictionary()

    def forget(self) -> None:
        """Drop all plans: the graph around the chains may have changed."""
        self.plans.clear()
        self.candidates.clear()

    def postpones(self, node: Node, match: Match) -> bool:
        """Whether a merge at `node` that pays has to wait: it shares a step with a planned segment, and is none itself.

        What does not pay, or not as far as its geometry tells, is not the plan's business and is judged by itself.
        """
        if not isinstance(self.verdict(node, match), tuple):
            return False
        plan = self.plan(node)
        steps = _steps(plan, node, match)
        return steps is not None and any(
            segment.overlaps(*steps) and (segment.start, segment.stop) != steps for segment in plan.segments
        )

    def verdict(self, node: Node, match: Match) -> Saving | str | None:
        """What a merge of steps would save if nothing else reads what is inside, or why it does not pay; None if unknown."""
        if not _spans_steps(match):
            return None
        key, sites = _key(node, match), {node: match}
        if key not in self.verdicts:
            terms = None
            with suppress(Refusal):  # not one convolution, as far as geometry tells
                terms = outlined(sites, self.scope.views)
            try:
                self.verdicts[key] = None if terms is None else saving(sites, terms, self.objective)
            except Refusal as refusal:
                self.verdicts[key] = str(refusal)
        return self.verdicts[key]

    def plan(self, node: Node) -> Plan:
        """The plan for the chain of `node`, made when first asked for and again when the chain changed."""
        plan = self.plans.get(node)
        if plan is None or not self._holds(plan):
            self._drop(plan)
            steps = chain(node, self.scope, lambda step: step in self.plans and self._holds(self.plans[step]))
            first = last_step(steps[0], self.scope)
            assert first is not None, "only what merges steps is planned"
            read = [first[1], *(step.output for step in steps[:-1])]
            plan = Plan(steps, {value: index for index, value in enumerate(read)}, ())
            plan = replace(plan, segments=heaviest(self._segments(plan), len(steps)))
            self.plans.update(dict.fromkeys(steps, plan))
        return plan

    def give_up(self, node: Node, match: Match) -> Sequence[Node]:
        """Note that a match was refused; the steps to look at again where it was planned, because they waited for it."""
        if not isinstance(self.verdict(node, match), tuple):
            return ()
        plan = self.plan(node)
        steps = _steps(plan, node, match)
        self.verdicts[_key(node, match)] = None
        if all((segment.start, segment.stop) != steps for segment in plan.segments):
            return ()
        self.candidates.pop(node, None)
        self._drop(plan)
        return plan.chain[: plan.chain.index(node) + 1]

    def _holds(self, plan: Plan) -> bool:
        """Whether its chain is still there."""
        return all(step in self.scope.graph.nodes for step in plan.chain)

    def _drop(self, plan: Plan | None) -> None:
        for step in () if plan is None else plan.chain:
            self.plans.pop(step, None)

    def _segments(self, plan: Plan) -> Iterable[Segment]:
        for stop, node in enumerate(plan.chain, start=1):
            for source, saved in self._candidates(node).savings:
                start = plan.readers.get(source())
                if start is not None:
                    yield Segment(start, stop, saved)

    def _candidates(self, node: Node) -> Candidates:
        known = self.candidates.get(node)
        if known is None or any(seen() not in self.scope.graph.nodes for seen in known.seen):
            matches = [match for match in self.matches(node) if _spans_steps(match)]
            savings = ((ref(match.whole.source), self.verdict(node, match)) for match in matches if match.whole is not None)
            seen = dict.fromkeys(key for match in matches for key in _key(node, match))
            known = Candidates(tuple(seen), tuple((source, saved) for source, saved in savings if isinstance(saved, tuple)))
            self.candidates[node] = known
        return known


def _key(node: Node, match: Match) -> Key:
    return tuple(map(ref, inside(node, match)))


def _steps(plan: Plan, node: Node, match: Match) -> tuple[int, int] | None:
    """The steps (start, stop) of the chain that a match spans; None where it starts outside of it."""
    start = plan.readers.get(match.whole.source) if match.whole is not None and _spans_steps(match) else None
    return None if start is None else (start, plan.chain.index(node) + 1)


def _spans_steps(match: Match) -> bool:
    """Whether a match merges what follows each other (not what a single step adds up or concatenates)."""
    return match.whole is not None and len(match.whole.steps) > 1


def _before(node: Node, scope: Scope) -> Node | None:
    """The step whose result the step `node`, and nothing else, reads."""
    found = last_step(node, scope)
    if found is None:
        return None
    _, source, interior = found
    earlier = source.producer
    return earlier if is_read_within(source, interior, scope, node) and earlier and last_step(earlier, scope) else None


def _after(node: Node, scope: Scope) -> Node | None:
    """The step that, and nothing else, reads the result of the step `node`: its reader, or the join of its readers."""
    value = node.output
    reader = next(iter(value.uses), None)
    for _ in range(HORIZON):
        found = None if reader is None else last_step(reader, scope)
        if reader is None or (found is not None and found[1] is value and is_read_within(value, found[2], scope, reader)):
            return reader
        ahead = list(reader.output.uses)
        reader = ahead[0] if len(value.uses) > 1 and len(ahead) == 1 else None
    return None
