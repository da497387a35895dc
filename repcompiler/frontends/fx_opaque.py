"""The calls that no rewrite looks into: what is known of them all the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate

from repcompiler.frontends.fx_calls import target_name
from repcompiler.frontends.fx_run import to_numpy


def attributes_of(node: fx.Node) -> dict[str, Any]:
    """What a call is given beside tensors, `_` in the place of these; of a module what it shows of itself, and its tensors."""
    if node.op == "call_module" and node.graph.owning_module is not None:
        module = node.graph.owning_module.get_submodule(str(node.target))
        shown = repr(module) if any(module.children()) else module.extra_repr()
        tensors = {name: to_numpy(tensor) for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}
        return {**({"arguments": shown} if shown else {}), **tensors}
    args: Any = map_aggregate(node.args, lambda arg: "_" if isinstance(arg, fx.Node) else arg)
    kwargs: Any = map_aggregate(node.kwargs, lambda arg: "_" if isinstance(arg, fx.Node) else arg)
    written = [*map(str, args), *(f"{name}={value}" for name, value in kwargs.items())]
    return {"arguments": ", ".join(written)} if any(text != "_" for text in written) else {}


def operator_name(node: fx.Node, modules: dict[str, Any]) -> str:
    """The name of the module's class, the function or the method."""
    if node.op == "call_module":
        return type(modules[str(node.target)]).__name__
    return target_name(node.target) or "function"
