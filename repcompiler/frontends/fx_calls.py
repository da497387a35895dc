"""What a call in a torch.fx graph is named, what it writes into, and what it is computed from."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import fx

IN_PLACE_OPERATORS = tuple(
    getattr(operator, name)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor", "setitem")
)
_METHODS = {"__set__", *(f"__{function.__name__}__" for function in IN_PLACE_OPERATORS)}


def target_name(target: Any) -> str:
    """Of a function, a method or an operator of torch.ops, without its overload."""
    if isinstance(target, torch._ops.OpOverload):
        target = target.overloadpacket
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def is_in_place(target: Any) -> bool:
    """Whether a function or method writes into its first argument, as its name says: `add_`, `__iadd__`, `operator.iadd`."""
    name = target_name(target)
    return target in IN_PLACE_OPERATORS or name in _METHODS or (name.endswith("_") and not name.endswith("__"))


def written_by_call(node: fx.Node) -> list[fx.Node]:
    """The values into whose memory a function or method writes."""
    if node.op == "call_method":
        return first_operands(node) if is_in_place(node.target) else []
    if isinstance(node.target, torch._ops.OpOverload):
        arguments = zip(node.target._schema.arguments, node.args, strict=False)
        return [arg for spec, arg in arguments if spec.is_write and isinstance(arg, fx.Node)]
    if is_in_place(node.target) or _is_told_to(node):
        return first_operands(node)
    out = node.kwargs.get("out")
    return [out] if isinstance(out, fx.Node) else []


def first_operands(node: fx.Node) -> list[fx.Node]:
    """The values in the first argument of a call."""
    first = node.args[0] if node.args else node.kwargs.get("input", node.kwargs.get("self"))
    if isinstance(first, (tuple, list)):
        return [item for item in first if isinstance(item, fx.Node)]
    return [first] if isinstance(first, fx.Node) else []


def behind(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes themselves, and all that they are computed from."""
    found = dict.fromkeys(nodes)
    pending = [*found]
    while pending:
        operands = [operand for operand in pending.pop().all_input_nodes if operand not in found]
        found.update(dict.fromkeys(operands))
        pending += operands
    return set(found)


def _is_told_to(node: fx.Node) -> bool:
    """Whether a function is called with `inplace` true, by name or by position."""
    position = _inplace_position(node.target)
    return bool(node.args[position] if position < len(node.args) else node.kwargs.get("inplace"))


@cache
def _inplace_position(function: Any) -> int:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a built-in function
        return sys.maxsize
    return names.index("inplace") if "inplace" in names else sys.maxsize
