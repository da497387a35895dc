"""What the compiler asks of a source: a torch.fx GraphModule or an ONNX model, behind one interface.

`repcompiler.frontends.open_document` finds the implementation without importing torch for an ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from repcompiler.ir import Graph, Node, Shape, Value

NDArray = np.ndarray[Any, Any]
Feeds = Mapping[str, NDArray]


@dataclass(frozen=True)
class InputSpec:
    """One input: its name, its shape (symbols and None may take any extent) and its numpy dtype name."""

    name: str
    shape: Shape | None
    dtype: str


class Document(Protocol):
    """A model with its graph.  `fork`, then `lift` and `patch` the fork: the source is never touched."""

    @property
    def model(self) -> Any:
        """The model, of the kind the user gave."""

    def fork(self) -> Document:
        """An independent copy of the structure; weights are shared until replaced."""

    def lift(self) -> Graph:
        """The neutral graph, with handles (`origin`) into this very document."""

    def patch(self, graph: Graph) -> Mapping[str, str]:
        """Make this document compute what `graph`, lifted from it and rewritten since, says; touch nothing else.

        Returns what the document calls the values that it calls otherwise than the graph does.
        """

    def save(self, path: Path) -> None:
        """Write the model to a file: either the old file stays whole, or the new one is."""

    def statistics(self) -> Statistics:
        """Operations, parameters, multiply-accumulates and bytes."""

    def inputs(self) -> Sequence[InputSpec]:
        """What `run` is to be fed."""

    def examples(self) -> Sequence[Feeds]:
        """Inputs the user gave, if any."""

    def tried(self) -> Sequence[Feeds]:
        """Inputs that it has been found to take, if any."""

    def run(self, feeds: Feeds) -> Sequence[NDArray]:
        """Outputs in the document's own precision, with no optimisation between."""

    def run_again(self, feeds: Feeds, seed: int) -> Sequence[NDArray]:
        """`run`, as it might have rounded: of inputs that differ in their last bit, and of results between, where it can be."""

    def run_reference(self, feeds: Feeds) -> Sequence[NDArray]:
        """Outputs with all floating-point arithmetic in float64."""

    @property
    def is_exact(self) -> bool:
        """Whether `run_reference` rounded nothing to less than float64."""

    def output_names(self) -> Sequence[str] | None:
        """What the outputs are called, if they have names."""

    def graph(self) -> Graph:
        """The neutral graph, to read only."""

    def attributes(self, node: Node) -> Mapping[str, Any]:
        """What it says of an operation of `graph()` that is opaque there: attributes other than their defaults, and weights."""

    def walk(self, feeds: Feeds) -> Iterator[tuple[Value, NDArray]]:
        """The values of `graph()`, as far as they can be computed one by one, each with its array in float64.

        Only what is still to be read is in memory; an array is valid until the next one is asked for.
        """

    def runner(self) -> Callable[[], object]:
        """What runs the model once as its users do, on one input of its usual size: to be timed."""

    def release(self) -> None:
        """Free what `run` keeps for the next call."""


@dataclass(frozen=True)
class Statistics:
    """The size of a model."""

    operators: Mapping[str, int]
    """How many operations of each kind."""
    parameters: int
    macs: int
    bytes: int
    activations: int = 0
    """The most bytes that values between operations take at once (`repcompiler.liveness`)."""

    @property
    def nodes(self) -> int:
        return sum(self.operators.values())


@dataclass(frozen=True)
class Comparison:
    """Two models run by turns: seconds a run (medians), and whether the second is slower beyond noise."""

    before: float
    after: float
    slower: bool

    def __str__(self) -> str:
        times = f"{1e3 * self.before:.3g} ms -> {1e3 * self.after:.3g} ms a run, measured here"
        return f"{times}: slower, so the model was left as it was" if self.slower else times
