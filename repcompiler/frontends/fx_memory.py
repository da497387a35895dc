"""Which operations of a torch.fx graph may be seen as equations, although torch writes in place and shares memory.

An equation may be computed later than where it stands, and its operands may be computed otherwise.  That is wrong for whatever
touches memory that is still to be written.  Values are put into classes that may share memory (views, results of in-place
operations, whatever is unknown).  Then, for a write into a value:

  * It is *private* if nobody could tell: from the operation that made the memory to the write there is one chain of values,
    each read once.  `out = bn(x); out += y` and a ReLU(inplace=True) after it are so, and are equations.
  * Otherwise all that defines or reads a value of that class up to the write is *fenced*: an opaque operation that stays where
    it is.  What reads the memory after the last write into it is free, because rewriting never makes a read earlier.
  * A parameter or buffer that is written anywhere is no constant.
  * Memory that is filled from parameters alone before anything else reads it is one (`fx_filled`).
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from repcompiler.frontends.fx_calls import first_operands, target_name, written_by_call
from repcompiler.frontends.fx_filled import Filled, filled
from repcompiler.frontends.fx_trace import has_hooks, is_builtin

# fmt: off
VIEWS = frozenset((
    "adjoint", "alpha_dropout", "as_strided", "as_tensor", "atleast_1d", "atleast_2d", "atleast_3d", "bfloat16", "bool",
    "broadcast_tensors", "broadcast_to", "chunk", "conj", "contiguous", "cpu", "cuda", "data", "detach", "diagonal",
    "double", "dropout", "dropout1d", "dropout2d", "dropout3d", "dsplit", "einsum", "expand", "expand_as",
    "feature_alpha_dropout", "flatten", "float", "getattr", "getitem", "half", "hsplit", "imag", "int", "long", "meshgrid",
    "moveaxis", "movedim", "narrow", "native_channel_shuffle", "permute", "pixel_shuffle", "pixel_unshuffle", "positive",
    "ravel", "real", "requires_grad_", "reshape", "reshape_as", "resolve_conj", "resolve_neg", "select", "split",
    "split_with_sizes", "squeeze", "swapaxes", "swapdims", "t", "tensor_split", "to", "transpose", "type", "type_as",
    "unbind", "unflatten", "unfold", "unsqueeze", "values", "view", "view_as", "view_as_complex", "view_as_real", "vsplit",
))
# fmt: on
"""Functions and methods of torch whose result may share memory with what they are given."""

VIEW_MODULES = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.ChannelShuffle,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
)

ORDERED = frozenset(
    ("view", "view_as", "_unsafe_view", "as_strided", "stride", "is_contiguous", "storage_offset", "data_ptr", "storage")
)
"""Functions and methods that see the order of numbers in memory."""

WRITES = "repcompiler_writes"
"""Key of `fx.Node.meta`: the positions in `all_input_nodes` of what a run saw written."""


@dataclass(frozen=True)
class Memory:
    """What the writes of one region forbid."""

    fenced: frozenset[fx.Node]
    """Operations that must stay where and as they are."""
    written: frozenset[int]
    """Addresses of parameters and buffers that are written."""
    filled: Filled
    """Memory that holds a constant once it is written."""

    def is_written(self, tensor: torch.Tensor) -> bool:
        """Whether a parameter or buffer changes when the region runs."""
        return bool(self.written) and address(tensor) in self.written


def address(tensor: torch.Tensor) -> int:
    """Where the memory of a tensor begins; tensors that share it have the same."""
    return tensor.untyped_storage().data_ptr()


def analyse(region: fx.GraphModule, unseen: Container[fx.Node] = ()) -> Memory:
    """Find the writes that could be seen, and what they fence; nobody reads what those in `unseen` write into before them."""
    order = list(region.graph.nodes)
    modules = dict(region.named_modules())
    classes: dict[fx.Node, fx.Node] = {}

    def of(node: fx.Node) -> fx.Node:
        while node in classes:
            node = classes[node]
        return node

    def unite(one: fx.Node, other: fx.Node) -> None:
        if of(one) is not of(other):
            classes[of(one)] = of(other)

    held: dict[int, fx.Node] = {}
    for node in order:
        for source in shares_memory_with(node, modules):
            unite(node, source)
        if node.op == "get_attr" and isinstance(tensor := attribute(region, node), torch.Tensor):
            unite(node, held.setdefault(address(tensor), node))
    last: dict[fx.Node, int] = {}
    for index, node in enumerate(order):
        for value in written_by(node, modules) if node not in unseen else ():
            if not is_private_write(node, value, modules):
                last[of(value)] = index
    fenced = {
        node
        for index, node in enumerate(order)
        if last and any(index <= last.get(of(value), -1) for value in (node, *node.all_input_nodes))
    }
    parameters = frozenset(place for place, node in held.items() if of(node) in last)
    writes = {node: written for node in order if last and (written := written_by(node, modules))}
    return Memory(frozenset(fenced), parameters, filled(order, last, of, writes, is_known, unseen) if last else Filled())


def written_by(node: fx.Node, modules: dict[str, nn.Module]) -> list[fx.Node]:
    """The values into whose memory this operation writes."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if is_builtin(module):
            return first_operands(node) if getattr(module, "inplace", False) else []
        return [value for index, value in enumerate(node.all_input_nodes) if index in node.meta.get(WRITES, (index,))]
    return written_by_call(node) if node.op in ("call_function", "call_method") else []


