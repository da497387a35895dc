"""From torch.fx regions to the neutral graph, all of them side by side in one.

Each fx node becomes one value, made by an operation that the algebra knows or by an opaque one; get_attr nodes are constants,
and so is what is computed from them alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import fx

from repcompiler.frontends import fx_activations, fx_gates, fx_layout, fx_memory
from repcompiler.frontends.expressions import build
from repcompiler.frontends.fx_arithmetic import Extent, Extents, Operand
from repcompiler.frontends.fx_calls import target_name
from repcompiler.frontends.fx_filled import called
from repcompiler.frontends.fx_frames import framed_op, frames
from repcompiler.frontends.fx_functions import call_op
from repcompiler.frontends.fx_layout import ELEMENTWISE, follow
from repcompiler.frontends.fx_memory import attribute, has_effect, written_by
from repcompiler.frontends.fx_modules import MODULES, Readers, Unliftable, floating, module_op
from repcompiler.frontends.fx_opaque import operator_name
from repcompiler.frontends.fx_run import SHAPE, TYPICAL, to_numpy
from repcompiler.frontends.fx_samples import MEMBERS, Members, samples_as_groups
from repcompiler.frontends.fx_trace import has_hooks, regions, torch_type
from repcompiler.implied import set_aside
from repcompiler.ir import Expr, Graph, Node, Shape, Value
from repcompiler.ops import (
    ACTIVATIONS,
    Array,
    Concat,
    DepthToSpace,
    GlobalAvgPool,
    Identity,
    MaxPool,
    Op,
    Opaque,
    PRelu,
    Reshape,
    Resize,
    Softmax,
    SpaceToDepth,
    Stack,
)
from repcompiler.refusal import Refusal, refuse
from repcompiler.uncollected import uncollected

LINEAR = re.compile(r"(conv|conv_?transpose|(sync)?batch_?norm|avg_?pool|\w*pad)(\dd)?|convolution|linear")
"""Of these it is told why they are not lifted."""

READERS: Readers = {**MODULES, **fx_activations.MODULES, **fx_gates.MODULES}
CALLS = {**fx_layout.CALLS, **fx_gates.CALLS}
PASSES_ON = (*ACTIVATIONS, DepthToSpace, GlobalAvgPool, Identity, MaxPool, Opaque, Resize, Softmax, SpaceToDepth)
"""What has the type of its operand."""


def lift(model: fx.GraphModule) -> Graph:
    """The neutral graph of all regions of a model."""
    graph = Graph()
    with uncollected():
        for path, region in regions(model):
            Lift(region, f"{path}/" if path else "", graph).run()
    made = {value.origin: value for node in graph.nodes for value in node.outputs}

    def read(node: Node) -> list[Value]:
        parts = (node.origin, *node.origin.meta.get(MEMBERS, ()))  # what it was found with: the extents of each sample's kernel
        return [made[operand] for part in parts for operand in part.all_input_nodes if operand in made]

    set_aside(graph, read)
    return graph


class Lift:
    """The lifting of one region; what `fx_functions` asks about arguments it asks of this."""

    def __init__(self, region: fx.GraphModule, prefix: str, graph: Graph) -> None:
        self.region, self.prefix, self.graph = region, prefix, graph
        self.modules = dict(region.named_modules())
        self.frames = frames(region)
        self.framing = {write: node for node, framed in self.frames.items() for write in framed.writes}
        self.memory = fx_memory.analyse(region, self.framing)
        self.values: dict[fx.Node, Value] = {}
        self.computed: dict[tuple[fx.Node, bool], Any] = {}
        self.symbols: dict[fx.Node, Extents] = {}
        self.stated: dict[fx.Node, tuple[int | Extent | None, ...]] = {}

    def run(self) -> None:
        """Add the region to the graph."""
        for node in self.region.graph.nodes:
            if node.op == "output":
                self.graph.outputs += [self.values[value] for value in node.all_input_nodes]
                continue
            if node in self.framing:
                if node is self.frames[self.framing[node]].writes[-1]:
                    self._framed(self.framing[node])
                continue
            value = self.values[node] = Value(self.prefix + node.name, origin=node, dtype="", path=self._path(node))
            if SHAPE in node.meta:
                value.shape, value.dtype = node.meta[SHAPE]
                value.typical = node.meta[TYPICAL]
            if node.op == "placeholder":
                self.graph.inputs.append(value)
            elif node.op == "get_attr":
                self._get_attr(node, value)
            elif node not in self.frames:
                self._call(node, value)

    def _path(self, node: fx.Node) -> str:
        """Where in the user's modules a call is."""
        owner = next(reversed(node.meta.get("nn_module_stack", {"": ("", None)}).values()))[0]
        path = str(node.target) if node.op == "call_module" else f"{owner}.{node.name}" if owner else node.name
        return self.prefix.replace("/", ".") + path

    def _get_attr(self, node: fx.Node, value: Value) -> None:
        tensor = attribute(self.region, node)
        if isinstance(tensor, torch.Tensor):
            value.shape, value.dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
            if not self.memory.is_written(tensor):
                value.constant = partial(self._array, node)

    def _call(self, node: fx.Node, value: Value) -> None:
        effect = node not in self.memory.filled.writes and has_effect(node, self.modules)
        operands: Sequence[Operand] = node.all_input_nodes
        op: Op | None = None
        members: Members = ()
        reason = ""
        if node in self.memory.fenced:
            reason = "memory that it reads or makes is written to later"
            value.constant = partial(refuse, reason) if operands and node in self.memory.filled.program else None
        elif not effect and operands and self._is_fixed(node) and all(map(self._is_constant, node.all_input_nodes)):
            value.constant = partial(self._array, node)
        else:
            try:
                op, operands, members = self._samples(node) or (*self._op(node), ())
            except Unliftable as error:
                reason = str(error) or "it has arguments that no equation covers"
        if op is None:
            name = operator_name(node, self.modules)
            op = Opaque(name, effect=effect, reason=reason if LINEAR.fullmatch(name.lower()) else "")
        terms = [operand if isinstance(operand, Expr) else self.values[operand] for operand in operands]
        inputs, parts = build(self.graph, terms, [value])
        for part in parts:
            part.output.dtype = part.output.dtype or part.inputs[0].dtype
        taken = {*inputs, *(operand for part in parts for operand in part.inputs)}
        read = [found for operand in node.all_input_nodes if (found := self.values[operand]) not in taken]
        knows = members or isinstance(op, Reshape) or (read and all(_is_known(op, value) for value in read))
        read = [*(() if knows else read), *(self.values[write] for write in self.memory.filled.before.get(node, ()))]
        self.graph.add(op, inputs, [value], read, node).parts = parts
        node.meta[MEMBERS] = members
        if inputs and (not isinstance(op, Opaque) or op.label.lower() in ELEMENTWISE):
            shapes = [operand.shape for operand in inputs]
            value.shape = value.shape or (shapes[0] if isinstance(op, Opaque) else op.infer_shape(shapes))
            floats = (inputs[0].dtype,) if isinstance(op, PASSES_ON) else (x.dtype for x in inputs if "float" in x.dtype)
            value.dtype = value.dtype or next(iter(floats), "float32")
        known = [self.extents(operand) for operand in operands]
        moved = self.stated.get(node) or (follow(op, *(shape for shape in known if shape)) if known and all(known) else None)
        if moved is not None:
            extents = zip(value.shape or moved, moved, (Extent(node, axis) for axis in range(len(moved))), strict=True)
            self.symbols[node] = tuple(size if isinstance(size, int) else symbol or new for size, symbol, new in extents)

    def _samples(self, node: fx.Node) -> tuple[Op, list[Operand], Members] | None:
        """A convolution of each sample, if nothing in it is written into."""
        found = samples_as_groups(self, node)
        if found is None or not self.memory.fenced.isdisjoint(found[1]):
            return None
        (op, operands), members = found
        return op, [*operands], members

    def _framed(self, node: fx.Node) -> None:
        """Add a padding with all that is written into it."""
        framed = self.frames[node]
        op: Op = Opaque(operator_name(node, self.modules))
        if node not in self.memory.fenced:
            with suppress(Unliftable):
                vectors = [self.constant(write.args[2], double=True) for write in framed.writes]
                op = framed_op(framed, vectors, self.values[node].shape or (), self.values[framed.map].producer)
        read = dict.fromkeys(self.values[arg] for write in framed.writes for arg in write.all_input_nodes if arg is not node)
        self.graph.add(op, [self.values[framed.map]], [self.values[node]], read, node)

    def _op(self, node: fx.Node) -> tuple[Op, Sequence[Operand]]:
        """What the algebra knows a node as, and the operands it is applied to."""
        self.node = node
        if node.op != "call_module":
            return call_op(self, node.target, node.args, node.kwargs)
        module = self.modules[str(node.target)]
        x = node.args[0] if node.args else node.kwargs.get("input")
        if len(node.args) + len(node.kwargs) != 1 or not isinstance(x, fx.Node):
            raise Unliftable
        if torch_type(module) in CALLS and not has_hooks(module) and "forward" not in vars(module):
            function, *rest = CALLS[torch_type(module)](module)
            return call_op(self, function, (x, *rest), {})
        if self.memory.written and any(map(self.memory.is_written, (*module.parameters(), *module.buffers()))):
            raise Unliftable
        operand = self.values[x]
        op, rank = module_op(module, READERS, operand.shape)
        if rank is not None and operand.rank not in (None, rank):
            raise Unliftable("it takes one image, without a batch")
        if isinstance(op, Resize) and operand.rank is None:
            raise Unliftable  # its mode has a name for each rank
        if rank is not None and operand.shape is None:
            operand.shape = (None,) * rank
        return op, [x]

    def constant(self, arg: Any, double: bool = False) -> Array | None:
        if isinstance(arg, fx.Node):
            if not self._is_constant(arg):
                return None
            try:
                arg = self._compute(arg, double)
            except Refusal as refusal:
                raise Unliftable from refusal
        if type(arg) in (int, float):
            return np.asarray(arg, np.float64)
        return floating(arg) if isinstance(arg, torch.Tensor) else None

    def value(self, arg: fx.Node) -> Value:
        return self.values[arg]

    def shape(self, arg: Any) -> Shape | None:
        return self.values[arg].shape

    def extents(self, arg: Operand | Value) -> Extents | None:
        while isinstance(arg, Expr):  # of operations that keep extents
            arg = arg.operands[0]
        node = arg.origin if isinstance(arg, Value) else arg
        while target_name(node.target) == "detach" or (node.target is getattr and node.args[1] == "data"):
            node = node.args[0]
        shape = self.values[node].shape
        if node in self.symbols or shape is None:
            return self.symbols.get(node)
        return tuple(size if isinstance(size, int) else Extent(node, axis) for axis, size in enumerate(shape))

    def state(self, sizes: Sequence[Any]) -> None:
        self.stated[self.node] = tuple(size if isinstance(size, Extent) or (size or 0) > 0 else None for size in sizes)

    def is_floating(self, arg: Any) -> bool:
        return isinstance(arg, fx.Node) and "float" in self.values[arg].dtype

    def is_settled(self, arg: fx.Node) -> bool:
        return arg not in self.memory.fenced

    def dtype(self, arg: fx.Node) -> str:
        return self.values[arg].dtype

    def _array(self, node: fx.Node) -> Array:
        """The array of a node that depends on parameters alone; refuses what is no tensor, or is random."""
        result = self._compute(node)
        if not isinstance(result, torch.Tensor):
            refuse("it is no tensor")
        return to_numpy(result)

    def _compute(self, node: fx.Node, double: bool = False) -> Any:
        """What such a node evaluates to, in eager torch and in the model's own precision, or in double."""
        if node in self.memory.filled.program and (node, double) not in self.computed:
            self.computed |= {(each, double): found for each, found in self.memory.filled.run(self.region, double).items()}
        if (node, double) not in self.computed:
            value = attribute(self.region, node) if node.op == "get_attr" else self._evaluate(node, double)
            widen = double and node.op == "get_attr" and value.is_floating_point()
            self.computed[node, double] = value.double() if widen else value
        return self.computed[node, double]

    def _evaluate(self, node: fx.Node, double: bool) -> Any:
        written = written_by(node, self.modules)

        def value(operand: fx.Node) -> Any:
            result = self._compute(operand, double)
            return result.clone() if operand in written else result

        args: Any = fx.map_arg(node.args, value)
        kwargs: Any = fx.map_arg(node.kwargs, value)
        target: Any = self.modules[str(node.target)] if node.op == "call_module" else node.target
        if double and node.op == "call_module":
            refuse("it has weights of its own in another precision")
        return called(target, args, kwargs)

    def _is_constant(self, node: fx.Node) -> bool:
        return self.values[node].constant is not None or node in self.memory.filled.members

    def _is_fixed(self, node: fx.Node) -> bool:
        """Whether nothing but the operands decides on the result, and what no run changes."""
        if node.op != "call_module":
            return True
        module = self.modules[str(node.target)]
        return not module.training and not any(map(self.memory.is_written, (*module.parameters(), *module.buffers())))


def _is_known(op: Op, read: Value) -> bool:
    """Whether an operation knows what is computed: from values side by side, or from the multiple of its operand."""
    joins = isinstance(read.producer and read.producer.op, (Concat, Stack))
    return read.constant is None and (joins or isinstance(op, PRelu))
