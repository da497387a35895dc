"""What is rewritten at once, and whether it pays."""

from __future__ import annotations

from collections.abc import Mapping

from repcompiler.cost import OBJECTIVES, Objective
from repcompiler.ir import Expr, Node, Value
from repcompiler.least_sizes import refuse_smaller_images
from repcompiler.liveness import peak_of_block, peak_of_term
from repcompiler.ops import AvgPool, Conv, ConvTranspose, GlobalAvgPool, Linear, MaxPool
from repcompiler.outline import outline
from repcompiler.pattern import Match
from repcompiler.refusal import refuse
from repcompiler.region import View

Sites = Mapping[Node, Match]
"""Matches by their roots."""
Term = Expr | Value | None
Terms = Mapping[Node, Term]
"""What takes the place of each root."""
Saving = tuple[float, int]
"""By how much cost and number of operations fall; compared in this order."""

SUMMING = (Conv, ConvTranspose, Linear, AvgPool, GlobalAvgPool, MaxPool)
"""What is not computed twice for the sake of two readers."""


def inside(root: Node, match: Match) -> dict[Node, None]:
    """The nodes that a match spans."""
    return dict.fromkeys([root, *(value.producer for value in match.interior if value.producer is not None)])


def spanned(sites: Sites) -> dict[Node, None]:
    """The nodes that all matches span, each once."""
    return dict.fromkeys(node for root, match in sites.items() for node in inside(root, match))


def refuse_unfit(sites: Sites, terms: Terms) -> None:
    """Refuse what would not run on every image that the matches run on, and to compute for each of several readers what was
    computed once.
    """
    refuse_smaller_images(terms.values())
    if len(sites) > 1 and sum(map(_sums, terms.values())) > sum(isinstance(n.op, SUMMING) for n in spanned(sites)):
        refuse("it would be computed for each of its readers", "fan-out")


def refuse_what_stays(sites: Sites) -> None:
    """Refuse where one match starts from what lies inside another: that would be saved for the one, and kept for the other."""
    within = {value for match in sites.values() for value in match.interior if value not in match.kept}
    sources = {found for match in sites.values() for found in match.captures.values() if isinstance(found, Value)}
    if len(sites) > 1 and not within.isdisjoint(sources):
        refuse("one of its readers needs what lies between for itself", "fan-out")


def outlined(sites: Sites, views: Mapping[type, View]) -> Terms | None:
    """What the matches would become, from their geometry alone; None where that cannot be told.  Refuses as `outline` does."""
    terms: dict[Node, Term] = {}
    for site, match in sites.items():
        merged = None if match.whole is None else outline(match.whole, views)
        if merged is None or match.whole is None:
            return None
        plain = merged if merged.stride else Linear(merged.weight, merged.bias)
        terms[site] = match.context(plain(match.whole.source))
    return terms


def saving(sites: Sites, terms: Terms, objective: Objective, least: float = 0.0) -> Saving:
    """What rewriting the matches to `terms` saves; refuses where that is nothing, or less cost than `least`."""
    costs, counts = zip(*map(objective.of_node, spanned(sites)), strict=True)
    after = [objective.of_term(terms[root], root.output.typical or root.output.shape, _made(terms, root)) for root in terms]
    new_costs, new_counts = zip(*after, strict=True)
    saved = float(sum(costs) - sum(new_costs)), sum(counts) - sum(new_counts)
    if saved <= (0.0, 0) and any(isinstance(term, Expr) for term in terms.values()):
        refuse(f"it would cost more ({objective.name} {sum(costs):.3g} -> {sum(new_costs):.3g})", "cost")
    if saved[0] < least:
        refuse("it would save no more than starting one operation takes, and runtimes fold additions into layers", "cost")
    return saved


Change = tuple[int, int]
"""Before and after."""


def changes(sites: Sites, terms: Terms, site: Node) -> tuple[Change, Change, Change]:
    """Parameters, multiply-accumulates and peak memory of what one match spans and becomes; the first two of what several span
    are counted for the first.
    """
    earlier = [*sites][: [*sites].index(site)]
    shared = {node for other in earlier for node in inside(other, sites[other])}
    output = site.output.typical or site.output.shape

    def of(measure: Objective) -> Change:
        before = sum(measure.of_node(node)[0] for node in inside(site, sites[site]) if node not in shared)
        return int(before), int(measure.of_term(terms[site], output, _made(terms, site))[0])

    memory = peak_of_block(site.output, inside(site, sites[site])), peak_of_term(terms[site], output)
    return of(OBJECTIVES["params"]), of(OBJECTIVES["macs"]), memory


def _made(terms: Terms, site: Node) -> set[Expr]:
    """What is made for the roots before this one."""
    earlier = (term for root, term in [*terms.items()][: [*terms].index(site)] if isinstance(term, Expr))
    return {part for term in earlier for part in term.parts()}


def _sums(term: Term) -> int:
    """Operations in an expression that each look at many numbers for one."""
    return sum(isinstance(part.op, SUMMING) for part in term.parts()) if isinstance(term, Expr) else 0
