"""Patterns over sums and concatenations: branches of one source among whatever else is joined."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, combinations, islice, product

from repcompiler.ir import Expr, Graph, Node, Value
from repcompiler.ops import Concat, Conv, Op, Sum
from repcompiler.pattern import Captured, LinearPattern, Match, RootPattern
from repcompiler.region import Interior, Join, Region, Scope, last_step, regions

MANY = 16
"""Branches of one form from which on they are merged at once: pair by pair it would take quadratic time."""
PAIRS = 2048
"""Pairs of branches that are tried: all of them, unless there are more than 64 branches."""

Branch = tuple[int, Region, Interior]
"""A term of a sum, by its number, as a region; and the values inside."""


class SumPattern(RootPattern):
    """Two terms of an addition tree, or all terms on one source: the sum of all but the last, and the last.

    The tree is seen flat, through private additions and subtractions, with signs.  Where the second stays, it is the one that
    others read, too.
    """

    roots = (Sum,)

    def __init__(self, first: LinearPattern, second: LinearPattern) -> None:
        self.first, self.second = first, second

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        terms, additions = addition_tree(node, scope.graph)
        by_source: dict[Value, list[Branch]] = {}
        for index, (sign, value) in enumerate(terms):
            for region, interior in regions(value, scope):
                signed = Region(region.source, region.steps, sign < 0)
                by_source.setdefault(region.source, []).append((index, signed, interior))
        times = Counter(value for _, value in terms)
        shared = {value for value, count in times.items() if count == 1 and not scope.graph.is_private(value)}
        for source, branches in by_source.items():
            staying = [branch for branch in branches if branch[1].steps and terms[branch[0]][1] in shared]
            for chosen in product(branches, staying) if self.second.stays else _together(branches):
                indices, found, inside = zip(*chosen, strict=True)
                if len(set(indices)) < len(chosen) or not any(region.steps for region in found):
                    continue
                inside = inside[:1] if self.second.stays else inside
                rest = [term for index, term in enumerate(terms) if index not in indices]
                bound = bind_all(match, {self.first.source: source, self.second.source: source})
                bound = bound and bind_all(bound, {self.first.name: _summed(found[:-1]), self.second.name: found[-1]})
                if bound is not None:
                    context = partial(add_to, rest) if rest else match.context
                    bound = replace(bound, rest=tuple(value for _, value in rest), context=context, whole=_summed(found))
                    yield bound.inside(*additions, *(value for values in inside for value in values))
        match None if self.second.stays else last_step(node, scope):
            case Join() as join, source, inside if len(by_source.get(source, ())) < len(terms):
                yield from self._sharing(match, join, source, inside)

    def _sharing(self, match: Match, join: Join, source: Value, interior: Interior) -> Iterator[Match]:
        """All terms, that share what is inside."""
        assert isinstance(join.op, Sum)
        found = [
            Region(part.source, part.steps, part.negative != (sign < 0))
            for sign, part in zip(join.op.signs, join.branches, strict=True)
        ]
        bound = bind_all(match, {self.first.source: source, self.second.source: source})
        bound = bound and bind_all(bound, {self.first.name: _summed(found[:-1]), self.second.name: found[-1]})
        if bound is not None:
            yield replace(bound, whole=_summed(found)).inside(*interior)


class EqualTerms(RootPattern):
    """Two terms of an addition tree, each made by an operation of given classes from one value: the same for both.

    Captures both values, the operation, and the sum of the two with their signs.
    """

    roots = (Sum,)

    def __init__(self, kinds: tuple[type[Op], ...], first: str, second: str, name: str, total: str) -> None:
        self.kinds, self.first, self.second, self.name, self.total = kinds, first, second, name, total

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        terms, additions = addition_tree(node, scope.graph)
        made = [(index, value.producer) for index, (_, value) in enumerate(terms) if value.producer is not None]
        found = [(index, maker) for index, maker in made if isinstance(maker.op, self.kinds)]
        for (i, one), (j, other) in islice(combinations(found, 2), PAIRS):
            if one is not other and one.op.is_same_as(other.op):
                rest = [term for index, term in enumerate(terms) if index not in (i, j)]
                values = {self.first: one.inputs[0], self.second: other.inputs[0]}
                bound = bind_all(match, {**values, self.name: one.op, self.total: Sum((terms[i][0], terms[j][0]))})
                if bound is not None:
                    context = partial(add_to, rest) if rest else match.context
                    bound = replace(bound, rest=tuple(value for _, value in rest), context=context)
                    yield bound.inside(*additions, one.output, other.output)


def _together(branches: Sequence[Branch]) -> Iterable[Sequence[Branch]]:
    """What may be merged: many of one form, else pairs, or all of them, for what does not pay in pairs may pay all at once."""
    forms: dict[object, list[Branch]] = defaultdict(list)
    for branch in branches if len(branches) >= MANY else ():
        match branch[1].steps:
            case (Conv() as conv,):
                form = conv.weight.shape, conv.stride, conv.padding, conv.dilation, conv.groups
                forms[form].append(branch)
    alike = (chosen for chosen in forms.values() if len(chosen) >= MANY)
    return chain(alike, islice(combinations(branches, 2), PAIRS), [branches] if len(branches) > 2 else [])


def _summed(branches: Sequence[Region]) -> Region:
    """The sum of branches on one source, as a region."""
    first, *others = branches
    return Region(first.source, (Join(Sum((1,) * len(branches)), tuple(branches)),)) if others else first


class ConcatPattern(RootPattern):
    """A run of neighbours in a concatenation that are linear in one value, as long as can be."""

    roots = (Concat,)

    def __init__(self, branches: LinearPattern) -> None:
        self.branches = branches

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        parts = [{region.source: (region, inside) for region, inside in regions(v, scope)} for v in node.inputs]
        for source in dict.fromkeys(source for part in parts for source in part):
            for start, stop in _runs([source in part for part in parts]):
                found, inside = zip(*(part[source] for part in parts[start:stop]), strict=True)
                interior = [value for values in inside for value in values]
                yield from self._bound(match, source, found, interior, node.inputs[:start], node.inputs[stop:])
        whole = last_step(node, scope)
        if whole is not None and isinstance(whole[0], Join) and not all(whole[1] in part for part in parts):
            yield from self._bound(match, whole[1], whole[0].branches, whole[2], (), ())  # they share what is inside

    def _bound(
        self,
        match: Match,
        source: Value,
        branches: tuple[Region, ...],
        interior: Sequence[Value],
        before: tuple[Value, ...],
        after: tuple[Value, ...],
    ) -> Iterator[Match]:
        bound = bind_all(match, {self.branches.source: source})
        if bound is None or not any(region.steps for region in branches):
            return
        captures = {**bound.captures, self.branches.name: branches}
        context = partial(_concat_with, before, after) if before or after else match.context
        whole = Region(source, (Join(Concat(), branches),))
        yield replace(bound, captures=captures, rest=(*before, *after), context=context, whole=whole).inside(*interior)


def bind_all(match: Match, captures: Mapping[str, Captured]) -> Match | None:
    """The match with these captures, or None where a name already stands for something else."""
    bound: Match | None = match
    for name, captured in captures.items():
        bound = bound and bound.bind(name, captured)
    return bound


def add_to(rest: list[tuple[int, Value]], part: Expr) -> Expr:
    """A new term beside the signed others of a sum."""
    signs, values = zip(*rest, strict=True)
    return Sum((1, *signs))(part, *values)


def _concat_with(before: tuple[Value, ...], after: tuple[Value, ...], part: Expr) -> Expr:
    return Concat()(*before, part, *after)


def _runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each stretch of two or more true flags."""
    start = 0
    for index, flag in enumerate((*flags, False)):
        if not flag:
            if index - start > 1:
                yield start, index
            start = index + 1


def addition_tree(root: Node, graph: Graph) -> tuple[list[tuple[int, Value]], list[Value]]:
    """The signed terms of the sum that `root` completes, left to right, and the additions between."""
    terms: list[tuple[int, Value]] = []
    additions: list[Value] = []
    pending = [(1, root.output)]
    while pending:
        sign, value = pending.pop()
        node = value.producer
        if node is not None and isinstance(node.op, Sum) and (node is root or graph.is_private(value)):
            if node is not root:
                additions.append(value)
            operands = zip(node.op.signs, node.inputs, strict=True)
            pending += [(sign * inner, operand) for inner, operand in operands][::-1]
        else:
            terms.append((sign, value))
    return terms, additions
