"""What the Python of a forward asks while it is traced, where the answer is the same at every size.

    if x.dim() == 3: ...        if x.shape[1] != self.channels: ...        for extent in x.shape[2:]: ...
    if x.dtype == torch.float16: ...        torch.finfo(x.dtype).eps

Two inputs that the model takes decide: the example, and a larger one (`fx_shapes`).  An answer follows from ranks, from types,
and from extents that are the same in both.  What depends on the batch, on the size of the image or on numbers in tensors is
not answered.  An answer holds for inputs of the ranks, and if it needed them the channels or types, of the example: those are
asserted, for another input might be answered otherwise.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.proxy import TraceError
from torch.utils import _pytree as pytree

from repcompiler.frontends.fx_arithmetic import Extent, Extents
from repcompiler.frontends.fx_calls import behind, target_name
from repcompiler.frontends.fx_containers import COMPILED_FOR
from repcompiler.frontends.fx_layout import COMPARISONS, TYPES, Undecided, decide
from repcompiler.frontends.fx_proxy import Unanswered
from repcompiler.frontends.fx_run import Executor, cloned
from repcompiler.frontends.fx_shapes import larger
from repcompiler.frontends.fx_trace import copy_module


class Questions(Unanswered):
    """Of the forward of `model`, whose example arguments are `given`."""

    def __init__(self, model: nn.Module, given: inspect.BoundArguments, guessed: bool = False) -> None:
        self.model, self.given, self.guessed = model, given, guessed
        self.ranks: set[fx.Node] = set()
        self.extents: set[fx.Node] = set()
        self.types: set[fx.Node] = set()

    @cached_property
    def runs(self) -> list[_Run]:
        """One for the example and one for the larger input; none where the model does not run."""
        given = self.given
        taken = [given.arguments] if self._takes(given) else []
        for more in larger([*_tensors(given.arguments)]) if taken else ():
            bound = inspect.BoundArguments(given.signature, _replaced(given.arguments, more))
            if self._takes(bound):
                taken.append(bound.arguments)
                break
        return [_Run(self.model, arguments) for arguments in taken]

    def _takes(self, given: inspect.BoundArguments) -> bool:
        """Whether the model runs on these arguments."""
        self.running = True
        try:
            with torch.no_grad():
                copy_module(self.model, self.model.parameters())(*cloned(given.args), **cloned(given.kwargs))
        except Exception:  # whatever a model raises
            return False
        finally:
            self.running = False
        return True

    def answer(self, node: fx.Node) -> Any:
        asked: set[fx.Node] = set()

        def extents(value: fx.Node) -> Extents | None:
            found = self._shapes(value)
            if found is None:
                return None
            asked.add(value)
            return tuple(
                sizes[0] if len(set(sizes)) == 1 else Extent(value, axis) for axis, sizes in enumerate(zip(*found, strict=True))
            )

        try:
            result = decide(node, extents)
        except Undecided:
            return self._of_types(node)
        self.ranks |= asked
        if not _asks_for_ranks(node):
            self.extents |= asked
        return result

    def _of_types(self, node: fx.Node) -> Any:
        """The same of a term that is said of types alone."""
        asked: set[fx.Node] = set()
        pending = [node]
        for term in pending:
            if target_name(term.target) in TYPES or (term.target is getattr and term.args[1] in TYPES):
                asked.update(term.all_input_nodes)
            elif term.target in COMPARISONS or term.target is getattr:
                pending += term.all_input_nodes
            else:
                super().answer(node)
        answers = [self._value(run, node) for run in self.runs]
        if None in answers or len({*answers}) != 1:
            super().answer(node)
        self.types |= asked
        return answers[0]

    def length(self, node: fx.Node) -> int:
        extents, result = {*self.extents}, super().length(node)
        self.extents = extents
        return result

    def kind(self, node: fx.Node) -> type:
        if not self.runs and node.op in ("placeholder", "call_module"):  # what is made up without an example is a tensor
            return torch.Tensor
        value = self._value(self.runs[0], node) if self.runs else None
        return super().kind(node) if value is None else torch.Tensor if isinstance(value, torch.Tensor) else type(value)

    def guard(self, graph: fx.Graph, inputs: Iterable[fx.Node]) -> None:
        reached, counted, typed = map(behind, (self.ranks, self.extents, self.types))
        first = next(node for node in graph.nodes if node.op != "placeholder")
        for node in (*(node for node in graph.nodes if node.op == "placeholder"), *inputs):
            if node not in reached | typed or (shapes := self._shapes(node)) is None:
                continue
            with graph.inserting_before(first if node.op == "placeholder" else node.next):
                if node in typed:
                    dtype = self._value(self.runs[0], node).dtype
                    _assert(graph, graph.call_function(getattr, (node, "dtype")), dtype, f"{dtype} in '{node.name}'")
                if node not in reached:
                    continue
                _assert(graph, graph.call_method("dim", (node,)), len(shapes[0]), f"'{node.name}' of {len(shapes[0])} axes")
                for axis, sizes in enumerate(zip(*shapes, strict=True)) if node in counted else ():
                    if len({*sizes}) == 1 and axis != 1 and self.guessed:
                        raise TraceError("a size that nobody gave is asked for")
                    if len({*sizes}) == 1:
                        says = f"'{node.name}' of {sizes[0]} along axis {axis}"
                        _assert(graph, graph.call_method("size", (node, axis)), sizes[0], says)

    def _shapes(self, node: fx.Node) -> list[torch.Size] | None:
        values = [self._value(run, node) for run in self.runs]
        shapes = [value.shape for value in values if isinstance(value, torch.Tensor)]
        return shapes if shapes and len(shapes) == len(values) and len({*map(len, shapes)}) == 1 else None

    def _value(self, run: _Run, node: fx.Node) -> Any:
        self.running = True
        try:
            return run.value(node)
        finally:
            self.running = False


class _Run(Executor):
    """The values of a graph that grows, in shape and type alone: tensors without numbers."""

    def __init__(self, model: nn.Module, arguments: Mapping[str, Any]) -> None:
        super().__init__(copy_module(model, model.parameters()), garbage_collect_values=False, graph=fx.Graph())
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.arguments = pytree.tree_map_only(torch.Tensor, self.mode.from_tensor, dict(arguments))
        self.unknown: set[fx.Node] = set()

    def value(self, wanted: fx.Node) -> Any:
        """The value of a node; None where it depends on numbers, or on an argument that is not given."""
        for node in wanted.graph.nodes if wanted not in self.env else ():
            if node not in self.env and node not in self.unknown:
                self._run(node)
            if node is wanted:
                break
        return self.env.get(wanted)

    def _run(self, node: fx.Node) -> None:
        name = str(node.target).lstrip("*")
        if node.op == "placeholder" and name in self.arguments:
            self.env[node] = self.arguments[name]
        elif node.op != "placeholder" and self.unknown.isdisjoint(node.all_input_nodes):
            with suppress(Exception), torch.no_grad(), self.mode:
                self.env[node] = self.run_node(node)
        if node not in self.env:
            self.unknown.add(node)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in pytree.tree_leaves(dict(values)) if isinstance(leaf, torch.Tensor))


def _replaced(values: Mapping[str, Any], tensors: Sequence[torch.Tensor]) -> Any:
    remaining = iter(tensors)
    return pytree.tree_map_only(torch.Tensor, lambda _: next(remaining), dict(values))


def _asks_for_ranks(node: fx.Node) -> bool:
    """Whether a term is said of numbers of axes alone."""
    pending = [node]
    for term in pending:
        if term.target == "size" or (term.target is getattr and term.args[1] == "shape"):
            return False
        pending += [] if term.target in ("dim", "ndimension", getattr) else term.all_input_nodes
    return True


def _assert(graph: fx.Graph, term: fx.Node, known: Any, says: str) -> None:
    graph.call_function(torch._assert, (graph.call_function(operator.eq, (term, known)), COMPILED_FOR + says))
