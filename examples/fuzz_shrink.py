"""The smallest plan that still shows a finding: steps passed by, values made inputs, until nothing can go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fuzz_check import Unfit, judge
from fuzz_plans import Plan
from fuzz_settings import Settings, feeds
from fuzz_torch import trace

INPUTS = 4


def shows(plan: Plan, how: Settings, kind: str) -> bool:
    """Whether the finding is still there; a plan that does not run shows nothing."""
    try:
        return kind in (found for found, _ in judge(plan, how).findings)
    except (Unfit, RuntimeError, ValueError, IndexError):
        return False


def minimal(plan: Plan, how: Settings, kind: str) -> tuple[Plan, Settings]:
    """A plan of which nothing can be left out, and the simplest settings that show it."""
    for simpler in _simpler(how):
        if shows(plan, simpler, kind):
            how = simpler
    going = True
    while going:
        going = False
        for candidate in _smaller(plan, how):
            if len(candidate.inputs) <= INPUTS and candidate.size < plan.size and shows(candidate, how, kind):
                plan, going = candidate, True
                break
    for free in ("none", "batch"):
        if plan.free != free and shows(replace(plan, free=free), how, kind):
            return replace(plan, free=free), how
    return plan, how


def _simpler(how: Settings) -> Iterator[Settings]:
    yield replace(how, verify=True)
    yield replace(how, verify=False)
    yield replace(how, objective="plain", verify=False)
    yield replace(how, objective="plain", passes=None, verify=False)


def _smaller(plan: Plan, how: Settings) -> Iterator[Plan]:
    shapes = [tuple(value.shape) for value in trace(plan, feeds(plan, how.seed)[0])]
    yield from plan.smaller(shapes)
