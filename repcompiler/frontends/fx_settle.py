"""Drop from a traced model what tracing made explicit and can be decided once: assertions about ranks and known extents.

timm checks `x.ndim == 4` before every batch norm; each check would read the convolution's output a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from repcompiler.frontends.fx_arithmetic import Extent, Extents
from repcompiler.frontends.fx_calls import target_name
from repcompiler.frontends.fx_containers import COMPILED_FOR
from repcompiler.frontends.fx_layout import COMPARISONS, TYPES, Undecided, decide
from repcompiler.frontends.fx_lift import lift
from repcompiler.frontends.fx_memory import is_private_write, written_by
from repcompiler.frontends.fx_run import SHAPE
from repcompiler.frontends.fx_shifts import settle_shifts
from repcompiler.frontends.fx_slices import FUNCTIONAL, settle_slices
from repcompiler.frontends.fx_trace import forget_tracer, regions
from repcompiler.ir import Shape


def settle(model: fx.GraphModule) -> None:
    """All of the following, in all regions of a model whose shapes were learnt as far as they can be."""
    known = {node: node.meta[SHAPE][0] for _, region in regions(model) for node in region.graph.nodes if SHAPE in node.meta}
    shapes = known or {value.origin: value.shape for node in lift(model).nodes for value in (*node.inputs, *node.outputs)}
    for _, region in regions(model):
        settle_assertions(region, shapes)
        settle_results(region)
        settle_shifts(region)
        settle_slices(region)
        settle_writes(region)
        region.recompile()


def settle_assertions(region: fx.GraphModule, shapes: Mapping[fx.Node, Shape | None]) -> None:
    """Erase assertions that hold at every size, and whatever reads an attribute for nobody."""
    for node in list(region.graph.nodes):
        if node.target is torch._assert and not _says_what_is_taken(node) and _holds(node.args[0], shapes):
            region.graph.erase_node(node)
    for node in reversed(region.graph.nodes):
        asks = node.target in (getattr, *COMPARISONS) or target_name(node.target) in ("dim", "size", *TYPES)
        if not node.users and (asks or node.op == "get_attr"):
            region.graph.erase_node(node)


def settle_results(region: fx.GraphModule) -> None:
    """Let all that reads a tensor after `x.add_(y)` read the result: that is the tensor itself."""
    order = {node: index for index, node in enumerate(region.graph.nodes)}
    for node in order:
        if node.op == "call_method" and (written := written_by(node, {})):
            later = [user for user in written[0].users if order[user] > order[node]]
            for user in later:
                user.replace_input_with(written[0], node)


def settle_writes(region: fx.GraphModule) -> None:
    """Give in-place operators whose writing nobody can see the functional form that torch.fx gives them."""
    modules = dict(region.named_modules())
    for node in region.graph.nodes:
        written = written_by(node, modules) if node.target in FUNCTIONAL else []
        if written and all(is_private_write(node, value, modules) for value in written):
            node.target = FUNCTIONAL[node.target]
    forget_tracer(region)


def _says_what_is_taken(node: fx.Node) -> bool:
    return str(node.args[1] if len(node.args) > 1 else "").startswith(COMPILED_FOR)


def _holds(condition: Any, shapes: Mapping[fx.Node, Shape | None]) -> bool:
    def extents(node: fx.Node) -> Extents | None:
        shape = shapes.get(node)
        known = (size if isinstance(size, int) else Extent(node, axis) for axis, size in enumerate(shape or ()))
        return None if shape is None else tuple(known)

    try:
        return decide(condition, extents) is True
    except Undecided:
        return False
