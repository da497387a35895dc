"""Lists and dictionaries that a forward is given, and parts that it splits off, while it is traced."""

from __future__ import annotations

import operator
from collections import OrderedDict
from typing import Any

import torch
from torch import fx

from repcompiler.frontends.fx_calls import target_name

COMPILED_FOR = "compiled for "
"""How assertions begin that say what the traced model takes: they are not settled, for they hold of the example alone."""

OF_A_TYPE = f"{COMPILED_FOR}torch."
"""How those begin that name a type, which is another one where the model is run in double precision."""


class Containers:
    """Containers of proxies, made like those of the example: Python may ask for their type, their length and their keys."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, list[tuple[Any, Any]]]] = []
        self.taken: list[fx.Node] = []

    def unfold(self, arg: Any, example: Any) -> Any:
        """What stands for an argument: the proxy itself where the example is no container."""
        result: Any
        if type(example) not in (list, tuple, dict, OrderedDict):
            return arg
        says = f"{COMPILED_FOR}{len(example)} items in '{arg.node.name}'"  # and would leave out any more
        count = arg.tracer.create_proxy("call_function", len, (arg,), {})
        arg.tracer.create_proxy("call_function", torch._assert, (count == len(example), says), {})
        if isinstance(example, dict):
            result = type(example)([(key, self._item(arg, key, item)) for key, item in example.items()])
        else:
            result = type(example)([self._item(arg, index, item) for index, item in enumerate(example)])
        self.made.append((result, _items(result)))
        return result

    def _item(self, arg: Any, key: Any, example: Any) -> Any:
        item = arg[key]
        self.taken.append(item.node)
        return None if example is None else self.unfold(item, example)

    def settle(self) -> bool:
        """Forget what nobody took out of them.  Returns whether one was written into, which the caller would see."""
        for node in reversed(self.taken):
            if not node.users:
                node.graph.erase_node(node)
        return any(not _same(_items(container), before) for container, before in self.made)


def _items(container: Any) -> list[tuple[Any, Any]]:
    return [*container.items()] if isinstance(container, dict) else [*enumerate(container)]


def _same(one: list[tuple[Any, Any]], other: list[tuple[Any, Any]]) -> bool:
    return len(one) == len(other) and all(k is n and v is w for (k, v), (n, w) in zip(one, other, strict=True))


SPLITS = ("chunk", "split", "split_with_sizes", "tensor_split", "hsplit")
SIZES = ("chunks", "split_size_or_sections", "split_size", "split_sizes", "indices_or_sections", "sections", "indices")
"""How the second argument of these is called."""


def parts_of(node: fx.Node) -> int | None:
    """How many parts `x.chunk(n, 1)`, `x.split([a, b], 1)` or `x.shape[-2:]` has; None where that may depend on the size."""
    if node.target is operator.getitem and is_extent(node):
        return _from_behind(node.args[1])
    function, sizes, dim = split_of(node) or ("", None, None)
    if dim not in (1, -3):
        return None
    if isinstance(sizes, (list, tuple)):
        return len(sizes) + (function == "tensor_split")
    return sizes if type(sizes) is int and function in ("chunk", "tensor_split") else None


def split_of(node: fx.Node) -> tuple[str, Any, Any] | None:
    """(function, how many parts or of what sizes, axis) where a tensor is split; `hsplit` is a `tensor_split` along axis 1."""
    name = target_name(node.target)
    if name not in SPLITS:
        return None
    sizes = node.args[1] if len(node.args) > 1 else next((node.kwargs[key] for key in SIZES if key in node.kwargs), None)
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    return ("tensor_split", sizes, 1) if name == "hsplit" else (name, sizes, dim)


def is_extent(node: fx.Node) -> bool:
    """Whether it is an extent of a tensor, or some of them."""
    while node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node.target == "size" or (node.target is getattr and node.args[1] == "shape")


def _from_behind(index: Any) -> int | None:
    """How many extents `x.shape[-2:]` holds of any tensor that has so many axes."""
    if not isinstance(index, slice) or index.step is not None or type(index.start) is not int or index.start >= 0:
        return None
    stop = 0 if index.stop is None else index.stop
    return max(stop - index.start, 0) if type(stop) is int and stop <= 0 else None
