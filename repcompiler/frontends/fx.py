"""A torch model as a document: trace, lift, patch, run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from repcompiler.backends.fx import patch
from repcompiler.cost import macs
from repcompiler.document import Feeds, InputSpec, NDArray, Statistics
from repcompiler.errors import ModelError
from repcompiler.frontends.fx_inputs import first_taken, guess_inputs
from repcompiler.frontends.fx_lift import lift
from repcompiler.frontends.fx_opaque import attributes_of, operator_name
from repcompiler.frontends.fx_regions import trace_model
from repcompiler.frontends.fx_rounding import OtherRounding, agree
from repcompiler.frontends.fx_run import (
    Program,
    Shapes,
    Values,
    bind,
    cloned,
    from_numpy,
    only_shapes,
    outputs_of,
    replace_tensors,
    tensors_of,
    to_numpy,
)
from repcompiler.frontends.fx_settle import settle
from repcompiler.frontends.fx_shapes import learn_shapes
from repcompiler.frontends.fx_trace import Untraceable, copy_module, is_builtin, regions
from repcompiler.ir import Graph, Node, Shape, Value
from repcompiler.liveness import peak_of_graph
from repcompiler.ops import BatchNorm, Conv, ConvTranspose, Linear
from repcompiler.probes import nudged


class FxDocument:
    """A traced model.  Made by `trace`; `values` is what it has been run on, `given` says that the user gave that."""

    def __init__(self, region: fx.GraphModule, values: Values | None, given: bool, specs: Sequence[InputSpec]) -> None:
        self.region, self.values, self.given, self.specs = region, values, given, specs
        self._running: Program | None = None
        self._reference: Program | None = None
        self._graph: Graph | None = None
        self._sizes: tuple[int, int] | None = None

    @classmethod
    def trace(cls, model: nn.Module, example_inputs: Any = None) -> FxDocument:
        """From a module in eval mode, which is copied.

        `example_inputs`: a tensor, a tuple of positional arguments, or a dict of keyword arguments.  Without, inputs are made
        up where a convolution says what the model takes.  The traced model must agree with the model itself on them.

        Raises ModelError: the model is in training mode, cannot be copied, traced or run on its examples, says something else
        when traced, or has weights that no result can be computed with.
        """
        if model.training and (not isinstance(model, fx.GraphModule) or any(map(is_builtin, model.modules()))):
            raise ModelError(f"{type(model).__name__} is in training mode: call .eval() before compiling it")
        args, kwargs = _arguments(example_inputs)
        original = copy_module(model)
        for inside in (True, False):  # a region inside may lack what its owner does with it: then only the model itself
            region = trace_model(original, args, kwargs, inside)
            try:
                values, specs, shapes = _try_out(region, original, None if example_inputs is None else args, kwargs)
            except Untraceable as error:
                reason = error
            else:
                break
        else:
            raise ModelError(
                f"{type(model).__name__} {reason} when torch.fx traces it: its forward decides in Python; give a GraphModule, "
                "such as torch.export.export(model, inputs).module()"
            ) from reason
        settle(region)
        graph = lift(region)
        check_weights(graph)
        document = cls(region, values, example_inputs is not None, specs)
        document._sizes = _sizes(graph, shapes)
        return document

    @property
    def model(self) -> fx.GraphModule:
        """The GraphModule."""
        return self.region

    def fork(self) -> FxDocument:
        """A copy of the structure; tensors are shared (they are never written to)."""
        region = copy_module(self.region, (*self.region.parameters(), *self.region.buffers()))
        return FxDocument(region, self.values, self.given, self.specs)

    def lift(self) -> Graph:
        """The neutral graph of all traced parts, side by side."""
        return lift(self.region)

    def patch(self, graph: Graph) -> Mapping[str, str]:
        """Write the rewritten graph back.  Returns the names of new nodes by those of their values."""
        self._running = self._reference = self._graph = self._sizes = None
        return patch(self.region, graph)

    def save(self, path: Path) -> None:
        """Pickle the model to a file, as `torch.save` does."""
        with TemporaryDirectory(prefix=".repc-", dir=path.parent) as folder:
            torch.save(self.region, Path(folder) / path.name)
            os.replace(Path(folder) / path.name, path)

    def statistics(self) -> Statistics:
        """Calls in the traced parts; trainable or frozen parameters; bytes of parameters and buffers.

        Multiply-accumulates and bytes of activations are counted at the size of the example inputs, or of the made-up ones.
        """
        operators: Counter[str] = Counter()
        for _, region in regions(self.region):
            modules = dict(region.named_modules())
            operators.update(operator_name(node, modules) for node in region.graph.nodes if node.op.startswith("call"))
        if self._sizes is None:
            self._running = self._running or Program(self.region)
            seen = {} if self.values is None else self._running.observe(self.values)[1]
            self._sizes = _sizes(self.lift(), only_shapes(seen))
        tensors = [*self.region.parameters(), *self.region.buffers()]
        numbers = sum(parameter.numel() for parameter in self.region.parameters())
        weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        arithmetic, activations = self._sizes
        return Statistics(operators, numbers, arithmetic, weights, activations)

    def inputs(self) -> Sequence[InputSpec]:
        """What `run` is fed, by name."""
        return self.specs

    def examples(self) -> Sequence[Feeds]:
        """What the user gave."""
        return self.tried() if self.given else []

    def tried(self) -> Sequence[Feeds]:
        """What it was traced on."""
        if self.values is None:
            return []
        return [{name: to_numpy(tensor) for name, tensor in tensors_of(self.region, self.values).items()}]

    def run(self, feeds: Feeds) -> Sequence[NDArray]:
        """In eager torch and the model's own precision."""
        self._running = self._running or Program(self.region)
        return [to_numpy(tensor) for tensor in self._running.run(self._fed(feeds, double=False))]

    def run_again(self, feeds: Feeds, seed: int) -> Sequence[NDArray]:
        """The same, but that each result on the way is rounded another way."""
        with OtherRounding(seed):
            return self.run(nudged(feeds, seed))

    def runner(self) -> Callable[[], object]:
        """In eager torch, on the example or on what was made up to trace the model."""
        if self.values is None:
            raise ModelError("no input is known that it takes")
        program, values = Program(self.region), self.values
        return lambda: program.run(cloned(values))

    def release(self) -> None:
        """Drop what runs the module."""
        self._running = None

    def run_reference(self, feeds: Feeds) -> Sequence[NDArray]:
        """The same in double precision."""
        self._reference = self._reference or Program(self.region, double=True)
        return [to_numpy(tensor) for tensor in self._reference.run(self._fed(feeds, double=True))]

    @property
    def is_exact(self) -> bool:
        """Torch has every operation in double precision."""
        return True

    def output_names(self) -> None:
        """Results of a torch model are known by their position."""

    def graph(self) -> Graph:
        """The neutral graph of all traced parts."""
        self._graph = self._graph or self.lift()
        return self._graph

    def attributes(self, node: Node) -> Mapping[str, Any]:
        """Arguments as they are written; the weights of a module."""
        return attributes_of(node.origin)

    def walk(self, feeds: Feeds) -> Iterator[tuple[Value, NDArray]]:
        """Values of the outermost region, in double precision."""
        graph = self.graph()
        values = {value.name: value for value in (*graph.inputs, *(out for node in graph.nodes for out in node.outputs))}
        for name, tensor in Program(self.region, double=True).walk(self._fed(feeds, double=True)):
            if name in values:
                yield values[name], to_numpy(tensor)

    def _fed(self, feeds: Feeds, double: bool) -> Values:
        if self.values is None:
            kinds = {spec.name: torch.empty(0, dtype=getattr(torch, spec.dtype)) for spec in self.specs}
            values: Values = tuple(kinds.values())
        else:
            kinds, values = tensors_of(self.region, self.values), self.values
        likes = {name: like.double() if double and like.is_floating_point() else like for name, like in kinds.items()}
        return replace_tensors(values, (from_numpy(feeds[name], like) for name, like in likes.items()))


