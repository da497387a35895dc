"""Seconds that an operation takes in onnxruntime here, and which of two models is quicker.

One thread, the runtime's own optimisations on.  Other programs only ever add to a time, so the least of many runs counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from statistics import median

import numpy as np
import onnx_ir

from repcompiler.backends.onnx_emit import Emit
from repcompiler.document import Comparison
from repcompiler.ir import Value
from repcompiler.ops import Op
from repcompiler.runtime import session

Run = Callable[[], object]

SECONDS = 0.04
"""How long one operation is run over and over."""
LEAST, MOST = 5, 500
"""Runs of an operation, at least and at most."""
WARM_UP = 2
"""Runs that do not count."""
MODEL_SECONDS = 3.0
"""How long two models are run by turns."""
NOISE = 0.02
"""Two models whose times differ by no more than this part are equally quick."""
ROW = 16
"""Further operations in the model that tells what one more adds."""
OPSET, IR_VERSION = 17, 8
FLOAT = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)


def compare(before: Run, after: Run) -> Comparison:
    """Run two models by turns, each first in every other round: a machine that is busy for a while slows both."""
    for run in (before, after) * WARM_UP:
        run()
    times: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(times) < LEAST or (len(times) < MOST and time.perf_counter() - start < MODEL_SECONDS):
        if len(times) % 2:
            second, first = _once(after), _once(before)
        else:
            first, second = _once(before), _once(after)
        times.append((first, second))
    firsts, seconds = zip(*times, strict=True)
    ratios = (min(seconds) / min(firsts), median(second / first for first, second in times))
    return Comparison(median(firsts), median(seconds), min(ratios) > 1 + NOISE)


def time_operation(op: Op, inputs: Sequence[tuple[int, ...]], rank: int) -> float:
    """Seconds of one application to inputs of these shapes, for a result of `rank` axes.  Raises what the runtime raises."""
    model = _model(inputs)
    anchor = onnx_ir.Node("", "Identity", model.graph.inputs[:1], name="operation")
    names = count()
    emit = Emit(model, Value("y", (None,) * rank), None, anchor, lambda wish: f"{wish}{next(names)}", {})
    emit.operation(op, model.graph.inputs)
    for initializer in emit.initializers:
        model.graph.register_initializer(initializer)
    return max(_time_model(model, emit.nodes, inputs) - _overhead(), 0.0)


@cache
def _overhead() -> float:
    """Seconds to call the runtime, whatever it runs: that of one tiny operation, less what each further one adds."""
    times = {}
    for length in (1, 1 + ROW):
        model = _model([(1,)])
        nodes: list[onnx_ir.Node] = []
        for _ in range(length):
            nodes.append(onnx_ir.Node("", "Neg", [nodes[-1].outputs[0] if nodes else model.graph.inputs[0]]))
        times[length] = _time_model(model, nodes, [(1,)])
    return times[1] - (times[1 + ROW] - times[1]) / ROW


def _model(shapes: Sequence[tuple[int, ...]]) -> onnx_ir.Model:
    """A model with inputs x0, x1, ... of these shapes, and nothing else yet."""
    inputs = [onnx_ir.Value(name=f"x{i}", type=FLOAT, shape=onnx_ir.Shape(shape)) for i, shape in enumerate(shapes)]
    graph = onnx_ir.Graph(inputs, [], nodes=[], opset_imports={"": OPSET}, name="operation")
    return onnx_ir.Model(graph, ir_version=IR_VERSION)


def _time_model(model: onnx_ir.Model, nodes: Sequence[onnx_ir.Node], shapes: Sequence[tuple[int, ...]]) -> float:
    """Seconds of a run of a model of these nodes, the last of which makes its result."""
    result = nodes[-1].outputs[0]
    result.name, result.type = "y", FLOAT
    model.graph.extend(nodes)
    model.graph.outputs.append(result)
    runtime = session(onnx_ir.to_proto(model).SerializeToString(), threads=1, optimised=True)
    binding = runtime.io_binding()  # arrays that numpy allocates for each run would be timed with it
    rng = np.random.default_rng(0)
    for index, shape in enumerate(shapes):
        binding.bind_cpu_input(f"x{index}", rng.standard_normal(shape).astype(np.float32))
    binding.bind_output("y", "cpu")
    return _seconds(lambda: runtime.run_with_iobinding(binding))


def _seconds(run: Run) -> float:
    for _ in range(WARM_UP):
        run()
    times: list[float] = []
    while len(times) < LEAST or (len(times) < MOST and sum(times) < SECONDS):
        times.append(_once(run))
    return min(times)


def _once(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
