"""Calibrate the latency model of repcompiler/cost.py on this machine's onnxruntime (CPU, one thread).

Times single operations over many shapes, in turn and several times over, and fits the model's constants by least squares on
the logarithm of the time.  Prints the constants, and how far the model is off: the median and the 90th percentile of
predicted / measured.

    python examples/calibrate_cost.py
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from repcompiler import cost
from repcompiler.ops import AvgPool, BatchNorm, Conv, Op, Sum

ROUNDS, SECONDS = 5, 0.01
CHAIN = 4
"""Equal operations in a row, so that one session's fixed cost does not count as the operation's."""


@dataclass(frozen=True)
class Sample:
    op: Op
    shape: tuple[int, ...]
    output: tuple[int, ...]


def samples() -> Iterator[Sample]:
    for channels, size in itertools.product((16, 24, 64, 256), (7, 14, 28, 56)):
        shape = (1, channels, size, size)
        for kernel, groups in itertools.product((1, 3, 5), (1, 4, channels)):
            if kernel == 1 and groups == channels:
                continue
            weight = np.zeros((channels, channels // groups, kernel, kernel), np.float32)
            padding = ((kernel // 2, kernel // 2),) * 2
            yield Sample(Conv(weight, np.zeros(channels, np.float32), (1, 1), padding, (1, 1), groups), shape, shape)
        ones = np.ones(channels, np.float32)
        yield Sample(BatchNorm(ones, ones, ones, ones, 1e-5), shape, shape)
        yield Sample(Sum((1, 1)), shape, shape)
        yield Sample(AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9), shape, shape)
    for channels, kernel in ((64, 13), (128, 31)):
        weight = np.zeros((channels, 1, kernel, kernel), np.float32)
        padding = ((kernel // 2, kernel // 2),) * 2
        shape = (1, channels, 28, 28)
        yield Sample(Conv(weight, np.zeros(channels, np.float32), (1, 1), padding, (1, 1), channels), shape, shape)


def session(sample: Sample) -> Callable[[], object]:
    """A function that runs `CHAIN` operations in a row."""
    nodes, initializers = [], []
    for index in range(CHAIN):
        inputs, attributes, kind = [f"x{index}"], {}, type(sample.op).__name__
        if isinstance(sample.op, Conv):
            op = sample.op
            arrays = {f"w{index}": op.weight, f"b{index}": op.bias}
            pads = [before for before, _ in op.padding] * 2
            attributes = {"kernel_shape": list(op.kernel_size), "pads": pads, "group": op.groups}
        elif isinstance(sample.op, BatchNorm):
            kind = "BatchNormalization"
            arrays = {f"p{index}_{number}": np.ones(sample.shape[1], np.float32) for number in range(4)}
        elif isinstance(sample.op, AvgPool):
            kind, arrays = "AveragePool", {}
            attributes = {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}
        else:
            kind, arrays = "Add", {}
            inputs.append("x0")
        initializers += [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        nodes.append(helper.make_node(kind, [*inputs, *arrays], [f"x{index + 1}"], **attributes))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sample.shape) for name in ("x0", f"x{CHAIN}")]
    graph = helper.make_graph(nodes, "sample", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x0": np.random.default_rng(0).standard_normal(sample.shape).astype(np.float32)}
    return lambda: runtime.run(None, feeds)


def measure(run: Callable[[], object]) -> float:
    """Seconds a call: the mean over a short while."""
    run()
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        run()
        calls += 1
    return elapsed / calls


def main() -> None:
    cases = list(samples())
    runs = [session(sample) for sample in cases]
    rounds = [[measure(run) for run in runs] for _ in range(ROUNDS)]
    measured = np.array([statistics.median(times) / CHAIN for times in zip(*rounds, strict=True)])
    constants = ("LAUNCH", "DENSE_RATE", "DEPTHWISE_RATE", "GROUPED_RATE", "BANDWIDTH")

    def error() -> np.ndarray:
        predicted = [cost.latency(case.op, [case.shape] * _operands(case.op), case.output) for case in cases]
        return np.log(np.array(predicted) / measured)

    best = float(np.sum(error() ** 2))
    step = 2.0
    while step > 1.01:  # coordinate descent: the model is a maximum, its error has no useful gradient
        improved = False
        for name, factor in itertools.product(constants, (step, 1 / step)):
            old = getattr(cost, name)
            setattr(cost, name, old * factor)
            now = float(np.sum(error() ** 2))
            if now < best - 1e-9:
                best, improved = now, True
            else:
                setattr(cost, name, old)
        step = step if improved else step**0.5
    for name in constants:
        print(f"{name} = {getattr(cost, name):.2g}")
    ratio = np.exp(np.abs(error()))
    print(
        f"off by a factor of {np.median(ratio):.2f} (median), {np.quantile(ratio, 0.9):.2f} (9 of 10) over {len(cases)} shapes"
    )
    for index in np.argsort(ratio)[-8:]:
        print(f"  {cases[index].op} on {cases[index].shape}: {np.exp(error()[index]):.2f} of {1e6 * measured[index]:.0f} us")


def _operands(op: Op) -> int:
    return len(op.signs) if isinstance(op, Sum) else 1


if __name__ == "__main__":
    main()
