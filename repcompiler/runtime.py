"""onnxruntime, with its graph optimisations off: what an ONNX model, or one node of it, computes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from threading import Thread
from time import monotonic, sleep
from typing import Any

import numpy as np
import onnx
import onnx_ir

NDArray = np.ndarray[Any, Any]

Type = tuple[str, tuple[int | None, ...] | None]
"""(dtype name, shape) of an array; a sequence of arrays has no shape."""

SECONDS = 20.0
"""A run that takes longer is stopped: a model may loop for ever."""
MEMORY = 2**31
"""Bytes that single nodes may take: a few numbers may say that a tensor has terabytes."""
KEPT = 256
"""Sessions of single nodes that stay for another call."""


def session(model: str | bytes, threads: int = 0, optimised: bool = False, limited: bool = False) -> Any:
    """An inference session of a file or of serialised bytes: as it is written, or `optimised` by the runtime.

    `limited`: in no more than `MEMORY`, beyond which a run fails.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")  # run once or twice: copying weights does not pay
        options.enable_mem_reuse = False  # planning it takes time that grows with the square of the nodes: 20 s for 6,000
    if limited and _has_limit():
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def _has_limit() -> bool:
    """Make the allocator of limited sessions; it is the process's, and a user may have made it first."""
    import onnxruntime as ort

    arena = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    with suppress(RuntimeError):
        ort.create_and_register_allocator(arena, ort.OrtArenaCfg({"max_mem": MEMORY, "arena_extend_strategy": 1}))
        return True
    return False


