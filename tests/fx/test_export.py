"""From a torch module to a plain ONNX file in one call."""

import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import repcompiler
from repcompiler import ModelError, VerificationError, export
from repcompiler.runtime import session


class Branch(nn.Module):
    """Two convolutions side by side."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.narrow = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.wide(x) + self.narrow(x)


@pytest.fixture
def model(randomise):
    return randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Branch(), nn.ReLU(), Branch()))


@pytest.fixture
def x():
    return torch.randn(1, 3, 12, 14)


def kinds(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def dims(path):
    return [dim.dim_param or dim.dim_value for dim in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]


def test_the_file_is_plain_exact_and_free_in_the_axes_asked_for(model, x, tmp_path):
    report = repcompiler.Report()
    export(model, tmp_path / "plain.onnx", x, dynamic_axes=("batch", "height", "width"), report=report)
    assert kinds(tmp_path / "plain.onnx") == ["Conv", "Relu", "Conv", "Relu", "Conv"]
    assert dims(tmp_path / "plain.onnx") == ["batch", 3, "height", "width"]
    assert len(report.verification.probes) == 3
    other = torch.randn(3, 3, 9, 7)
    (y,) = session(str(tmp_path / "plain.onnx")).run(None, {"input_1": other.numpy()})
    np.testing.assert_allclose(y, model(other).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.onnx"]


def test_axes_may_be_named_for_each_input_and_others_are_fixed(model, x, tmp_path):
    export(model, tmp_path / "plain.onnx", x, dynamic_axes={"input_1": {2: "rows"}})
    assert dims(tmp_path / "plain.onnx") == [1, 3, "rows", 14]


def test_what_cannot_be_traced_becomes_plain_in_the_file(randomise, x, tmp_path):
    class Called(nn.Module):
        """Hooks keep torch.fx out."""

        def __init__(self):
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.norm.register_forward_hook(lambda module, args, output: None)

        def forward(self, x):
            return self.norm(self.stem(x))

    export(randomise(Called()), tmp_path / "plain.onnx", x)
    assert kinds(tmp_path / "plain.onnx") == ["Conv"]


def test_an_axis_that_cannot_vary_is_refused(model, x, tmp_path):
    fixed = nn.Sequential(model, nn.Flatten(), nn.Linear(4 * 10 * 12, 2)).eval()
    with pytest.raises(ModelError, match="vary in its height"):
        export(fixed, tmp_path / "plain.onnx", x, dynamic_axes=("height",))
    with pytest.raises(ModelError, match="'input_1' cannot vary in its rows"):
        export(fixed, tmp_path / "plain.onnx", x, dynamic_axes={"input_1": {2: "rows"}})
    with pytest.raises(ModelError, match="vary in its image"):
        export(model, tmp_path / "plain.onnx", x, dynamic_axes={"image": {2: "rows"}})
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_where_the_file_differs_the_old_one_stays(model, x, tmp_path, monkeypatch):
    (tmp_path / "plain.onnx").write_bytes(b"old")

    class Wrong(nn.Module):
        def forward(self, x):
            return model(x) * 1.001

    def wrong(compiled, source, dynamic_shapes, opset_version):
        names = [spec.name for spec in source.inputs()]
        return torch.onnx.export(Wrong().eval(), source.values, dynamo=True, verbose=False, input_names=names).model

    monkeypatch.setattr(sys.modules[export.__module__], "_export", wrong)
    with pytest.raises(VerificationError, match="differs from the model"):
        export(model, tmp_path / "plain.onnx", x)
    assert (tmp_path / "plain.onnx").read_bytes() == b"old"
