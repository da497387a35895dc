"""Models that nobody here wrote: those that ship inside other packages, and timm's, through both exporters of torch."""

from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
import timm
import torch

import repcompiler
from repcompiler.frontends.onnx import OnnxDocument

SHIPPED = {
    path.stem: path
    for package in ("rapidocr_onnxruntime", "nudenet")
    for path in sorted(Path(find_spec(package).submodule_search_locations[0]).rglob("*.onnx"))
}
"""Trained files: text detection, recognition and orientation; a detector."""

CONVS = {"repvgg_a0": 22, "mobileone_s0": 43, "repghostnet_100": 95}
"""Convolutions after the authors' own conversion."""


def count(proto, kind):
    return sum(node.op_type == kind for node in proto.graph.node)


def compiled(source):
    report = repcompiler.Report()
    result = repcompiler.compile(source, report=report)
    onnx.checker.check_model(result)
    assert report.verification.checked, report.verification.summary()
    assert report.verification.equal
    assert not report.reverted
    return result


def test_there_are_shipped_models():
    assert len(SHIPPED) == 4


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_compiles_verifies_and_does_not_grow(name):
    source, result = onnx.load(SHIPPED[name]), compiled(SHIPPED[name])
    assert len(result.graph.node) <= len(source.graph.node)
    assert result.ByteSize() <= OnnxDocument.open(source).model.ByteSize()
    assert count(result, "BatchNormalization") == 0
    assert [value.name for value in result.graph.output] == [value.name for value in source.graph.output]


def trained(name):
    """The architecture with random weights, and batch norms as after training: fresh ones hide every mistake."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return model


def script(model, path):
    """By TorchScript, in training form, all axes dynamic."""
    axes = {"x": {0: "N", 2: "H", 3: "W"}}
    form = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    torch.onnx.export(model, torch.randn(1, 3, 64, 96), path, input_names=["x"], dynamic_axes=axes, dynamo=False, **form)


def dynamo(model, path):
    """By torch.export, as it comes, weights in external data."""
    torch.onnx.export(model, (torch.randn(1, 3, 64, 96),), path, dynamo=True, optimize=False, verbose=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "export"), [*((name, script) for name in CONVS), ("repvgg_a0", dynamo)], ids=[*CONVS, "repvgg_a0 by torch.export"]
)
def test_a_training_form_network_reaches_the_authors_own_plain_form(tmp_path, name, export):
    source = tmp_path / f"{name}.onnx"
    export(trained(name), source)
    result = compiled(source)
    assert count(onnx.load(source, load_external_data=False), "BatchNormalization") > 0
    assert count(result, "BatchNormalization") == 0
    assert count(result, "Conv") == CONVS[name]
