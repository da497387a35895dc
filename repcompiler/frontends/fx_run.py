"""Running a traced model: what it is fed, what comes out, and what shapes it meets on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from repcompiler.document import NDArray
from repcompiler.errors import ModelError
from repcompiler.frontends.fx_double import InDouble
from repcompiler.frontends.fx_trace import copy_module, regions
from repcompiler.ir import Shape

SHAPE = "repcompiler_shape"
TYPICAL = "repcompiler_typical"
"""Key of `fx.Node.meta`: (shape, dtype name) of a tensor."""

AXES = {3: ("length",), 4: ("height", "width"), 5: ("depth", "height", "width")}
"""Names of the spatial axes, by rank."""

Values = tuple[Any, ...]
"""What each placeholder of a graph is given."""


def to_numpy(tensor: torch.Tensor) -> NDArray:
    """The same numbers, in the same memory where numpy can."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    array: NDArray = tensor.resolve_conj().resolve_neg().numpy()
    return array


def from_numpy(array: NDArray, like: torch.Tensor) -> torch.Tensor:
    """A new tensor of the type and on the device of `like`."""
    floating = np.asarray(array, np.float64) if array.dtype.kind not in "iub" else array
    return torch.tensor(floating).to(like.device, like.dtype)


def bind(region: fx.GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Values:
    """The arguments of a call as what each placeholder is given.  Raises ModelError where one is missing."""
    values = list(region.graph.process_inputs(*args))
    placeholders = [node for node in region.graph.nodes if node.op == "placeholder"]
    if len(values) > len(placeholders) and not any(str(node.target).startswith("*") for node in placeholders):
        raise ModelError(f"the model takes {len(placeholders)} inputs, and {len(values)} were given")
    for node in placeholders[len(values) :]:
        if str(node.target).startswith("**"):
            named = {str(other.target) for other in placeholders}
            values.append({name: value for name, value in kwargs.items() if name not in named})
            continue
        if str(node.target).startswith("*"):
            continue
        if str(node.target) not in kwargs and not node.args:
            raise ModelError(f"the example inputs give nothing for '{node.target}'")
        values.append(kwargs.get(str(node.target), *node.args))
    return tuple(values)


def tensors_of(region: fx.GraphModule, values: Values) -> dict[str, torch.Tensor]:
    """The tensors among what is fed, by name: the placeholder's, with an index where it takes several."""
    placeholders = [node for node in region.graph.nodes if node.op == "placeholder"]
    names = [node.name for node in placeholders] + [f"input{index}" for index in range(len(placeholders), len(values))]
    found = {}
    for name, value in zip(names, values, strict=False):
        leaves = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
        found.update({name if len(leaves) == 1 else f"{name}.{index}": leaf for index, leaf in enumerate(leaves)})
    return found


def replace_tensors(values: Values, change: Iterator[torch.Tensor]) -> Values:
    """The same values with other tensors, in order."""
    return tuple(pytree.tree_map_only(torch.Tensor, lambda _: next(change), value) for value in values)


def cloned(values: Any) -> Any:
    """The same values with copies of the tensors: a model may write into what it is given."""
    return pytree.tree_map_only(torch.Tensor, torch.clone, values)


def outputs_of(result: Any) -> list[torch.Tensor]:
    """The tensors in a result of any structure."""
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


@dataclass
class Seen:
    """What runs have shown of one operation."""

    shapes: set[tuple[int, ...]] = field(default_factory=set)
    dtypes: set[str] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)

    def add(self, other: Seen) -> None:
        """Take in what another run has shown."""
        self.shapes |= other.shapes
        self.dtypes |= other.dtypes
        self.writes |= other.writes

    def shape(self) -> Shape | None:
        """The extents on which all runs agree."""
        if len({len(shape) for shape in self.shapes}) != 1 or len(self.dtypes) != 1:
            return None
        return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*self.shapes, strict=True))


Observations = dict[tuple[str, str], Seen]
"""By path of the region and name of the node."""


