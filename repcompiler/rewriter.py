"""Rewriting to a fixpoint, and the guarantees every rewrite may rely on.

For each node, for each rule that could start there, the rewriter matches, makes sure that

  * the values inside the match are private: no output of the graph, and read by nothing but what is rewritten at once;
  * the result is not dearer: (cost, operations) falls lexicographically, which is also why this ends;

and only then puts the new expression in place and writes it into the log.  What matched and did not happen is kept with its
reason.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any

from repcompiler.certificate import Certify, certify
from repcompiler.chain import Planner
from repcompiler.cost import Objective
from repcompiler.ir import Expr, Graph, Node, Value
from repcompiler.ops import Op
from repcompiler.pattern import Captured, Forked, Match, RootPattern
from repcompiler.refusal import Declined, Refusal, refuse
from repcompiler.region import Region, Scope, View, convolution, telling
from repcompiler.rewrite_log import Log, Step
from repcompiler.sites import Sites, Term, changes, inside, outlined, refuse_unfit, refuse_what_stays, saving

Result = Expr | Value | tuple[Expr, ...] | Forked | None

OFTEN = 512
"""Rewrites of one value after which it is left as it is."""
READERS = 16
"""Readers of one value that may be rewritten at once."""


@dataclass(frozen=True)
class Rule:
    """One equation: left of it a pattern, right of it a function of the captures.  Made by `rewrite`."""

    name: str
    doc: str
    patterns: tuple[RootPattern, ...]
    result: Callable[..., Result]
    outline: Callable[..., Expr | Forked] | None = None
    """The result with weights of which only the shapes are right: whether it pays, before they are computed."""
    last: bool = False
    """Whether it waits until no other rule applies: what it makes, they would no longer know for what it is."""


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


def rewrite(
    *patterns: RootPattern, outline: Callable[..., Expr | Forked] | None = None, last: bool = False
) -> Callable[[Callable[..., Result]], Rule]:
    """Decorate a function of captures: its result replaces what one of the patterns matches.

    A tuple of expressions are forms of one thing, of which the cheapest is taken; `refuse` to leave things as they are.
    `outline`: the same at next to no cost, its weights placeholders of the right shapes.  `last`: tried once nothing else
    applies, to write what is left in another form.
    """
    return lambda function: Rule(function.__name__, _doc(function), patterns, function, outline, last)


def as_convolution(*shows: type[Op]) -> Callable[[View], ViewRule]:
    """Decorate a function (op, channels, spatial axes) -> Conv that shows an operation as a convolution."""
    return lambda function: ViewRule(function.__name__, _doc(function), shows, function)


class Rewriter:
    """Applies passes to one graph.

    `fuel` stops after that many rewrites, `banned` names (rule, root) pairs to leave alone: how a rewrite that failed
    verification is found and kept out.  `need`: whether each rewrite is checked by itself (`repcompiler.certificate`).
    """

    def __init__(
        self,
        graph: Graph,
        passes: Sequence[Pass],
        objective: Objective,
        fuel: int | None = None,
        banned: AbstractSet[tuple[str, str]] = frozenset(),
        need: Certify = Certify.NONE,
    ) -> None:
        self.graph = graph
        self.objective = objective
        self.fuel = fuel
        self.banned = banned
        self.need = need
        self.log = Log()
        self.rewrites: Counter[str] = Counter()
        """How often each value was rewritten."""
        self.scope = Scope(graph, {op: rule.view for rule in passes if isinstance(rule, ViewRule) for op in rule.shows})
        self.planners = {
            rule: Planner(partial(self._candidates, rule), self.scope, self.objective)
            for rule in passes
            if isinstance(rule, Rule)
        }

    def run(self) -> Log:
        """Sweep until nothing changes, and then with the rules that wait for that."""
        while self._sweep() or self._sweep(last=True):
            continue
        return self.log

    def _sweep(self, last: bool = False) -> bool:
        """Visit every node; whether anything changed."""
        steps = len(self.log.steps)
        if not last:
            self.log.declined[:] = [declined for declined in self.log.declined if declined.is_mistake]
        for planner in self.planners.values():
            planner.forget()
        pending = self.graph.topological()[::-1]
        while pending:
            node = pending.pop()
            if node in self.graph.nodes and (self.fuel is None or len(self.log.steps) < self.fuel):
                pending.extend(reversed(self._visit(node, last)))
                self.graph.let_go(node)
        return len(self.log.steps) > steps

    def _visit(self, node: Node, last: bool) -> list[Node]:
        """Try every rule on `node`; the nodes to visit next: what the first one that applies added, or what waited for it."""
        waiting: list[Node] = []
        for rule, planner in self.planners.items():
            for match in self._matches(rule, node) if rule.last == last else ():
                if barred := self._barred(rule, node):
                    self._decline(rule, node, match, barred)
                    break
                if planner.postpones(node, match):
                    continue
                try:
                    added = self._apply(rule, node, match)
                except Refusal as refusal:
                    self._decline(rule, node, match, refusal)
                    added = None
                if added is not None:
                    return added
                waiting += planner.give_up(node, match)
        return waiting

    def _barred(self, rule: Rule, node: Node) -> Refusal | None:
        """Why a rule is not to be tried at a node, if so."""
        if self._is_banned(rule, node):
            return Refusal("it was reverted: verification failed with it")
        if self.rewrites[node.output.name] >= OFTEN:  # estimates of its cost must contradict each other
            return Refusal(f"this value was rewritten {OFTEN} times", "cost")
        return None

    def _is_banned(self, rule: Rule, node: Node) -> bool:
        return (rule.name, node.output.name) in self.banned

    def _candidates(self, rule: Rule, node: Node) -> Iterator[Match]:
        """The matches that may be planned."""
        return iter(()) if self._barred(rule, node) else self._matches(rule, node)

    def _matches(self, rule: Rule, node: Node) -> Iterator[Match]:
        for pattern in rule.patterns:
            if isinstance(node.op, pattern.roots):
                yield from pattern.match_node(node, Match(), self.scope)

    def _apply(self, rule: Rule, root: Node, match: Match) -> list[Node] | None:
        """Rewrite at `root`, and at whatever else reads the values inside; None where the rule has nothing to say."""
        sites = self._sites(rule, root, match)
        verdict = self.planners[rule].verdict(root, match) if len(sites) == 1 else None
        if isinstance(verdict, str):
            refuse(verdict)
        if verdict is None:
            self._refuse_if_hopeless(sites)
        terms: dict[Node, Term] = {}
        new: dict[Node, Term] = {}
        for site, found in sites.items():
            captures = self._resolved(found)
            if rule.outline is not None:
                part, kept = _forked(found, rule.outline(**captures))
                carried = {site: found.context(part), **kept}
                saving({site: found, **_forks(found)}, carried, self.objective, self.objective.start)
            parts = rule.result(**captures)
            if parts == ():
                return None
            parts, kept = _forked(found, parts)
            terms[site], new[site] = self._cheapest(site, found, parts)
        refuse_unfit(sites, terms)
        if match.kept:
            sites, terms, new = {**sites, **_forks(match)}, {**terms, **kept}, {**new, **kept}
        saved = saving(sites, terms, self.objective)[0] / len(sites)
        changed = {site: changes(sites, terms, site) for site in sites}
        proofs = {site: certify(site, sites[site], new[site], term, self.need) for site, term in terms.items()}
        added: list[Node] = []
        made: dict[Expr, Value] = {}
        for site, term in terms.items():
            gone, nodes = self.graph.replace(site, term, made)
            added += nodes
            self.rewrites[site.output.name] += 1
            names = site.output.name, _names(gone), _names(nodes)
            self.log.steps.append(Step(rule.name, *names, saved, *changed[site], site.output.label, proofs[site]))
        return added

    def _refuse_if_hopeless(self, sites: Sites) -> None:
        """Judge a merge by its geometry, before any weight is computed."""
        try:
            terms = outlined(sites, self.scope.views)
        except Refusal:  # not one convolution; the rule may know another form, or will say why not
            return
        if terms is not None:
            saving(sites, terms, self.objective)

    def _sites(self, rule: Rule, root: Node, match: Match) -> Sites:
        """The match, and with it one at every other reader of the values inside: those can only go all at once."""
        sites = {root: match}
        pending = [match]
        within = inside(root, match)
        while pending:
            current = pending.pop()
            for value in current.interior:
                if value in current.kept and value.producer is not None and not self._is_banned(rule, value.producer):
                    continue
                if self.graph.is_output(value):
                    refuse(f"'{value.name}' is an output of the graph", "fan-out")
                for user in value.uses:
                    if user in within and value not in current.rest:
                        continue
                    other = next((found for found in self._matches(rule, user) if value in found.interior), None)
                    if other is None or len(sites) == READERS or value in current.rest or self._is_banned(rule, user):
                        refuse(f"'{value.name}' is read more than once", "fan-out")
                    sites[user] = other
                    within |= inside(user, other)
                    pending.append(other)
        if len(sites) > 1 and any(found.kept or site.output in found.interior for site in sites for found in sites.values()):
            refuse("its readers read each other", "fan-out")
        refuse_what_stays(sites)
        return sites

    def _cheapest(self, root: Node, match: Match, parts: Result) -> tuple[Term, Term]:
        """Among the forms that a rule knows, the one of least cost: in its context, and by itself."""
        if isinstance(parts, Value) and self.graph.is_output(root.output):
            refuse(f"'{root.output.name}' is an output of the graph and keeps its name", "fan-out")
        if not isinstance(parts, (Expr, tuple)):
            assert not isinstance(parts, Forked), "a fork is a place of its own"
            return parts, parts
        terms = [(match.context(part), part) for part in (parts if isinstance(parts, tuple) else (parts,))]
        return min(terms, key=lambda pair: self._cost(root, pair[0]))

    def _cost(self, root: Node, term: Expr | Value | None) -> tuple[float, int]:
        return self.objective.of_term(term, root.output.typical or root.output.shape)

    def _resolved(self, match: Match) -> dict[str, Any]:
        """The captures, each region as one convolution, in the light of all others on its source."""
        captures = [part for found in match.captures.values() for part in (found if isinstance(found, tuple) else (found,))]
        beside = telling(part for part in captures if isinstance(part, Region))

        def resolve(captured: Captured | tuple[Any, ...]) -> Any:
            if isinstance(captured, tuple):
                return tuple(map(resolve, captured))
            if isinstance(captured, Region):
                return convolution(captured, self.scope.views, beside.get(captured.source, ()))
            return captured

        return {name: resolve(captured) for name, captured in match.captures.items()}

    def _decline(self, rule: Rule, node: Node, match: Match, refusal: Refusal) -> None:
        spanned = tuple(inner.output.name for inner in inside(node, match))
        declined = Declined(rule.name, node.output.name, str(refusal), refusal.ground, spanned)
        if declined not in self.log.declined[-8:]:
            self.log.declined.append(declined)


def _forked(match: Match, made: Any) -> tuple[Any, dict[Node, Term]]:
    """What takes the root's place, and that of what makes the values inside that others read."""
    if not isinstance(made, Forked):
        return made, {}
    return made.result, dict(zip(_forks(match), made.kept, strict=True))


def _forks(match: Match) -> dict[Node, Match]:
    """What makes the values inside that others read, each from the same values as the root."""
    return {value.producer: Match(match.captures) for value in match.kept if value.producer is not None}


def _names(nodes: Sequence[Node]) -> tuple[tuple[str, str], ...]:
    return tuple((node.output.name, str(node.op)) for node in nodes)
