"""An ONNX model as a document: read, lift, patch, run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import onnx_ir
from threadpoolctl import threadpool_limits

from repcompiler import interpreter
from repcompiler.backends.onnx import patch
from repcompiler.backends.onnx_file import Draft, external_files, is_large
from repcompiler.cost import extents, macs
from repcompiler.document import Feeds, InputSpec, NDArray, Statistics
from repcompiler.errors import ModelError
from repcompiler.frontends.onnx_extents import follow
from repcompiler.frontends.onnx_file import read
from repcompiler.frontends.onnx_inference import infer
from repcompiler.frontends.onnx_lift import Inferred, Known, Lift
from repcompiler.frontends.onnx_opaque import attributes_of
from repcompiler.frontends.onnx_ops import OPERATORS
from repcompiler.frontends.onnx_tensors import constant_tensor, dtype_name, shape_of
from repcompiler.ir import Graph, Node, Shape, Value
from repcompiler.liveness import peak_of_graph
from repcompiler.probes import nudged, random_array
from repcompiler.runtime import WATCH, NodeRuntime, is_sequence, session, tensor
from repcompiler.uncollected import uncollected


class OnnxDocument:
    """An `onnx_ir.Model`, and what the user gave it as."""

    def __init__(self, model: onnx_ir.Model, given: Any, example_inputs: Any = None) -> None:
        self.onnx_ir_model = model
        self.given = given
        self.path = Path(given) if isinstance(given, (str, os.PathLike)) else None
        self.example_inputs = example_inputs
        self.external = external_files(model)
        """Where the weights come from, if not from the model itself; then they also go beside it."""
        self.target: Path | None = None
        """Where results will go, once that is known: then they run from the very file that is moved there."""
        self._draft: Draft | None = None
        self._session: Any = None
        self._graph: Graph | None = None
        self._nodes: NodeRuntime | None = None
        self._inferred: Inferred | None = None

    @classmethod
    @uncollected()
    def open(cls, model: Any, example_inputs: Any = None) -> OnnxDocument:
        """From a path, an `onnx.ModelProto` or an `onnx_ir.Model`; refuses what is no valid model with ModelError."""
        if example_inputs is not None and not isinstance(example_inputs, Mapping):
            raise ModelError("example_inputs of an ONNX model is a dict of arrays by input name")
        document = cls(read(model), model, example_inputs)
        wanted = {spec.name for spec in document.inputs()}
        if example_inputs is not None and not wanted <= example_inputs.keys():
            raise ModelError(f"example_inputs lacks {', '.join(sorted(wanted - example_inputs.keys()))}")
        return document

    @property
    def model(self) -> Any:
        """A ModelProto, or the onnx_ir.Model itself where that is what was given.

        Weights that do not fit into one message stay where they are, beside the source: they are still external data then.
        """
        if isinstance(self.given, onnx_ir.Model):
            return self.onnx_ir_model
        if not (self.external and is_large(self.onnx_ir_model)):
            _bring_in(self.onnx_ir_model)
        return onnx_ir.to_proto(self.onnx_ir_model)

    @uncollected()
    def fork(self) -> OnnxDocument:
        """A copy of the structure; tensors are shared (they are never written to)."""
        fork = copy(self)
        fork.onnx_ir_model = self.onnx_ir_model.clone()
        fork._inferred = self.inferred()
        fork.path = fork._session = fork._graph = fork._draft = None
        return fork

    @uncollected()
    def lift(self) -> Graph:
        """The neutral graph, the caller's to rewrite."""
        lift = Lift(self.onnx_ir_model, self.inferred(), OPERATORS, follow)
        self._nodes = lift.runtime
        return lift.run()

    def graph(self) -> Graph:
        """The neutral graph, to read only."""
        if self._graph is None:
            self._graph = self.lift()
        return self._graph

    def patch(self, graph: Graph) -> Mapping[str, str]:
        """Write the rewritten graph back; all names are the graph's."""
        patch(self.onnx_ir_model, graph)
        self._graph = None
        return {}

    @uncollected()
    def inferred(self) -> Inferred:
        """Shape and type of each value by name, as ONNX's own inference says."""
        if self._inferred is None:
            known = infer(self.onnx_ir_model, {})
            inputs = {name: typical for name, typical in self._typical_inputs().items() if name not in known}
            if inputs:
                for name, (typical, *_) in infer(self.onnx_ir_model, inputs).items():
                    if typical is not None and all(isinstance(dim, int) for dim in typical):
                        known[name] = known[name]._replace(typical=typical)
            self._inferred = known | {name: Known(None, None, typical) for name, typical in inputs.items()}
        return self._inferred

    def _typical_inputs(self) -> dict[str, Shape]:
        """Extents for the inputs, where some are free: those of the example, or of common images."""
        given = self.example_inputs or {}
        free = [spec for spec in self.inputs() if spec.shape and not all(isinstance(dim, int) for dim in spec.shape)]
        return {spec.name: np.shape(given[spec.name]) if spec.name in given else typical(spec.shape or ()) for spec in free}

    def statistics(self) -> Statistics:
        """Counted over the main graph; parameters are the floating-point initializers and constants, but for limits of Clip."""
        graph, nodes = self.graph(), list(self.onnx_ir_model.graph)
        limits = {id(value) for node in nodes if node.op_type == "Clip" for value in node.inputs[1:]}
        constants = [
            constant_tensor(node) for node in nodes if node.op_type == "Constant" and id(node.outputs[0]) not in limits
        ]
        initializers = [
            value.const_value for value in self.onnx_ir_model.graph.initializers.values() if id(value) not in limits
        ]
        tensors = [tensor for tensor in (*initializers, *constants) if tensor is not None]
        return Statistics(
            Counter(node.op_type for node in nodes if node.op_type != "Constant"),
            sum(tensor.size for tensor in tensors if tensor.dtype.is_floating_point()),
            sum(macs(node.op, _size(node.output)) for node in graph.nodes if node.outputs),
            sum(tensor.nbytes for tensor in tensors),
            peak_of_graph(graph, _size),
        )

    def inputs(self) -> Sequence[InputSpec]:
        """The graph's inputs, those that have no default."""
        graph = self.onnx_ir_model.graph
        free = [value for value in graph.inputs if not value.is_initializer()]
        return [
            InputSpec(str(value.name), None if value.shape is None else shape_of(value.shape), dtype_name(value.dtype))
            for value in free
        ]

    def examples(self) -> Sequence[Feeds]:
        """What the user gave."""
        return [] if self.example_inputs is None else [self.example_inputs]

    def tried(self) -> Sequence[Feeds]:
        """The same: none is made up before it is verified."""
        return self.examples()

    def run(self, feeds: Feeds) -> Sequence[NDArray]:
        """By onnxruntime, with its graph optimisations off."""
        if self._session is None:
            try:
                self._session = self._start()
            except Exception as error:  # nor will it load for other feeds
                self._session = error
        if isinstance(self._session, Exception):
            raise self._session
        return [tensor(result) for result in WATCH.run(self._session, feeds)]

    def run_again(self, feeds: Feeds, seed: int) -> Sequence[NDArray]:
        """On inputs that differ in their last bit."""
        return self.run(nudged(feeds, seed))

    def run_reference(self, feeds: Feeds) -> Sequence[NDArray]:
        """By the interpreter in float64; what it does not know, by onnxruntime in double precision where it can."""
        with threadpool_limits(1, "blas"):  # the products are small: threads would wait for each other
            results = interpreter.run(self.graph(), self._arrays(feeds))
        return [results[value] for value in self.graph().outputs]

    @property
    def is_exact(self) -> bool:
        """Whether every operation so far had a kernel in double precision."""
        return self._nodes is None or not self._nodes.narrowed

    def output_names(self) -> Sequence[str]:
        """The names in the graph."""
        return [str(value.name) for value in self.onnx_ir_model.graph.outputs]

    def attributes(self, node: Node) -> Mapping[str, Any]:
        """Attributes by name, tensors among them as arrays."""
        return attributes_of(node.origin, self.onnx_ir_model)

    def walk(self, feeds: Feeds) -> Iterator[tuple[Value, NDArray]]:
        """Values as the interpreter computes them."""
        walk = interpreter.trace(self.graph(), self._arrays(feeds))
        return ((value, array) for value, array in walk if not is_sequence(array))

    def _arrays(self, feeds: Feeds) -> dict[Value, NDArray]:
        """What is fed, and the defaults of other inputs."""
        inputs = self.graph().inputs
        defaults = {value: value.origin.const_value for value in inputs if value.origin.const_value is not None}
        arrays = {value: np.asarray(default.numpy()) for value, default in defaults.items()}
        return arrays | {value: np.asarray(feeds[value.name]) for value in inputs if value.name in feeds}

    def runner(self) -> Callable[[], object]:
        """By onnxruntime with its optimisations, on one thread; free extents are those of the example or of a common image."""
        rng = np.random.default_rng(0)
        sizes = {spec: tuple(extents(typical(spec.shape or ()))) for spec in self.inputs()}
        feeds = {spec.name: random_array(spec, size, rng) for spec, size in sizes.items()} | dict(self.example_inputs or {})
        runtime = self._start(threads=1, optimised=True)
        return lambda: runtime.run(None, feeds)

    def release(self) -> None:
        """Drop the session, and the file it runs."""
        if self._draft is not None:
            self._draft.discard()
        self._session = self._draft = None

    def save(self, path: Path) -> None:
        """Write the model to `path`; weights that came from external data go to a file beside it."""
        draft = self._draft if self._draft is not None and self._draft.target == path else self._draft_at(path)
        self._session = self._draft = None
        try:
            draft.publish()
        finally:
            draft.discard()

    def _draft_at(self, target: Path) -> Draft:
        return Draft(self.onnx_ir_model, target, bool(self.external) or is_large(self.onnx_ir_model))

    def _start(self, **options: Any) -> Any:
        """A session of the source file itself, of the file that is to be the result, or of this model's bytes."""
        if self.path is not None:
            return session(str(self.path), **options)
        if self.target is None and not self.external and not is_large(self.onnx_ir_model):
            return session(onnx_ir.to_proto(self.onnx_ir_model).SerializeToString(), **options)
        self._draft = self._draft or self._draft_at(self.target or Path(gettempdir()) / "model.onnx")
        return session(str(self._draft.path), **options)


def _size(value: Value) -> Shape | None:
    """The extents of a typical run, where they are known."""
    return value.typical or value.shape


def typical(shape: Shape) -> Shape:
    """The extents of a common image (or sound, or volume), where they are free."""
    size = {3: 1024, 4: 224, 5: 32}.get(len(shape), 64)
    return tuple(dim if isinstance(dim, int) else size if axis > 1 else 1 for axis, dim in enumerate(shape))


def _bring_in(model: onnx_ir.Model) -> None:
    """Turn external data into tensors of the model itself."""
    for value in model.graph.initializers.values():
        outside = value.const_value
        if isinstance(outside, onnx_ir.ExternalTensor):
            # a new tensor: the old one is shared with other documents
            inside = onnx_ir.Tensor(outside.numpy(), outside.dtype, name=outside.name, doc_string=outside.doc_string)
            inside.metadata_props.update(outside.metadata_props)
            value.const_value = inside
