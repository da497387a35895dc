"""Two models behind one interface: inputs and outputs matched by name, or by position where types and shapes agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from repcompiler.document import Document, Feeds, InputSpec, NDArray
from repcompiler.errors import ModelError
from repcompiler.ir import Dim, Graph, Shape, Value

Symbol = tuple[int, str]
"""A free extent: of which model, and its name there."""


@dataclass
class Matched:
    """The second model, fed and read as the first one is."""

    document: Document
    inputs: Mapping[str, str]
    """Names of the first by names of the second."""
    outputs: Sequence[int] | None
    """Which output of the second each output of the first is; None where they are as many as they are, in order."""
    specs: Sequence[InputSpec]
    """The inputs that both models take, in the first one's names."""
    notes: list[str] = field(default_factory=list)
    """What was matched by position."""
    expected: Sequence[NDArray] = ()
    """Outputs of the first, of the types and the number that the second has to have."""

    def feeds(self, feeds: Feeds) -> Feeds:
        """The same arrays by the second model's names."""
        return {theirs: feeds[ours] for theirs, ours in self.inputs.items()}

    def run(self, feeds: Feeds) -> Sequence[NDArray]:
        """The second model's outputs, in the first one's order.  Raises ModelError where their number or types differ."""
        results = self.document.run(self.feeds(feeds))
        order = range(len(results)) if self.outputs is None else self.outputs
        if len(results) != len(self.expected):
            raise ModelError(f"the first model has {_outputs(len(self.expected))}, the second {len(results)}")
        for index, (array, other) in enumerate(zip(self.expected, order, strict=True)):
            if array.dtype != results[other].dtype:
                raise ModelError(f"output {index} is {array.dtype} in the first model and {results[other].dtype} in the second")
        return [results[other] for other in order]

    def pairs(self, ours: Graph, theirs: Graph) -> dict[Value, Value]:
        """Inputs and outputs of the second model's graph by those of the first, as they are matched."""
        inputs = {value.name: value for value in ours.inputs}
        pairs = {inputs[self.inputs[v.name]]: v for v in theirs.inputs if self.inputs.get(v.name) in inputs}
        order = range(len(theirs.outputs)) if self.outputs is None else self.outputs
        if len(ours.outputs) == len(theirs.outputs) == len(order):
            for value, index in zip(ours.outputs, order, strict=True):
                if theirs.outputs[index] not in pairs.values():
                    pairs.setdefault(value, theirs.outputs[index])
        return pairs

    @property
    def is_exact(self) -> bool:
        """Whether its reference rounded nothing to less than float64."""
        return self.document.is_exact

    def run_reference(self, feeds: Feeds) -> Sequence[NDArray]:
        """The same in float64."""
        results = self.document.run_reference(self.feeds(feeds))
        return results if self.outputs is None else [results[other] for other in self.outputs]


def match(first: Document, second: Document) -> Matched:
    """The second model behind the interface of the first.

    Raises ModelError where the number of inputs or outputs, their types or known extents differ, and where names agree only
    in part.
    """
    ours, theirs = first.inputs(), second.inputs()
    notes: list[str] = []
    order = _order("input", [spec.name for spec in ours], [spec.name for spec in theirs], notes)
    pairs = [(one, theirs[index]) for one, index in zip(ours, order, strict=True)]
    for one, other in pairs:
        if one.dtype != other.dtype:
            raise ModelError(f"input '{one.name}' is {one.dtype} in the first model and {other.dtype} in the second")
    shapes = unify([(one.shape, other.shape) for one, other in pairs], [one.name for one, _ in pairs])
    specs = [replace(one, shape=shape) for (one, _), shape in zip(pairs, shapes, strict=True)]
    names = first.output_names(), second.output_names()
    outputs = None if None in names else _order("output", names[0] or (), names[1] or (), notes)
    return Matched(second, {other.name: one.name for one, other in pairs}, outputs, specs, notes)


def _order(kind: str, ours: Sequence[str], theirs: Sequence[str], notes: list[str]) -> list[int]:
    """For each of ours the index of theirs: by name, else by position."""
    if len(ours) != len(theirs):
        counted = f"{len(ours)} {kind}{'s' * (len(ours) != 1)}"
        raise ModelError(f"the first model has {counted} ({_listed(ours)}), the second {len(theirs)} ({_listed(theirs)})")
    if set(ours) == set(theirs):
        return [list(theirs).index(name) for name in ours]
    if {*ours} & {*theirs} and any(name in theirs and theirs.index(name) != index for index, name in enumerate(ours)):
        raise ModelError(f"names agree only in part, in another order: {kind}s {_listed(ours)} and {_listed(theirs)}")
    pairs = ", ".join(f"'{one}' is '{other}'" for one, other in zip(ours, theirs, strict=True) if one != other)
    notes.append(f"{kind}s are matched by position: {pairs}")
    return list(range(len(ours)))


def unify(pairs: Sequence[tuple[Shape | None, Shape | None]], names: Sequence[str]) -> list[Shape | None]:
    """The extents that both shapes of each pair allow; what two symbols stand for is the same wherever they stand."""
    same: dict[Symbol, Symbol | int] = {}

    def root(dim: Symbol | int) -> Symbol | int:
        while isinstance(dim, tuple) and dim in same:
            dim = same[dim]
        return dim

    merged: list[list[Symbol | int] | None] = []
    for (ours, theirs), name in zip(pairs, names, strict=True):
        if ours is None or theirs is None:
            known = ours if theirs is None else theirs
            side = 0 if theirs is None else 1
            merged.append(None if known is None else [_symbol(dim, side, name, axis) for axis, dim in enumerate(known)])
            continue
        if len(ours) != len(theirs):
            raise ModelError(f"input '{name}' has {len(ours)} axes in the first model and {len(theirs)} in the second")
        merged.append([])
        for axis, dims in enumerate(zip(ours, theirs, strict=True)):
            one, other = (root(_symbol(dim, side, name, axis)) for side, dim in enumerate(dims))
            if isinstance(one, tuple) and one != other:
                same[one] = other
            elif isinstance(other, tuple) and one != other:
                same[other] = one
            elif one != other:
                raise ModelError(f"input '{name}' is {_shape(ours)} in the first model and {_shape(theirs)} in the second")
            merged[-1].append(other)  # type: ignore[union-attr]
    return [None if dims is None else tuple(_dim(root(dim)) for dim in dims) for dims in merged]


def _symbol(dim: Dim, side: int, name: str, axis: int) -> Symbol | int:
    """An unknown extent is a symbol of its own."""
    return dim if isinstance(dim, int) else (side, dim if dim is not None else f"{name}.{axis}")


def _dim(dim: Symbol | int) -> Dim:
    return dim if isinstance(dim, int) else f"{dim[0]}.{dim[1]}"


def _shape(shape: Shape) -> str:
    return "x".join("?" if dim is None else str(dim) for dim in shape)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _outputs(count: int) -> str:
    return f"{count} output{'s' * (count != 1)}"
