"""The graph that rewrites work on, neutral between torch.fx and ONNX.

    graph ::= inputs nodes outputs
    node  ::= value+ = op(value*)    origin: the document's node, or None where a rewrite made it

A `Value` owns its identity: its name belongs to the user and survives rewriting, because the node that replaces
another one takes over its output values.  Operations carry their own constants (`repcompiler.ops`); the document's values
those constants were read from are kept beside the inputs as `Node.parameters`, so that removing a node also frees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repcompiler.ops import Op

Dim = int | str | None
"""One extent of a shape: a number, a symbol ("batch"), or None where nothing is known."""

Shape = tuple[Dim, ...]


@dataclass(eq=False)
class Value:
    """One tensor: made by a node, or given to the graph (an input, or a constant of the document)."""

    name: str
    shape: Shape | None = None
    dtype: str = "float32"
    origin: Any = None
    constant: Callable[[], Any] | None = None
    """Where the value depends on parameters alone: computes its array (once, when first asked)."""
    typical: Shape | None = None
    """Extents of one run where the shape leaves some free: for estimates alone."""
    producer: Node | None = None
    uses: dict[Node, int] = field(default_factory=dict)
    path: str = ""
    """Where the user's code has it, if the name does not say so: the path of a module."""
    place: int = -1
    """Where in the document's order it is made; -1 where a rewrite made it: it is then made where it is first read."""

    @property
    def label(self) -> str:
        """What people know it by."""
        return self.path or self.name

    @property
    def rank(self) -> int | None:
        """Number of axes, or None where the shape is unknown."""
        return None if self.shape is None else len(self.shape)

    def spatial(self, axes: int) -> list[int | None]:
        """Extents behind batch and channels, `axes` of them; None where a number is not known."""
        sizes = self.shape[2:] if self.shape is not None else (None,) * axes
        return [size if isinstance(size, int) else None for size in sizes] if axes else []

    def leaves(self) -> set[Value]:
        """The given values that this one is computed from: the document's constants and inputs."""
        found: set[Value] = set()
        seen = {self}
        pending = [self]
        while pending:
            value = pending.pop()
            operands = () if value.producer is None else (*value.producer.inputs, *value.producer.parameters)
            if not operands:
                found.add(value)
            pending += [operand for operand in operands if operand not in seen]
            seen.update(operands)
        return found

    def __repr__(self) -> str:
        return f"%{self.name}"


@dataclass(eq=False)
class Node:
    """One application of an operation.  Read-only outside `Graph`."""

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    parameters: tuple[Value, ...] = ()
    origin: Any = None
    implied: tuple[Node, ...] = ()
    """Nodes that are not in the graph, as `op` knows what they compute; the document's form of this node reads them."""
    consulted: tuple[Value, ...] = ()
    """Values that this form, or an implied node, reads beside the operands."""
    parts: tuple[Node, ...] = ()
    """Nodes of the graph that this form computes by itself: the document has one node for all of them."""

    @property
    def output(self) -> Value:
        """The first result; the only one of every operation but `Opaque`."""
        return self.outputs[0]

    def __repr__(self) -> str:
        results = ", ".join(map(repr, self.outputs))
        return f"{results} = {self.op}({', '.join(map(repr, self.inputs))})"


@dataclass(frozen=True, eq=False)
class Expr:
    """An operation applied to operands and not yet part of a graph: what a rewrite returns.

    Expressions are directed acyclic graphs, too: one that occurs twice becomes one node that is read twice.
    """

    op: Op
    operands: tuple[Expr | Value, ...]

    def parts(self) -> dict[Expr, None]:
        """Every expression in this one, itself included, each once; operands first."""
        found: dict[Expr, None] = {}
        pending: list[tuple[Expr, bool]] = [(self, False)]
        while pending:
            part, known = pending.pop()
            if known:
                found[part] = None
            elif part not in found:
                operands = (operand for operand in part.operands if isinstance(operand, Expr))
                pending += [(part, True), *((operand, False) for operand in tuple(operands)[::-1])]
        return found


