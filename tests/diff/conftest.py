"""Small ONNX files: blocks of three branches in a row, under whatever names."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 4


def repvgg(path, blocks=2, name="block{}/{}", seed=0):
    """Blocks of 3x3, 1x1 and identity branches, each with a batch norm, and a ReLU; written to `path`, and that."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []

    def weight(label, *shape):
        array = rng.uniform(0.5, 2.0, shape) if label.endswith("var") else rng.standard_normal(shape)
        weights.append(numpy_helper.from_array(array.astype(np.float32), label))
        return label

    def add(kind, operands, result, **attributes):
        nodes.append(helper.make_node(kind, operands, [result], **attributes))
        return result

    value = "x"
    for index in range(blocks):
        call = lambda part, index=index: name.format(index, part)  # noqa: E731 - a name, not a function of the block
        branches = []
        for size in (3, 1, 0):
            branch = value
            if size:
                kernel = weight(call(f"w{size}"), CHANNELS, CHANNELS, size, size)
                branch = add("Conv", [value, kernel], call(f"conv{size}"), pads=[size // 2] * 4)
            numbers = [weight(call(f"{size}{what}"), CHANNELS) for what in ("gamma", "beta", "mean", "var")]
            branches.append(add("BatchNormalization", [branch, *numbers], call(f"bn{size}")))
        total = add("Add", branches[:2], call("add0"))
        total = add("Add", [total, branches[2]], call("add1"))
        value = add("Relu", [total], call("relu"))
    first, last = (helper.make_tensor_value_info(label, TensorProto.FLOAT, ["n", CHANNELS, "h", "w"]) for label in ("x", value))
    graph = helper.make_graph(nodes, "g", [first], [last], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def blocks(tmp_path):
    """A function that writes `repvgg` blocks into a new file."""
    count = iter(range(100))
    return lambda **options: repvgg(tmp_path / f"model{next(count)}.onnx", **options)


@pytest.fixture
def compiled(blocks):
    """A function that compiles such a file: (diff by the log, report)."""
    import repcompiler

    def compiled(**options):
        source, report = blocks(**options), repcompiler.Report()
        plain = repcompiler.compile(source, report=report)
        return repcompiler.diff(source, plain, report=report), report

    return compiled