class Watch:
    """Stops runs that take too long, and all where somebody wants to stop."""

    def __init__(self) -> None:
        self.running: dict[int, tuple[float, Any]] = {}
        self.thread: Thread | None = None

    def run(self, session: Any, feeds: Mapping[str, NDArray]) -> list[Any]:
        """The results of a session.  Raises what the runtime raises, and TimeoutError."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.running[id(options)] = monotonic() + SECONDS, options
        if self.thread is None or not self.thread.is_alive():
            self.thread = Thread(target=self._look, daemon=True)
            self.thread.start()
        try:
            return list(session.run(None, dict(feeds), options))
        except Exception as error:
            if options.terminate:
                raise TimeoutError(f"a run takes longer than {SECONDS:g} seconds") from error
            raise
        finally:
            del self.running[id(options)]

    def stop(self, until: float = math.inf) -> None:
        """Have those fail that should have ended `until` then."""
        for deadline, options in list(self.running.values()):
            if deadline <= until:
                options.terminate = True

    def _look(self) -> None:
        while self.running:
            sleep(1.0)
            self.stop(monotonic())


WATCH = Watch()


class NodeRuntime:
    """Runs single nodes of a model, each in a session of its own that is kept for the next call."""

    def __init__(self, model: onnx_ir.Model) -> None:
        self.model = model
        self.sessions: dict[tuple[onnx_ir.Node, tuple[Type, ...]], Any] = {}
        """The latest ones."""
        self.endless: set[onnx_ir.Node] = set()
        """What took too long."""
        self.narrowed = False
        """Whether a node was run in float32 that was asked for in float64."""

    def evaluate(self, node: onnx_ir.Node, arrays: Sequence[NDArray]) -> list[NDArray]:
        """The outputs of `node` for the arrays of what it reads (`inputs_of`, in that order).

        In the arrays' own precision where the runtime has such a kernel, otherwise through float32.
        """
        if node in self.endless:
            raise TimeoutError("it takes too long")
        try:
            return self._run(node, arrays)
        except TimeoutError:
            self.endless.add(node)
            raise
        except Exception:
            if not any(_type_of(array)[0] == "float64" for array in arrays):
                raise
        self.narrowed = True
        return self._run(node, [_narrow(array) for array in arrays])

    def _run(self, node: onnx_ir.Node, arrays: Sequence[NDArray]) -> list[NDArray]:
        key = node, tuple(map(_type_of, arrays))
        if key not in self.sessions:
            if len(self.sessions) == KEPT:
                del self.sessions[next(iter(self.sessions))]
            self.sessions[key] = session(self._one_node(*key), threads=1, limited=True)
        feeds = {str(value.name): _fed(array) for value, array in zip(inputs_of(node), arrays, strict=True)}
        results = iter(WATCH.run(self.sessions[key], feeds))
        # copied: what stays in the runtime's memory would count towards the limit of every later run
        return [_kept(next(results)) if output.name else np.empty(0) for output in node.outputs]

    def _one_node(self, node: onnx_ir.Node, types: tuple[Type, ...]) -> bytes:
        """A model of `node` alone, for inputs of these types and shapes."""
        proto = onnx.ModelProto(ir_version=min(self.model.ir_version, 10))
        for domain, version in {"": 1, **self.model.opset_imports}.items():
            proto.opset_import.add(domain=domain, version=version)
        proto.functions.extend(onnx_ir.serde.serialize_function(function) for function in self.model.functions.values())
        proto.graph.name = "node"
        proto.graph.node.append(onnx_ir.serde.serialize_node(node))
        for value, (dtype, shape) in zip(inputs_of(node), types, strict=True):
            made = onnx.helper.make_tensor_value_info if shape is not None else onnx.helper.make_tensor_sequence_value_info
            element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            proto.graph.input.append(made(str(value.name), element, shape))
        proto.graph.output.extend(onnx.ValueInfoProto(name=output.name) for output in node.outputs if output.name)
        return bytes(proto.SerializeToString())


def inputs_of(node: onnx_ir.Node) -> list[onnx_ir.Value]:
    """What a node reads, each value once: its inputs, and what its sub-graphs capture from outside."""
    return list(dict.fromkeys([value for value in node.inputs if value is not None] + captured(node)))


def is_sequence(array: NDArray) -> bool:
    """Whether it holds a sequence of arrays, as results of single nodes may be: an array of objects, which strings are too."""
    return array.dtype == object and array.size > 0 and isinstance(array.flat[0], np.ndarray)


def _type_of(array: NDArray) -> Type:
    if is_sequence(array):
        return array[0].dtype.name, None
    # the length of a vector is stated: the runtime rejects `sizes`, `pads` and the like of unknown length
    return array.dtype.name, array.shape if array.ndim == 1 else (None,) * array.ndim


def _fed(array: NDArray) -> Any:
    """What a session takes; views of a file may lie anywhere."""
    return [_fed(item) for item in array] if is_sequence(array) else np.require(array, requirements="A")


def _narrow(array: NDArray) -> NDArray:
    """In float32 what is in float64."""
    if is_sequence(array):
        return _sequence([_narrow(item) for item in array])
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _kept(result: Any) -> NDArray:
    return _sequence([_kept(item) for item in result]) if isinstance(result, list) else tensor(result).copy()


def _sequence(items: Sequence[NDArray]) -> NDArray:
    result = np.empty(len(items), object)
    for index, item in enumerate(items):
        result[index] = item
    return result


def tensor(result: Any) -> NDArray:
    """A result of the runtime that is a tensor, and no sequence or map."""
    if not isinstance(result, np.ndarray):
        raise TypeError(f"a result is a {type(result).__name__}, not a tensor")
    return result


def bodies_of(node: onnx_ir.Node) -> list[onnx_ir.Graph]:
    """The graphs that `node` carries as attributes: branches, loop bodies."""
    bodies = [attr.as_graph() for attr in node.attributes.values() if attr.type == onnx_ir.AttributeType.GRAPH]
    return bodies + [
        body for attr in node.attributes.values() if attr.type == onnx_ir.AttributeType.GRAPHS for body in attr.as_graphs()
    ]


def captured(node: onnx_ir.Node) -> list[onnx_ir.Value]:
    """Values of outer graphs that the bodies of `node` read."""
    found: dict[onnx_ir.Value, None] = {}
    for body in bodies_of(node):
        inside: set[onnx_ir.Value] = {*body.inputs, *body.initializers.values()}
        for inner in body:
            found.update(dict.fromkeys(value for value in inputs_of(inner) if value not in inside))
            inside.update(inner.outputs)
        found.update(dict.fromkeys(value for value in body.outputs if value not in inside))
    return list(found)