Shapes = Mapping[tuple[str, str], Shape]
"""By the same key."""


def only_shapes(seen: Observations) -> Shapes:
    """The shape of each result that had but one."""
    return {key: next(iter(found.shapes)) for key, found in seen.items() if len(found.shapes) == 1}


class Executor(fx.Interpreter):
    """Hands lists over as lists, as the code that fx generates does: some models write into what they are given."""

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        return next(self.args_iter) if target.startswith("**") else super().placeholder(target, args, kwargs)

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return tuple(map(_mutable, args)), {name: _mutable(value) for name, value in kwargs.items()}


def _mutable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mutable(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(_mutable, value))
    return tuple(map(_mutable, value)) if type(value) is tuple else value


class Recorder(Executor):
    """Runs a region and notes, for each operation, the shape of its result and which of its operands it wrote into."""

    def __init__(self, modules: nn.Module, graph: fx.Graph, path: str, seen: Observations) -> None:
        super().__init__(modules, graph=graph)
        self.path, self.seen = path, seen

    def run_node(self, n: fx.Node) -> Any:
        operands = [self.env.get(node) for node in n.all_input_nodes]
        before = [_version(operand) for operand in operands]
        result = super().run_node(n)
        seen = self.seen.setdefault((self.path, n.name), Seen())
        seen.writes |= {index for index, operand in enumerate(operands) if _version(operand) != before[index]}
        if isinstance(result, torch.Tensor):
            seen.shapes.add(tuple(result.shape))
            seen.dtypes.add(str(result.dtype).removeprefix("torch."))
        return result


def _version(value: Any) -> list[int]:
    return [leaf._version for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


class Program:
    """A region ready to run: its graph on a copy of its modules, to which happens whatever the model does to its buffers and
    itself.  Parameters are shared with the region, unless they are converted to `double` precision.
    """

    def __init__(self, region: fx.GraphModule, double: bool = False) -> None:
        modules = nn.Module()
        vars(modules).update({name: value for name, value in vars(region).items() if name != "_graph"})
        copied = copy_module(modules, () if double else region.parameters())
        self.modules: nn.Module = copied.double() if double else copied
        self.graph = region.graph
        self.precision: Callable[[], AbstractContextManager[Any]] = InDouble if double else nullcontext

    def run(self, values: Values) -> list[torch.Tensor]:
        """The tensors the model returns, flat.  It may write into what it is given."""
        with torch.no_grad(), self.precision():
            return outputs_of(Executor(self.modules, graph=self.graph).run(*values, enable_io_processing=False))

    def walk(self, values: Values) -> Iterator[tuple[str, torch.Tensor]]:
        """Each tensor with the name of its node, in order; memory holds only what is still to be read."""
        interpreter = fx.Interpreter(self.modules, graph=self.graph)
        interpreter.args_iter = iter(cloned(values))
        for node in self.graph.nodes:
            if node.op == "output":
                return
            with torch.no_grad(), self.precision():
                result = interpreter.env[node] = interpreter.run_node(node)
            if isinstance(result, torch.Tensor):
                yield node.name, result
            for dead in interpreter.user_to_last_uses.get(node, ()):
                interpreter.env.pop(dead, None)

    def observe(self, values: Values) -> tuple[list[torch.Tensor], Observations]:
        """The tensors the model returns, and what is seen in all its regions."""
        seen: Observations = {}
        inner = regions(self.modules)
        for path, region in inner:
            region.forward = _recorded(region, path, seen)
        try:
            with torch.no_grad():
                recorder = Recorder(self.modules, self.graph, "", seen)
                return outputs_of(recorder.run(*cloned(values), enable_io_processing=False)), seen
        finally:
            for _, region in inner:
                del region.forward


def _recorded(region: fx.GraphModule, path: str, seen: Observations) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        values = bind(region, args, kwargs)
        return region.graph.process_outputs(Recorder(region, region.graph, path, seen).run(*values, enable_io_processing=False))

    return run
