"""Under `tune` source and result are timed by turns; what came out slower is not handed out."""

import json
import subprocess
import sys
from itertools import cycle

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import repcompiler
from repcompiler import stopwatch
from repcompiler.compiler import compile_document
from repcompiler.document import Comparison
from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.passes import PASSES
from repcompiler.testing import random_batch_norm, random_conv

rng = np.random.default_rng(0)
conv3, norm = random_conv(rng, 4, 4, 3, padding=1), random_batch_norm(rng, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Figures are kept here, and made in no time."""
    monkeypatch.setenv("REPC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stopwatch, "SECONDS", 0.0)
    monkeypatch.setattr(stopwatch, "MODEL_SECONDS", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def quicker(monkeypatch):
    """The result is quicker, whatever this machine is busy with."""
    monkeypatch.setattr(stopwatch, "compare", lambda before, after: Comparison(2.0, 1.0, slower=False))


@pytest.mark.parametrize(
    ("before", "after", "slower"),
    [
        ([1.0], [2.0], True),
        ([1.0], [1.01], False),
        ([2.0], [1.0], False),
        ([1.0, 1.0, 9.0], [1.0], False),
        ([1.0], [1.0, 3.0, 3.0], False),
    ],
    ids=["slower", "as quick", "quicker", "source disturbed", "result disturbed"],
)
def test_only_what_is_slower_at_its_best_and_typically_is_slower(before, after, slower, monkeypatch):
    times = {"before": cycle(before), "after": cycle(after)}
    monkeypatch.setattr(stopwatch, "_once", lambda run: next(times[run()]))
    monkeypatch.setattr(stopwatch, "LEAST", 30)
    assert stopwatch.compare(lambda: "before", lambda: "after").slower == slower


@pytest.fixture
def file(tmp_path):
    """A convolution, a batch norm and a ReLU."""
    tensors = {"w": conv3.weight, "b": conv3.bias, "g": norm.gamma, "s": norm.beta, "m": norm.mean, "v": norm.var}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4),
            onnx.helper.make_node("BatchNormalization", ["c", "g", "s", "m", "v"], ["n"]),
            onnx.helper.make_node("Relu", ["n"], ["y"]),
        ],
        "block",
        *([onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4, 13, 9])] for name in "xy"),
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()],
    )
    path = tmp_path / "block.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def kinds(proto):
    return [node.op_type for node in proto.graph.node]


def test_onnx_file_is_tuned(file, quicker):
    report = repcompiler.Report()
    assert kinds(repcompiler.compile(file, objective="tune", report=report)) == ["Conv", "Relu"]
    assert report.objective == "tune"
    assert report.verification.equal
    assert not report.timing.slower
    assert "a run, measured here" in str(report)
    assert report.to_dict()["timing"]["slower"] is False


def test_model_that_came_out_slower_is_left_as_it_was(file, monkeypatch):
    monkeypatch.setattr(stopwatch, "compare", lambda before, after: Comparison(1.0, 2.0, slower=True))
    report = repcompiler.Report()
    proto = repcompiler.compile(file, objective="tune", report=report)
    assert kinds(proto) == ["Conv", "BatchNormalization", "Relu"]
    assert proto.graph.initializer == onnx.load(file).graph.initializer
    assert not report.steps
    assert "slower, so the model was left as it was" in str(report)


def test_model_that_was_not_rewritten_is_not_timed(file, monkeypatch):
    monkeypatch.delattr(stopwatch, "compare")
    report = repcompiler.Report()
    repcompiler.compile(file, objective="tune", passes=[], report=report)
    assert report.timing is None


def test_what_cannot_be_run_is_not_compared(file, monkeypatch):
    def fail(self):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(OnnxDocument, "runner", fail)
    report = repcompiler.Report()
    compile_document(OnnxDocument.open(file), "tune", PASSES, True, report)
    assert report.timing is None
    assert report.steps


def test_torch_module_is_tuned(quicker):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()).eval()
    module[1].running_mean.normal_()
    image, report = torch.randn(1, 4, 13, 9), repcompiler.Report()
    with torch.random.fork_rng():
        plain = repcompiler.compile(module, image, objective="tune", report=report)
    assert report.timing is not None
    assert {type(layer) for layer in plain.children()} == {nn.Conv2d, nn.ReLU}
    with torch.no_grad():
        torch.testing.assert_close(plain(image), module(image))


def test_command_line_tunes_keeps_the_figures_and_writes_what_they_say(file, folder, tmp_path):
    """Really measured: so the source may come back, and the report says whether it did."""
    output, result = tmp_path / "plain.onnx", tmp_path / "result.json"
    command = [sys.executable, "-m", "repcompiler", str(file), "-o", str(output), "--tune", "--json", str(result)]
    kept = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "measured here" in done.stdout
        kept.append((folder / "timings.json").read_bytes())
        slower = json.loads(result.read_text())["timing"]["slower"]
        assert kinds(onnx.load(output)) == (["Conv", "BatchNormalization", "Relu"] if slower else ["Conv", "Relu"])
    assert kept[0] == kept[1]
