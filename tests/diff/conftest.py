"""Small ONNX files: blocks of three branches in a row, under whatever names."""

import shutil
from dataclasses import replace

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


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield started
    started.quit()


@pytest.fixture
def blocks(tmp_path):
    """A function that writes `repvgg` blocks into a new file."""
    count = iter(range(100))
    return lambda **options: repvgg(tmp_path / f"model{next(count)}.onnx", **options)


@pytest.fixture
def refused(tmp_path):
    """The path of a file with two convolutions that cannot be one: the second pads what the bias of the first has moved."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((4, 4, 1, 1)), "b": rng.standard_normal(4), "v": rng.standard_normal((4, 4, 3, 3))}
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    first = helper.make_node("Conv", ["x", "w", "b"], ["first"])
    second = helper.make_node("Conv", ["first", "v"], ["y"], pads=[1] * 4)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4, "h", "w"]) for name in "xy"]
    graph = helper.make_graph([first, second], "g", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "refused.onnx")
    return tmp_path / "refused.onnx"


@pytest.fixture
def wrong_merge(monkeypatch):
    """merge_parallel_branches with a mistake of one in a thousand."""
    from repcompiler import compiler, passes
    from repcompiler.rewriter import Rule

    def wrong(rule):
        def result(**captures):
            term, *_ = rule.result(**captures)
            return replace(term, op=replace(term.op, weight=term.op.weight * 1.001))

        return Rule(rule.name, rule.doc, rule.patterns, result)

    rules = tuple(wrong(rule) if rule.name == "merge_parallel_branches" else rule for rule in passes.PASSES)
    monkeypatch.setattr(compiler, "PASSES", rules)


@pytest.fixture
def compiled(blocks):
    """A function that compiles such a file: (diff by the log, report)."""
    import repcompiler

    def compiled(**options):
        source, report = blocks(**options), repcompiler.Report()
        plain = repcompiler.compile(source, report=report)
        return repcompiler.diff(source, plain, report=report), report

    return compiled
