"""Memory that a forward makes and fills with numbers that depend on parameters alone: a kernel that is written place by place.

    kernel = torch.zeros(o, i, 9);  kernel[:, :, :] = w;  kernel[:, :, 4] -= w.sum(2);  F.conv2d(x, kernel.view(o, i, 3, 3))

Whatever else reads it does so after the last write.  So the memory is a constant there: what running the writes in their order
makes of it.  And as nobody else can tell, the writes go where nothing reads the memory any more.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import fx, nn

from repcompiler.frontends.fx_calls import target_name
from repcompiler.frontends.fx_deterministic import Deterministic
from repcompiler.frontends.fx_double import InDouble
from repcompiler.refusal import refuse


@dataclass(frozen=True)
class Filled:
    """All such memory of one region."""

    members: frozenset[fx.Node] = frozenset()
    """The values that are this memory, or views of it."""
    program: Mapping[fx.Node, None] = field(default_factory=dict)
    """What makes and fills it, in order."""
    before: Mapping[fx.Node, tuple[fx.Node, ...]] = field(default_factory=dict)
    """By node that reads it: the writes between what it reads and itself."""
    writes: frozenset[fx.Node] = frozenset()

    def run(self, region: nn.Module, double: bool) -> dict[fx.Node, Any]:
        """The values of the program, of the members after the last write; in the model's own precision or in double.

        Refuses what is random.
        """
        values: dict[fx.Node, Any] = {}
        for node in self.program:
            if node.op == "get_attr":
                tensor = attrgetter(str(node.target))(region).detach()
                values[node] = tensor.double() if double and tensor.is_floating_point() else tensor.clone()
                continue
            args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            if double:
                with InDouble():
                    values[node] = called(node.target, args, kwargs)
            else:
                values[node] = called(node.target, args, kwargs)
        return values


def called(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a function, a method or a module returns; refuses what is random, or fails."""
    if isinstance(target, str):
        target, args = getattr(args[0], target), args[1:]
    try:
        with torch.no_grad(), Deterministic():
            return target(*args, **kwargs)
    except (TypeError, RuntimeError) as error:
        refuse(str(error))


def filled(
    order: Sequence[fx.Node],
    last: Mapping[fx.Node, int],
    memory_of: Callable[[fx.Node], fx.Node],
    written: Mapping[fx.Node, Sequence[fx.Node]],
    known: Callable[[fx.Node], bool],
    unseen: Container[fx.Node],
) -> Filled:
    """Find it: of the memory whose `last` write is given, by the value that stands for each; `written`: by who writes."""
    fixed: set[fx.Node] = set()
    for node in order:
        call = node.op in ("call_function", "call_method") and known(node) and "empty" not in target_name(node.target)
        constant = node.op == "get_attr" and memory_of(node) not in last
        if (constant or call) and fixed.issuperset(node.all_input_nodes) and node not in unseen:
            fixed.add(node)
    other = {memory_of(node) for node in order if node not in fixed}
    for index, node in enumerate(order):
        if node not in fixed:
            early = (memory_of(operand) for operand in node.all_input_nodes)
            other |= {place for place in early if index <= last.get(place, -1) or node in unseen or node.op == "output"}
    found = {place for place in last if place not in other}
    members = {node for node in order if memory_of(node) in found}
    writes = [node for node in order if members.intersection(written.get(node, ()))]
    needed = {*members, *writes}
    for node in reversed(order):
        if node in needed:
            needed.update(node.all_input_nodes)
    at = {node: index for index, node in enumerate(order)}
    before: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for node in order:
        since: dict[fx.Node, int] = {}
        for operand in sorted(members.intersection(node.all_input_nodes), key=at.__getitem__):
            since.setdefault(memory_of(operand), at[operand])
        before[node] = tuple(w for w in writes if since.get(memory_of(w), len(order)) < at[w] < at[node])
    program = dict.fromkeys(node for node in order if node in needed)
    return Filled(frozenset(members), program, before, frozenset(writes))
