"""How much a model is once it is written out: few bytes may call each other, or count, for ever."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx

from repcompiler.errors import ModelError
from repcompiler.onnx_wire import NODES, TOO_MANY

NUMBERS = 2**31
"""Numbers that a constant range may have: inference counts them one by one."""

Key = tuple[str, str]
"""Domain and name of a function."""


def check_sizes(proto: onnx.ModelProto) -> None:
    """Raise ModelError for more nodes than are compiled, functions written out; for functions that call themselves; for ranges
    without end.
    """
    functions = {(function.domain, function.name): function for function in proto.functions}
    sizes: dict[Key, int] = {}
    pending: list[tuple[Key, bool]] = [(key, False) for key in functions]
    calling: set[Key] = set()
    while pending:
        key, called = pending.pop()
        inner = dict.fromkeys((node.domain, node.op_type) for node in _all(functions[key].node))
        if called:
            calling.discard(key)
            sizes[key] = _size(functions[key].node, sizes)
        elif key in calling:
            raise ModelError(f"the local function '{key[1]}' calls itself")
        elif key not in sizes:
            calling.add(key)
            pending += [(key, True), *((other, False) for other in inner if other in functions and other not in sizes)]
    nodes = _size(proto.graph.node, sizes)
    if nodes > NODES:
        raise ModelError(TOO_MANY.format(nodes))
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in _all(proto.graph.node):
        if node.op_type == "Constant":
            constants.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
        elif node.op_type == "Range" and all(name in constants for name in node.input):
            start, limit, delta = (_number(constants[name]) for name in node.input)
            if not (limit - start) / (delta or np.nan) < NUMBERS:
                raise ModelError(f"Range '{node.name or node.output[0]}' has no end in sight")


def _size(nodes: Iterable[onnx.NodeProto], sizes: dict[Key, int]) -> int:
    return sum(max(sizes.get((node.domain, node.op_type), 1), 1) for node in _all(nodes))


def _number(tensor: onnx.TensorProto) -> float:
    try:
        return float(onnx.numpy_helper.to_array(tensor).item())
    except Exception:  # the checker will say what is wrong with it
        return 0.0


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes and those of all graphs inside them."""
    for node in nodes:
        yield node
        for body in bodies([node]):
            yield from body.node


def bodies(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """Every graph inside these nodes, however deep."""
    for node in nodes:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield body
                yield from bodies(body.node)