def _try_out(
    region: fx.GraphModule, original: nn.Module, args: tuple[Any, ...] | None, kwargs: Mapping[str, Any]
) -> tuple[Values | None, list[InputSpec], Shapes]:
    """Run a traced model beside the original, on the example arguments or on made-up ones, and learn its shapes.

    Returns what it was run on, what it can be fed, and the shapes met.  Raises Untraceable where it does something else than
    the original.
    """
    if args is None:
        specs = guess_inputs(region)
        taken = first_taken(region, specs, lambda values: _outputs(original, values, kwargs))
        if taken is None:
            return None, [replace(spec, shape=None) for spec in specs], {}
        (values, expected), arguments = taken, taken[0]
    else:
        values, arguments = bind(region, args, kwargs), args
        try:
            expected = _outputs(original, arguments, kwargs)
        except Exception as error:
            raise ModelError(f"the model does not run on the example inputs: {_first_line(error)}") from error
    program = Program(region)
    try:
        actual, seen = program.observe(values)
    except Exception as error:
        raise Untraceable(f"does not run ({_first_line(error)})") from error
    if not agree(expected, actual) and agree(expected, _outputs(original, arguments, kwargs)):
        raise Untraceable("computes something else")
    shapes = only_shapes(seen)
    return values, learn_shapes(region, program, values, seen), shapes


def _sizes(graph: Graph, shapes: Shapes) -> tuple[int, int]:
    """Multiply-accumulates, and bytes of activations at once, of a graph at the shapes that a run has met."""

    def shape(value: Value) -> Shape | None:
        return shapes.get(value.name.rpartition("/")[::2], value.shape)

    return sum(macs(node.op, shape(node.output)) for node in graph.nodes), peak_of_graph(graph, shape)


def check_weights(graph: Graph) -> None:
    """Raise ModelError where a linear operation has weights that no result can be computed with."""
    for node in graph.nodes:
        if not isinstance(node.op, (Conv, ConvTranspose, Linear, BatchNorm)):
            continue
        origins = (node.origin, *node.origin.all_input_nodes)
        names = [str(origin.target) for origin in origins if origin.op in ("call_module", "get_attr")]
        name = names[0] if names else node.origin.name
        for field, array in vars(node.op).items():
            if isinstance(array, np.ndarray) and not np.isfinite(array).all():
                raise ModelError(f"'{name}' has NaN or infinity in its {field}")
        if isinstance(node.op, BatchNorm) and not (node.op.var + node.op.eps > 0).all():
            raise ModelError(f"'{name}' normalises by the root of a number that is not positive: its variance plus eps")


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments."""
    if example_inputs is None:
        return (), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    return (tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)), {}


def _outputs(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors a model returns."""
    with torch.no_grad():
        return outputs_of(model(*cloned(args), **cloned(kwargs)))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
