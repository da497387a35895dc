"""Patch an ONNX model so that it computes what the rewritten graph says.  What no rewrite touched stays the same object.

New nodes go where the node stood whose result they inherit, under its name, so everything they read is defined before them.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir

from repcompiler.backends.onnx_emit import Emit
from repcompiler.backends.onnx_writer import Made
from repcompiler.ir import Graph, Node, Shape, Value
from repcompiler.ops import Constant
from repcompiler.outline import hollow


def patch(model: onnx_ir.Model, graph: Graph) -> None:
    """Write `graph`, lifted from `model` and rewritten since, back into it; what was written is no longer in the graph."""
    Patch(model, graph).run()


class Patch:
    """One patching of one model."""

    def __init__(self, model: onnx_ir.Model, graph: Graph) -> None:
        self.model = model
        self.document = model.graph
        self.graph = graph
        self.before = list(self.document)
        self.states_shapes = any(value.shape is not None for node in self.before for value in node.outputs if value.uses())
        self.read_before = [value for value in self.document.initializers.values() if _is_read(value)]
        self.taken = {value.name for value in _all_values(self.document)} | {node.name for node in self.document.all_nodes()}
        self.written: dict[Value, onnx_ir.Value] = {}
        self.made: Made = {}

    def run(self) -> None:
        """Add what is new, redirect its readers, and drop what nothing needs any more."""
        order = self.graph.topological()
        written = {node for node in order if node.origin is None or self.graph.is_bereft(node)}
        written -= self._within(order, written)
        anchors = self._anchors(order)
        for node in order:
            if node in written:
                self._write(node, anchors[node])
        for old in self.graph.forwarded:
            new = self.graph.successor(old)
            if new is not None and old.origin is not None:  # else a rewrite made it, and another removed it
                self._redirect(old.origin, self.value(new))
        kept = {form.origin for node in order if node not in written for form in (node, *node.implied)}
        self.document.remove([node for node in self.before if node not in kept], safe=True)
        for value in self.read_before:
            if not _is_read(value):
                del self.document.initializers[str(value.name)]
                if value.is_graph_input() and self.model.ir_version < 4:
                    self.document.inputs.remove(value)

    def _within(self, order: list[Node], written: set[Node]) -> set[Node]:
        """Parts of nodes that stay in the document's form, and that nothing else reads."""
        parts = {part for node in order for part in node.parts}
        within: set[Node] = set()
        for node in reversed(order):
            users = node.output.uses if node in parts else ()
            if node in parts and all(user in within or (user not in written and node in user.parts) for user in users):
                within.add(node)
        return within

    def value(self, value: Value) -> onnx_ir.Value:
        """The document's value for a neutral one."""
        value = self.graph.successor(value) or value
        if value in self.written:
            return self.written[value]
        source = value.origin
        assert isinstance(source, onnx_ir.Value)
        return source

    def _anchors(self, order: list[Node]) -> dict[Node, onnx_ir.Node]:
        """For each new node, the document's node before which it goes: whose result it inherits, or its first reader does."""
        anchors: dict[Node, onnx_ir.Node] = {}
        position = {node: index for index, node in enumerate(self.before)}
        for node in reversed(order):
            if node.origin is not None:
                anchors[node] = node.origin
            else:
                source = node.output.origin
                readers = (anchors[user] for user in node.output.uses)
                anchors[node] = min(readers, key=position.__getitem__) if source is None else source.producer()
        return anchors

    def _write(self, node: Node, anchor: onnx_ir.Node) -> None:
        old = node.output.origin
        inherits = isinstance(node.op, Constant) and old is not None and not old.is_graph_output()
        emit = Emit(self.model, node.output, self._shape(node), anchor, self.fresh, {} if inherits else self.made)
        if isinstance(node.op, Constant) and inherits:
            result = emit.initializer("", node.op.array)
        else:
            result = emit.operation(node.op, [self.value(value) for value in node.inputs])
            self.document.insert_before(anchor, emit.nodes)
        for initializer in emit.initializers:
            self.document.register_initializer(initializer)
            if self.model.ir_version < 4:
                self.document.inputs.append(initializer)
        self.written[node.output] = result
        node.op = hollow(node.op)  # the document has its weights now; in float64 they take more room than there
        if old is not None:
            self._inherit(old, result)

    def _shape(self, node: Node) -> Shape | None:
        """What to state of a result: its shape where the document states shapes, else no more than weights say.

        Runtimes lay out windows by the number of channels.  But where they know all extents beforehand they plan the memory,
        and hold so many maps at a time that large ones no longer fit into cache.
        """
        ranks = [None if value.rank is None else (None,) * value.rank for value in node.inputs]
        return node.output.shape if self.states_shapes else node.op.infer_shape(ranks)

    def _inherit(self, old: onnx_ir.Value, new: onnx_ir.Value) -> None:
        """`new` becomes what `old` was to its readers and to the user."""
        name, old.name = old.name, self.fresh(str(old.name))
        if new.is_initializer():
            del self.document.initializers[str(new.name)]
        new.name = name
        if new.is_initializer() or new.producer() is None:
            self.document.register_initializer(new)
        new.type, new.doc_string = old.type or new.type, old.doc_string
        if old.shape is not None:
            new.shape = old.shape
        new.metadata_props.update(old.metadata_props)
        new.meta.update(old.meta)
        self._redirect(old, new)

    def _redirect(self, old: onnx_ir.Value, new: onnx_ir.Value) -> None:
        old.replace_all_uses_with(new, replace_graph_outputs=True)

    def fresh(self, wish: str) -> str:
        """A name that no value and no node has, as near to `wish` as can be."""
        name, count = wish, 1
        while name in self.taken:
            name, count = f"{wish}_{count}", count + 1
        self.taken.add(name)
        return name


def _is_read(value: onnx_ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _all_values(graph: onnx_ir.Graph) -> Iterator[onnx_ir.Value]:
    """Every value of the graph and of all bodies inside it."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph.all_nodes():
        yield from node.outputs
        for attribute in node.attributes.values():
            if attribute.type == onnx_ir.AttributeType.GRAPH:
                yield from attribute.as_graph().inputs
                yield from attribute.as_graph().initializers.values()
