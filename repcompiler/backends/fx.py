"""Patch traced regions so that they compute what the rewritten graph says.  What no rewrite touched stays the same object.

New nodes go where the node stood whose result they inherit, so everything they read is computed before them.  A new module is
named after the first linear module whose place it takes, with `_merged` behind it: `stages.0.conv_kxk.conv_merged`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Any

import torch
from torch import fx, nn

from repcompiler.backends.fx_emit import Emit
from repcompiler.backends.fx_writer import Made, Place
from repcompiler.frontends.fx_frames import frames
from repcompiler.frontends.fx_memory import WRITES, attribute, is_private_write, written_by
from repcompiler.frontends.fx_modules import MODULES
from repcompiler.frontends.fx_run import SHAPE
from repcompiler.frontends.fx_samples import MEMBERS
from repcompiler.frontends.fx_trace import forget_tracer, regions
from repcompiler.ir import Graph, Node, Value
from repcompiler.ops import Constant, Conv, ConvTranspose, Linear

LINEAR = tuple(kind for kind in MODULES if kind is nn.Linear or issubclass(kind, nn.modules.conv._ConvNd))

WEIGHTED = (Conv, ConvTranspose, Linear)
"""What is named after the module whose place it takes."""

RESHAPED: dict[Any, Any] = {"view": "reshape", torch.ops.aten.view.default: torch.ops.aten.reshape.default}
"""A view of what may now lie in memory in another order."""


PARAMETRISED = re.compile(r"\.parametrizations\.([^.]+)\..*")
"""A weight, from what it is computed from."""


def patch(model: fx.GraphModule, graph: Graph) -> dict[str, str]:
    """Write `graph`, lifted from `model` and rewritten since, back into it.  Returns the names of new nodes by values."""
    written = {node for node in graph.nodes if node.origin is None or graph.is_bereft(node)}
    new = {value.origin: node for node in written for value in node.outputs if value.origin is not None}
    kept = {form.origin for node in graph.nodes if node not in written for form in (node, *node.implied)}
    framed = [(node, what) for _, region in regions(model) for node, what in frames(region).items()]
    kept |= {member for node in kept if node is not None for member in node.meta.get(MEMBERS, ())}
    kept |= {write for node, what in framed if node in kept for write in what.writes}
    names: dict[str, str] = {}
    for path, region in regions(model):
        patched = Patch(region, graph, kept, new, f"{path}." if path else "")
        patched.run()
        names |= {value.name: patched.prefix + node.name for value, node in patched.written.items()}
    return names


class Patch:
    """The patching of one region."""

    def __init__(
        self, region: fx.GraphModule, graph: Graph, kept: set[fx.Node], new: dict[fx.Node, Node], prefix: str = ""
    ) -> None:
        self.region, self.graph, self.kept, self.new, self.prefix = region, graph, kept, new, prefix
        self.written: dict[Value, fx.Node] = {}
        self.made: Made = {}
        self.labels: set[str] = set()
        self.replaceable: set[fx.Node] = set()
        self.unread = {node for node in region.graph.nodes if not node.users}
        self.private = set(self._private_writes())

    def run(self) -> None:
        """Add what is new, redirect its readers, and drop what nothing needs any more."""
        order = list(self.region.graph.nodes)
        gone = [node for node in order if node.op.startswith("call") and node not in self.kept]
        self.replaceable = {*gone, *(node for node in order if node.op == "get_attr")}
        viewed = {node: node.args[0] for node in order if node.target in RESHAPED and type(node.args[1]) is not torch.dtype}
        if gone:
            forwarded = {old.origin: new for old in self.graph.forwarded if (new := self.graph.successor(old)) is not None}
            for node in order:
                if node in self.new:
                    with self.region.graph.inserting_before(node):
                        node.replace_all_uses_with(self._write(self.new[node], node))
                elif node in forwarded and node not in self.kept:
                    with self.region.graph.inserting_before(node):
                        node.replace_all_uses_with(self._value(forwarded[node], node))
            self._erase(gone)
            self._keep_private(self.private)
            for node, operand in viewed.items():
                if node in self.kept and node.args[0] is not operand:
                    node.target = RESHAPED[node.target]
        for node in self.region.graph.nodes:
            node.meta.pop(SHAPE, None)
            node.meta.pop(WRITES, None)
            node.meta.pop(MEMBERS, None)
        forget_tracer(self.region)
        self.region.graph.lint()
        self.region.recompile()

    def _private_writes(self) -> Iterator[tuple[fx.Node, fx.Node]]:
        """Every write that nobody can see: who writes, and into what."""
        modules = dict(self.region.named_modules())
        for node in self.region.graph.nodes:
            yield from ((node, value) for value in written_by(node, modules) if is_private_write(node, value, modules))

    def _keep_private(self, before: AbstractSet[tuple[fx.Node, fx.Node]]) -> None:
        """Copy what a write that nobody could see would now write into for others to see: where an identity was removed."""
        writers = {node for node, _ in before if node in self.kept}
        for node in writers - {node for node, _ in self._private_writes()}:
            for value in written_by(node, dict(self.region.named_modules())):
                with self.region.graph.inserting_before(node):
                    node.replace_input_with(value, self.region.graph.call_method("clone", (value,)))

    def _value(self, value: Value, place: fx.Node) -> fx.Node:
        """The fx node of a value; one that a rewrite made is written where it is first read."""
        value = self.graph.successor(value) or value
        if value in self.written:
            return self.written[value]
        if isinstance(value.origin, fx.Node):
            return value.origin
        assert value.producer is not None
        return self._write(value.producer, place)

    def _write(self, node: Node, place: fx.Node) -> fx.Node:
        operands = [self._value(value, place) for value in node.inputs]
        if isinstance(node.op, WEIGHTED):
            self._label(node.output, place)
        emit = Emit(self.region, self._place(node, place), self.made)
        self.written[node.output] = emit.operation(node.op, operands)
        return self.written[node.output]

    def _place(self, node: Node, place: fx.Node) -> Place:
        replaced = self._replaced(place)
        tensors = [tensor for part in replaced for tensor in self._tensors(part) if tensor.is_floating_point()]
        like = next(chain(tensors, self.region.parameters(), self.region.buffers()), torch.empty(0))
        trainable = any(tensor.requires_grad for tensor in tensors)
        value = node.output
        seen = value.dtype if isinstance(node.op, Constant) else "" if tensors else place.meta.get(SHAPE, ((), ""))[1]
        dtype = getattr(torch, seen) if seen else like.dtype
        sources = frozenset(str(part.target) for part in replaced if part.op in ("call_module", "get_attr"))
        return Place(self._name(replaced, place), dtype, like.device, trainable, value.rank, sources)

    def _label(self, value: Value, place: fx.Node) -> None:
        """Let people know a new value by the linear module whose place it takes, of several at one place each by another."""
        names = dict.fromkeys(self._names(self._replaced(place)))
        free = [self.prefix + name for name in names if self.prefix + name not in self.labels]
        value.path = free[0] if free else value.path
        self.labels.add(value.path)

    def _replaced(self, place: fx.Node) -> list[fx.Node]:
        """What goes for a new value at `place`: the nodes behind it, back to those that stay, in order."""
        found = {place}
        pending = [place]
        while pending:
            for node in pending.pop().all_input_nodes:
                if node not in found and node in self.replaceable:
                    found.add(node)
                    pending.append(node)
        return sorted(found)

    def _tensors(self, node: fx.Node) -> list[torch.Tensor]:
        if node.op == "call_module":
            module = self.region.get_submodule(str(node.target))
            return [*module.parameters(), *module.buffers()]
        value = attribute(self.region, node) if node.op == "get_attr" else None
        return [value] if isinstance(value, torch.Tensor) else []

    def _name(self, replaced: Sequence[fx.Node], place: fx.Node) -> str:
        return next(iter(self._names(replaced)), place.name)

    def _names(self, replaced: Sequence[fx.Node]) -> list[str]:
        modules = [node for node in replaced if node.op == "call_module"]
        linear = [node for node in modules if isinstance(self.region.get_submodule(str(node.target)), LINEAR)]
        constants = [node for node in replaced if node.op == "get_attr"]
        return [PARAMETRISED.sub(r".\1", str(node.target)) for node in (*linear, *constants, *modules)]

    def _erase(self, gone: Sequence[fx.Node]) -> None:
        """Take out the nodes that went, the constants that only they read, and the modules and parameters none is left of."""
        targets = {}
        for node in reversed(gone):
            targets[str(node.target)] = node.op
            self.region.graph.erase_node(node)
        for node in reversed(self.region.graph.nodes):
            if node.op == "get_attr" and not node.users and node not in self.unread:
                targets[str(node.target)] = node.op
                self.region.graph.erase_node(node)
        called = {str(node.target) for node in self.region.graph.nodes if node.op in ("call_module", "get_attr")}
        needed = {around for target in called for around in _around(target)}
        removed = {
            target
            for target, op in targets.items()
            if op in ("call_module", "get_attr") and target not in needed and called.isdisjoint(_around(target))
        }
        for target in sorted(removed):
            if removed.isdisjoint(_around(target)[1:]):
                self._delete(target)

    def _delete(self, target: str) -> None:
        """Remove a module or tensor, and then each container around it that holds nothing more."""
        path, _, name = target.rpartition(".")
        owner = self.region.get_submodule(path)
        delattr(owner, name)
        while (
            path
            and type(owner) is nn.Module
            and not any(True for _ in (*owner.children(), *owner.parameters(), *owner.buffers()))
        ):
            path, _, name = path.rpartition(".")
            owner = self.region.get_submodule(path)
            delattr(owner, name)


def _around(path: str) -> list[str]:
    """The path itself, and each module around it."""
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
