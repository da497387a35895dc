"""torch modules on either side, alone or against an ONNX file."""

import onnx
import pytest
import torch
from torch import nn

import repcompiler


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.three = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.one = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        return torch.relu(self.three(x) + self.one(x) + x)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block()).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return model


IMAGE = torch.zeros(1, 4, 9, 7)


def changes(diff):
    sides = lambda drawing, places: [drawing.boxes[place].kind for place in places]  # noqa: E731
    return [(sorted(sides(diff.before, r.before)), sides(diff.after, r.after)) for r in diff.links.regions]


BLOCK = (["Add", "Add", "BatchNorm", "BatchNorm", "Conv", "Conv"], ["Conv"])


def test_a_compiled_module_is_told_by_its_log(model):
    report = repcompiler.Report()
    plain = repcompiler.compile(model, IMAGE, report=report)
    diff = repcompiler.diff(model, plain, IMAGE, report=report)
    assert changes(diff) == [BLOCK, BLOCK]
    assert [region.rules for region in diff.links.regions] == [{"fold_batch_norm": 2, "merge_parallel_branches": 2}] * 2
    assert {diff.after.boxes[region.after[0]].label for region in diff.links.regions} == {
        "0.three.0_merged",
        "1.three.0_merged",
    }


def test_a_compiled_module_is_aligned_without_a_log(model):
    diff = repcompiler.diff(model, repcompiler.compile(model, IMAGE), IMAGE)
    assert changes(diff) == [BLOCK, BLOCK]
    assert diff.verification.equal


def test_a_module_is_compared_with_a_file(model, tmp_path):
    repcompiler.export(model, tmp_path / "plain.onnx", IMAGE)
    diff = repcompiler.diff(model, tmp_path / "plain.onnx", IMAGE)
    assert changes(diff) == [BLOCK, BLOCK]
    assert diff.verification.equal
    assert "plain.onnx" in diff.to_html()


def test_a_file_is_compared_with_a_module(model, tmp_path):
    repcompiler.export(model, tmp_path / "plain.onnx", IMAGE)
    diff = repcompiler.diff(onnx.load(tmp_path / "plain.onnx"), repcompiler.compile(model, IMAGE), IMAGE)
    assert changes(diff) == []
