"""Rewriting to a fixpoint, and the guarantees every rewrite may rely on.

For each node, for each rule that could start there, the rewriter matches, makes sure that

  * the values inside the match are private: read once, and no output of the graph;
  * the result is not dearer: (cost, operations) falls lexicographically, which is also why this ends;

and only then puts the new expression in place and writes it into the log.  What matched and did not happen is kept with its
reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from repcompiler.certificate import certify
from repcompiler.cost import Objective
from repcompiler.ir import Expr, Graph, Node, Value
from repcompiler.ops import Conv, Op
from repcompiler.pattern import Captured, Match, RootPattern
from repcompiler.refusal import Refusal, refuse
from repcompiler.region import Region, Scope, View, convolution, outline


@dataclass(frozen=True)
class Rule:
    """One equation: left of it a pattern, right of it a function of the captures.  Made by `rewrite`."""

    name: str
    doc: str
    patterns: tuple[RootPattern, ...]
    result: Callable[..., Expr | Value | None]


@dataclass(frozen=True)
class ViewRule:
    """One equation that shows a linear operation as a convolution.  Made by `as_convolution`."""

    name: str
    doc: str
    shows: tuple[type[Op], ...]
    view: View


Pass = Rule | ViewRule


def _doc(function: Callable[..., Any]) -> str:
    return inspect.getdoc(inspect.getmodule(function)) or inspect.getdoc(function) or ""


def rewrite(*patterns: RootPattern) -> Callable[[Callable[..., Expr | Value | None]], Rule]:
    """Decorate a function of captures: its result replaces what one of the patterns matches; `refuse` to leave it."""
    return lambda function: Rule(function.__name__, _doc(function), patterns, function)


def as_convolution(*shows: type[Op]) -> Callable[[View], ViewRule]:
    """Decorate a function (op, channels, spatial axes) -> Conv that shows an operation as a convolution."""
    return lambda function: ViewRule(function.__name__, _doc(function), shows, function)


@dataclass(frozen=True)
class Step:
    """One rewrite that happened, in the user's names."""

    rule: str
    root: str
    removed: tuple[tuple[str, str], ...]
    """(value name, operation) of each node that went."""
    added: tuple[tuple[str, str], ...]
    saved: float
    """How much the cost fell, in units of the objective."""


@dataclass(frozen=True)
class Declined:
    """One rewrite that matched and was refused."""

    rule: str
    root: str
    reason: str


@dataclass
class Log:
    """What a run of the rewriter did, and what it left and why."""

    steps: list[Step] = field(default_factory=list)
    declined: list[Declined] = field(default_factory=list)


class Rewriter:
    """Applies passes to one graph.

    `fuel` stops after that many rewrites, `banned` names (rule, root) pairs to leave alone: how a rewrite that failed
    verification is found and kept out.  `certified` checks each rewrite by itself (`repcompiler.certificate`).
    """

    def __init__(
        self,
        graph: Graph,
        passes: Sequence[Pass],
        objective: Objective,
        fuel: int | None = None,
        banned: AbstractSet[tuple[str, str]] = frozenset(),
        certified: bool = False,
    ) -> None:
        self.graph = graph
        self.objective = objective
        self.fuel = fuel
        self.banned = banned
        self.certified = certified
        self.log = Log()
        self.rules = [rule for rule in passes if isinstance(rule, Rule)]
        self.scope = Scope(graph, {op: rule.view for rule in passes if isinstance(rule, ViewRule) for op in rule.shows})

    def run(self) -> Log:
        """Sweep until nothing changes."""
        changed = True
        while changed:
            changed = False
            self.log.declined.clear()
            pending = self.graph.topological()[::-1]
            while pending:
                node = pending.pop()
                if node not in self.graph.nodes or self.fuel == len(self.log.steps):
                    continue
                added = self._visit(node)
                if added is not None:
                    changed = True
                    pending.extend(reversed(added))
        return self.log

    def _visit(self, node: Node) -> list[Node] | None:
        """Try every rule on `node`; what the first one that applies added, or None."""
        for rule in self.rules:
            for match in self._matches(rule, node):
                if (rule.name, node.output.name) in self.banned:
                    self._decline(rule, node, "it was reverted: verification failed with it")
                    break
                try:
                    return self._apply(rule, node, match)
                except Refusal as refusal:
                    self._decline(rule, node, str(refusal))
        return None

    def _matches(self, rule: Rule, node: Node) -> Iterator[Match]:
        for pattern in rule.patterns:
            if isinstance(node.op, pattern.roots):
                yield from pattern.match_node(node, Match(), self.scope)

    def _apply(self, rule: Rule, root: Node, match: Match) -> list[Node]:
        inside = {root, *(value.producer for value in match.interior)}
        for value in match.interior:
            if self.graph.is_output(value):
                refuse(f"'{value.name}' is an output of the graph")
            if value in match.rest or any(user not in inside for user in value.uses):
                refuse(f"'{value.name}' is read more than once")
        self._refuse_if_hopeless(root, match)
        term = rule.result(**{name: self._resolve(captured, match) for name, captured in match.captures.items()})
        part = term
        if isinstance(term, Expr):
            term = match.context(term)
        if isinstance(term, Value) and self.graph.is_output(root.output):
            refuse(f"'{root.output.name}' is an output of the graph and keeps its name")
        saved = self._saved(root, match, term)
        if self.certified:
            certify(root, match, part, term)
        gone, added = self.graph.replace(root, term)
        self.log.steps.append(Step(rule.name, root.output.name, _names(gone), _names(added), saved))
        return added

    def _refuse_if_hopeless(self, root: Node, match: Match) -> None:
        """Judge a merge by its geometry, before any weight is computed."""
        try:
            merged = None if match.whole is None else outline(match.whole, self.scope.views)
        except Refusal:  # not one convolution; the rule may know another form, or will say why not
            return
        if match.whole is not None and merged is not None:
            self._saved(root, match, match.context(merged(match.whole.source)))

    def _saved(self, root: Node, match: Match, term: Expr | Value | None) -> float:
        nodes = [root, *dict.fromkeys(value.producer for value in match.interior if value.producer is not None)]
        costs, counts = zip(*map(self.objective.of_node, nodes), strict=True)
        before, count = sum(costs), sum(counts)
        after, new_count = self.objective.of_term(term, root.output.shape)
        if (after, new_count) >= (before, count) and not (term is None or isinstance(term, Value)):
            refuse(f"it would cost more ({self.objective.name} {before:.3g} -> {after:.3g})")
        return float(before - after)

    def _resolve(self, captured: Captured, match: Match) -> Value | Op | tuple[Conv, ...]:
        """A region as one convolution; anything else as it is."""
        if isinstance(captured, tuple):
            return tuple(convolution(region, self.scope.views, captured) for region in captured)
        if not isinstance(captured, Region):
            return captured
        others = (other for other in match.captures.values() if isinstance(other, Region))
        return convolution(captured, self.scope.views, [other for other in others if other.source is captured.source])

    def _decline(self, rule: Rule, node: Node, reason: str) -> None:
        declined = Declined(rule.name, node.output.name, reason)
        if declined not in self.log.declined[-8:]:
            self.log.declined.append(declined)


def _names(nodes: Sequence[Node]) -> tuple[tuple[str, str], ...]:
    return tuple((node.output.name, str(node.op)) for node in nodes)