class Graph:
    """A directed acyclic graph of nodes, ordered by def and use alone (`topological` gives a stable order)."""

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.nodes: dict[Node, None] = {}
        self.forwarded: dict[Value, Value] = {}
        """Values whose readers now read another one: their producer was an identity."""
        self.let_go: Callable[[Node], None] = lambda node: None
        """Told when the weights of a node are not looked at any more, for now: they may be large, and lie in a file."""
        self._handed_out: dict[Value, None] = {}
        self._fresh = 0

    def add(
        self,
        op: Op,
        inputs: Iterable[Value],
        outputs: Iterable[Value],
        parameters: Iterable[Value] = (),
        origin: Any = None,
    ) -> Node:
        """Append a node that defines `outputs`."""
        node = Node(op, tuple(inputs), tuple(outputs), tuple(parameters), origin)
        for value in node.outputs:
            value.producer = node
            value.place = value.place if origin is None else len(self.nodes)
        for value in (*node.inputs, *node.parameters):
            value.uses[node] = value.uses.get(node, 0) + 1
        self.nodes[node] = None
        return node

    def is_output(self, value: Value) -> bool:
        """Whether the graph hands this value out."""
        if len(self._handed_out) != len(self.outputs):  # they are listed first, and then stay
            self._handed_out = dict.fromkeys(self.outputs)
        return value in self._handed_out

    def is_private(self, value: Value) -> bool:
        """Whether exactly one operand of one node reads this value, and nothing outside the graph does."""
        return sum(value.uses.values()) == 1 and not self.is_output(value)

    def successor(self, value: Value) -> Value | None:
        """What is read in the place of `value` now; None where nothing is any more."""
        while value in self.forwarded:
            value = self.forwarded[value]
        return value if value.producer is None or value.producer in self.nodes else None

    def detach(self, node: Node) -> list[Node]:
        """Take `node` out, and then every producer that nothing reads any more.  Returns what went, `node` first."""
        gone = []
        pending = [node]
        while pending:
            dead = pending.pop()
            if dead not in self.nodes:
                continue
            del self.nodes[dead]
            gone.append(dead)
            for value in (*dead.inputs, *dead.parameters):
                if dead in value.uses:
                    del value.uses[dead]
                if value.producer is not None and self.is_dead(value.producer):
                    pending.append(value.producer)
        return gone

    def is_bereft(self, node: Node) -> bool:
        """Whether the document's form of `node` reads what is gone, or computes what is."""
        gone = (value for value in node.consulted if value.producer is not None and value.producer not in self.nodes)
        return any(self.successor(value) is None for value in gone) or any(part not in self.nodes for part in node.parts)

    def is_dead(self, node: Node) -> bool:
        """Whether nothing reads any result of `node`, and running it has no effect of its own."""
        return node.op.pure and not any(value.uses or self.is_output(value) for value in node.outputs)

    def replace(
        self, root: Node, term: Expr | Value | None, made: dict[Expr, Value] | None = None
    ) -> tuple[list[Node], list[Node]]:
        """Put `term` in the place of `root`.  Returns (nodes gone, nodes added).

        The outermost operation of an expression inherits `root`'s output value; a bare value takes over its uses, which only
        works where `root`'s output is no output of the graph (its name must not move); None only removes.  `made`: for `build`.
        """
        added: list[Node] = []
        output = root.output
        if term is None:
            pass
        elif isinstance(term, Value):
            if self.is_output(output):
                raise ValueError(f"{output.name} is an output of the graph and must keep its producer")
            for user, count in list(output.uses.items()):
                user.inputs = tuple(term if value is output else value for value in user.inputs)
                user.parameters = tuple(term if value is output else value for value in user.parameters)
                term.uses[user] = term.uses.get(user, 0) + count
            output.uses.clear()
            self.forwarded[output] = term
            term.shape = term.shape if term.shape is not None else output.shape
        else:
            added = self.build(term, output, output, made)
        return self.detach(root), added

    def build(self, term: Expr, near: Value, output: Value | None = None, made: dict[Expr, Value] | None = None) -> list[Node]:
        """Add the operations of an expression, operands first; `output` is the last result, others are named after `near`.

        `made`: values of expressions that are in the graph already, and afterwards those of the new ones.
        """
        made = {} if made is None else made
        added = []
        for part in [part for part in term.parts() if part not in made]:
            operands = [operand if isinstance(operand, Value) else made[operand] for operand in part.operands]
            made[part] = output if output is not None and part is term else self._between(part.op, operands, near)
            added.append(self.add(part.op, operands, [made[part]]))
        return added

    def _between(self, op: Op, operands: list[Value], near: Value) -> Value:
        """A new value for the result of an operation inside an expression."""
        self._fresh += 1
        value = Value(f"{near.name}/{self._fresh}", op.infer_shape([x.shape for x in operands]), near.dtype)
        value.path = near.path and f"{near.path}/{self._fresh}"
        if any(operand.typical is not None for operand in operands):
            value.typical = op.infer_shape([operand.typical or operand.shape for operand in operands])
        return value

    def dissolve(self) -> None:
        """Forget all nodes: they and their values refer to each other, and would hold every weight until they are collected."""
        for node in [form for known in self.nodes for form in (known, *known.implied)]:
            for value in (*node.inputs, *node.outputs, *node.parameters):
                value.uses.clear()
                value.producer = None
        self.nodes.clear()

    def topological(self) -> list[Node]:
        """All nodes, producers before users, otherwise in the order they were added (iterative: graphs may be deep)."""
        order: list[Node] = []
        done: set[Node] = set()
        for start in self.nodes:
            stack = [] if start in done else [(start, iter((*start.inputs, *start.parameters)))]
            done.add(start)
            while stack:
                node, operands = stack[-1]
                for value in operands:
                    producer = value.producer
                    if producer is not None and producer in self.nodes and producer not in done:
                        done.add(producer)
                        stack.append((producer, iter((*producer.inputs, *producer.parameters))))
                        break
                else:
                    order.append(node)
                    stack.pop()
        return order

    def check(self) -> None:
        """Raise ValueError unless each value is defined once, uses are recorded exactly, and there is no cycle."""
        defined: dict[Value, Node] = {}
        uses: dict[Value, dict[Node, int]] = {}
        for node in self.nodes:
            for value in node.outputs:
                if value in defined or value.producer is not node:
                    raise ValueError(f"{value!r} is not defined by exactly one node")
                defined[value] = node
            for value in (*node.inputs, *node.parameters):
                count = uses.setdefault(value, {})
                count[node] = count.get(node, 0) + 1
        for value in dict.fromkeys((*self.inputs, *defined, *uses)):
            if value.uses != uses.get(value, {}):
                raise ValueError(f"the recorded uses of {value!r} are not its uses")
        for value in (*uses, *self.outputs):
            if value.producer is not None and value.producer not in self.nodes:
                raise ValueError(f"{value!r} has lost its producer, which has left the graph")
        position = {node: index for index, node in enumerate(self.topological())}
        for value, users in uses.items():
            producer = value.producer
            if producer is not None and any(position[user] <= position[producer] for user in users):
                raise ValueError(f"{value!r} is read before it is defined: the graph has a cycle")
