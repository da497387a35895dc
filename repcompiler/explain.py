"""Why what remains of a network remains: one reason for each linear operation next to another one, in the user's names.

A refusal that the rewriter logged for the two is the reason; where no rule matched, what stands in the way is looked for in the
graph.  The most telling refusal is that of the rule which would have merged just these two, and then exactness before cost
before fan-out.  What only moves numbers (a reshape, a transposition) is looked through.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import permutations

from repcompiler import ops
from repcompiler.ir import Graph, Node, Value
from repcompiler.ops.activation import ACTIVATIONS
from repcompiler.refusal import Declined, Remaining, listed

WEIGHTED = (ops.Conv, ops.ConvTranspose, ops.Linear)
AFFINE, MOVES = (ops.BatchNorm, ops.Scale), (ops.Reshape, ops.Transpose)
JOINS = (ops.Sum, ops.Concat)
WINDOWS = (ops.AvgPool, ops.Pad, ops.PadChannels, ops.Frame, ops.Subsample, ops.SpaceToDepth, ops.DepthToSpace, ops.Resize)
LINEAR = (*WEIGHTED, *AFFINE, *JOINS, *WINDOWS, ops.DynamicConv, ops.Select, ops.Identity)
GROUNDS = ("exactness", "cost", "fan-out")
QUOTED = re.compile("'([^']*)'")


def explain(graph: Graph, declined: Iterable[Declined]) -> list[Remaining]:
    """One line for each linear operation and each linear one that it reads; one for all branches of a sum or concatenation."""
    return list(Explanation(graph, declined).lines())


class Explanation:
    """What is asked of one graph."""

    def __init__(self, graph: Graph, declined: Iterable[Declined]) -> None:
        self.graph = graph
        self.order = {node: index for index, node in enumerate(graph.topological())}
        self.values = {value.name: value for value in (*graph.inputs, *(out for node in self.order for out in node.outputs))}
        self.declined: dict[str, list[Declined]] = defaultdict(list)
        for refusal in declined:
            if self.values.keys() >= set(refusal.spanned):
                self.declined[refusal.root].append(refusal)

    def lines(self) -> Iterator[Remaining]:
        """Every linear operation, producers first."""
        beside = {node: self._before(node) for node in self.order if _is_linear(node)}
        read = {producer for before in beside.values() for producer in before}
        for node, before in beside.items():
            if before and isinstance(node.op, JOINS):
                yield self._line(node, before, *self._of_join(node))
            elif before:
                yield from (self._line(node, [producer], *self._of_pair(producer, node)) for producer in before)
            elif isinstance(node.op, ops.Opaque):
                yield from [] if node in read else [self._line(node, [], node.op.reason)]
            elif found := self._refusal(node, lambda inside: any(map(_is_linear, inside))):
                nearest = max(filter(_is_linear, self._inside(found)), key=self.order.__getitem__)
                yield self._line(node, [nearest], *self._told(found))
            elif isinstance(node.op, ops.Sum) and (told := self._skip(node, None)):
                yield self._line(node, [], *told)

    def _line(self, node: Node, before: Sequence[Node], reason: str, rule: str = "") -> Remaining:
        after = tuple((producer.output.label, str(producer.op)) for producer in before)
        return Remaining(node.output.label, str(node.op), after, reason, rule)

    def _before(self, node: Node) -> list[Node]:
        """The linear operations whose results `node` reads, if only moved."""
        operands = node.inputs[:1] if isinstance(node.op, ops.DynamicConv) else node.inputs
        producers = dict.fromkeys(_way(value)[-1].producer for value in operands)
        return [producer for producer in producers if producer is not None and _is_linear(producer)]

    def _refusal(self, root: Node, about: Callable[[list[Node]], bool]) -> Declined | None:
        """The most telling refusal of a rewrite of `root` together with nodes that it is to be `about`."""
        found = (refusal for refusal in self.declined[root.output.name] if about(self._inside(refusal)))
        return min(found, key=lambda refusal: (len(refusal.spanned), GROUNDS.index(refusal.ground)), default=None)

    def _inside(self, refusal: Declined) -> list[Node]:
        """What would have gone, but for the root."""
        producers = (self.values[name].producer for name in refusal.spanned[1:])
        return [producer for producer in producers if producer is not None]

    def _told(self, refusal: Declined) -> tuple[str, str]:
        """(reason, rule), in the user's names; who the readers are, where there are too many."""
        named = {name: self.values[name] for name in QUOTED.findall(refusal.reason) if name in self.values}
        shared = map(self._shared, named.values() if refusal.ground == "fan-out" else ())
        reason = QUOTED.sub(lambda match: f"'{named[match[1]].label if match[1] in named else match[1]}'", refusal.reason)
        return next(filter(None, shared), reason), refusal.rule

    def _of_pair(self, producer: Node, node: Node) -> tuple[str, str]:
        """Why these two are not one: (reason, rule)."""
        if isinstance(node.op, ops.Identity) and self.graph.is_output(node.output):
            return f"'{node.output.label}' is an output of the graph and keeps its name", ""
        if refusal := self._refusal(node, lambda inside: producer in inside):
            return self._told(refusal)
        way = next(way for way in map(_way, node.inputs) if way[-1] is producer.output)
        shared = (self._shared(value) for value in way[::-1])
        return _opaque(producer) or _opaque(node) or next(filter(None, shared), "") or self._between(producer, node, way), ""

    def _between(self, producer: Node, node: Node, way: Sequence[Value]) -> str:
        """What stands between two operations that no pattern matched."""
        for dynamic in (producer, node):
            if isinstance(dynamic.op, ops.DynamicConv):
                return f"the kernel of '{dynamic.output.label}' is computed, by {_made(dynamic.inputs[1])}"
        if isinstance(producer.op, JOINS):
            branch = self._without_scale(producer) if isinstance(node.op, AFFINE) else ""
            return branch or f"'{producer.output.label}' stays: {self._of_join(producer)[0]}"
        if len(way) > 1:
            return f"{_made(way[0])} is between"
        if not isinstance(producer.op, WEIGHTED) and not isinstance(node.op, WEIGHTED):
            return "neither is a convolution that could take the other in"
        return f"no pass in use merges {producer.op.kind} and {node.op.kind}"

    def _without_scale(self, join: Node) -> str:
        """The first branch that takes no scale in."""
        for value in join.inputs:
            if (shared := self._shared(value)) or value.producer is None or not _is_linear(value.producer):
                return shared or f"{_made(value)} takes no scale in"
        return ""

    def _of_join(self, node: Node) -> tuple[str, str]:
        """Why the branches of a sum or concatenation are not one: (reason, rule)."""
        refusal = self._refusal(node, lambda inside: True)
        dear = refusal is not None and refusal.ground == "cost" and not all(map(_is_linear, self._inside(refusal)))
        if refusal is not None and not dear:
            return self._told(refusal)
        chains = [self._chain(value) for value in node.inputs]
        starts = dict.fromkeys(chain[-1] for chain in chains)
        for start in starts:
            if start.producer is not None and (reason := _opaque(start.producer)):
                return reason, ""
        if len(starts) == 1:
            shared = (self._shared(value) for chain in chains for value in chain[:-1])
            return next(filter(None, shared), "no pass in use merges its branches"), ""
        if told := self._skip(node, refusal):
            return told
        return f"its branches start at different values: {listed(list(map(_made, starts)))}", ""

    def _skip(self, node: Node, refusal: Declined | None) -> tuple[str, str] | None:
        """What a branch crosses that skips something, and why it is not carried through."""
        starts = dict.fromkeys(self._chain(value)[-1] for value in node.inputs)
        for start, end in permutations(starts, 2):
            if self._leads(start, end):
                branch = "the skip connection" if isinstance(node.op, ops.Sum) else "a branch"
                carried, rule = self._told(refusal) if refusal is not None else ("", "")
                tail = f"; carried through, {carried}" if carried else ""
                return f"{branch} crosses {_made(self._fence(start, end))}{tail}", rule
        return None

    def _chain(self, value: Value) -> list[Value]:
        """`value`, and what it is linear in, back to a join or to what is not linear."""
        chain = [value]
        while (node := chain[-1].producer) is not None and isinstance(node.op, (*LINEAR, *MOVES)) and len(node.inputs) == 1:
            chain.append(node.inputs[0])
        return chain

    def _fence(self, start: Value, end: Value) -> Value:
        """What is not linear between `start` and `end`, the last of it: within the joins that end there."""
        while end.producer is not None and isinstance(end.producer.op, JOINS):
            inner = (self._chain(value)[-1] for value in end.producer.inputs)
            found = next((value for value in inner if value is not start and self._leads(start, value)), None)
            if found is None:
                break
            end = found
        return self._obstacle(start, end) or end

    def _obstacle(self, start: Value, end: Value) -> Value | None:
        """What nothing is carried through, between `start` and `end`: further back than what may pass an activation."""
        while (node := end.producer) is not None and isinstance(node.op, ACTIVATIONS):
            end = self._chain(node.inputs[0])[-1]
            if end is start or not self._leads(start, end):
                return None
        return None if node is None or isinstance(node.op, (*JOINS, ops.Mul)) else end

    def _leads(self, start: Value, end: Value) -> bool:
        """Whether `end` is computed from `start`."""
        first = -1 if start.producer is None else self.order[start.producer]
        seen, pending = {end}, [end]
        while pending:
            node = pending.pop().producer
            if node is not None and self.order[node] > first:
                if start in node.inputs:
                    return True
                pending += [value for value in dict.fromkeys(node.inputs) if value not in seen]
                seen.update(node.inputs)
        return False

    def _shared(self, value: Value) -> str:
        """Who else needs a value, if somebody does."""
        if self.graph.is_output(value):
            return f"'{value.label}' is an output of the graph"
        if self.graph.is_private(value):
            return ""
        readers = [f"'{user.output.label}'" if user.outputs else user.op.kind for user in value.uses]
        count = f"{len(readers)} operations: " if len(readers) > 1 else "more than one operand of "
        return f"'{value.label}' is read by {count}{listed(readers)}"


def _is_linear(node: Node) -> bool:
    """Also what the document calls so and the algebra does not know; not what is computed from parameters alone."""
    known = isinstance(node.op, LINEAR) or (isinstance(node.op, ops.Opaque) and node.op.reason != "")
    return known and bool(node.outputs) and node.output.constant is None


def _way(value: Value) -> list[Value]:
    """The value, and back to where it was before it was only moved."""
    way = [value]
    while (node := way[-1].producer) is not None and isinstance(node.op, MOVES):
        way.append(node.inputs[0])
    return way


def _opaque(node: Node) -> str:
    op = node.op
    return f"'{node.output.label}' is left alone: {op.reason}" if isinstance(op, ops.Opaque) and op.reason else ""


def _made(value: Value) -> str:
    node = value.producer
    kind = "an input" if node is None else str(node.op) if isinstance(node.op, ops.Sum) else node.op.kind
    return f"'{value.label}' ({kind})"
