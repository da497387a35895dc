"""Drop from a traced model what tracing made explicit and can be decided once: assertions about ranks and known extents.

timm checks `x.ndim == 4` before every batch norm; each check would read the convolution's output a second time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from repcompiler.frontends.fx_lift import lift
from repcompiler.frontends.fx_memory import is_private_write, written_by
from repcompiler.frontends.fx_trace import IN_PLACE_OPERATORS, regions
from repcompiler.ir import Shape

COMPARISONS: tuple[Callable[..., Any], ...] = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)

FUNCTIONAL = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


class Undecided(Exception):
    """It depends on more than known shapes."""


def settle_assertions(model: fx.GraphModule) -> None:
    """Erase assertions that hold at every size, and whatever reads an attribute for nobody."""
    shapes = {value.origin: value.shape for node in lift(model).nodes for value in (*node.inputs, *node.outputs)}
    for _, region in regions(model):
        for node in list(region.graph.nodes):
            if node.target is torch._assert and _holds(node.args[0], shapes):
                region.graph.erase_node(node)
        for node in reversed(region.graph.nodes):
            if not node.users and (node.target in (getattr, *COMPARISONS) or node.target in ("dim", "size")):
                region.graph.erase_node(node)
        region.recompile()


def settle_writes(model: fx.GraphModule) -> None:
    """Give in-place operators whose writing nobody can see the functional form that torch.fx gives them.

    A region without others can be unpickled by torch alone: the tracer that keeps the others is not needed.
    """
    for _, region in regions(model):
        modules = dict(region.named_modules())
        for node in region.graph.nodes:
            written = written_by(node, modules) if node.target in FUNCTIONAL else []
            if written and all(is_private_write(node, value, modules) for value in written):
                node.target = FUNCTIONAL[node.target]
        if not any(node.target in IN_PLACE_OPERATORS for node in region.graph.nodes):
            region._tracer_cls = region.graph._tracer_cls = None
        region.recompile()


def _holds(condition: Any, shapes: Mapping[fx.Node, Shape | None]) -> bool:
    try:
        return _decide(condition, shapes) is True
    except Undecided:
        return False


def _decide(term: Any, shapes: Mapping[fx.Node, Shape | None]) -> Any:
    """The number, shape or truth value that a node has at every size."""
    if not isinstance(term, fx.Node):
        return term
    shape = shapes.get(term.args[0]) if term.args and isinstance(term.args[0], fx.Node) else None
    if shape is not None:
        if term.target in ("dim", "ndimension") or (term.target is getattr and term.args[1] == "ndim"):
            return len(shape)
        if (term.target == "size" and len(term.args) == 1) or (term.target is getattr and term.args[1] == "shape"):
            return shape
        if term.target == "size":
            return _known(shape[_decide(term.args[1], shapes)])
    if term.target is len:
        return len(_decide(term.args[0], shapes))
    if term.target is operator.getitem and type(term.args[1]) is int:
        return _known(_decide(term.args[0], shapes)[term.args[1]])
    if term.target in COMPARISONS:
        one, other = (_known(_decide(arg, shapes)) for arg in term.args)
        return term.target(one, other)
    raise Undecided


def _known(value: Any) -> Any:
    if value is None or (isinstance(value, tuple) and None in value):
        raise Undecided
    return value