def shares_memory_with(node: fx.Node, modules: dict[str, nn.Module]) -> list[fx.Node]:
    """The values that the result may share memory with, by this operation's own doing."""
    if node.op in ("placeholder", "get_attr", "output"):
        return []
    if written := written_by(node, modules):
        return written
    if node.op == "call_module":
        module = modules[str(node.target)]
        if not is_builtin(module):
            return node.all_input_nodes
        return first_operands(node) if isinstance(module, VIEW_MODULES) else []
    if isinstance(node.target, torch._ops.OpOverload) and any(result.alias_info for result in node.target._schema.returns):
        return node.all_input_nodes
    if target_name(node.target) in VIEWS:
        return first_operands(node)
    return [] if is_known(node) else node.all_input_nodes


def is_known(node: fx.Node) -> bool:
    """Whether torch or Python defines this function or method, so that its name says what it does."""
    home = getattr(node.target, "__module__", None) or ""
    if node.op == "call_method" or home.split(".")[0] in ("torch", "_operator", "operator"):
        return True
    return any(getattr(place, target_name(node.target), None) is node.target for place in (builtins, math, operator, torch))


def is_private_write(writer: fx.Node, value: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether `value`, written by `writer`, is at the end of a chain of values read once, back to what made the memory."""
    while value.op not in ("placeholder", "get_attr") and len(value.users) == 1:
        sources = shares_memory_with(value, modules)
        if not sources:
            return True
        if len(sources) > 1:
            return False
        (value,) = sources
    return False


def has_effect(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether an unread node must run all the same."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return has_hooks(module) or not (is_builtin(module) or isinstance(module, fx.GraphModule))
    visible = [value for value in written_by(node, modules) if not is_private_write(node, value, modules)]
    return bool(visible) or node.is_impure() or not is_known(node)


def minds_order(node: fx.Node) -> bool:
    """Whether a reader of tensors may depend on where their numbers lie, or pass that on to who knows whom."""
    if node.op == "call_module":
        return not is_builtin(node.graph.owning_module.get_submodule(str(node.target)))  # type: ignore[union-attr]
    if node.op == "output":
        return False
    return not is_known(node) or target_name(node.target) in ORDERED


def attribute(region: nn.Module, node: fx.Node) -> Any:
    """What a get_attr node reads."""
    result: Any = region
    for name in str(node.target).split("."):
        result = getattr(result, name)
    return result
