"""verify: any two models of one interface, whatever made them, torch on either side."""

import copy

import pytest
import torch
from torch import nn

import repcompiler
from repcompiler import ModelError, verify


class Net(nn.Module):
    """A RepVGG block, an activation, a grouped convolution."""

    def __init__(self):
        super().__init__()
        self.three = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.one = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
        self.last = nn.Conv2d(8, 6, 3, padding=1, groups=2)

    def forward(self, image):
        return self.last(torch.relu(self.three(image) + self.one(image)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net().eval()
    for norm in (net.three[1], net.one[1]):
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return net


@pytest.fixture
def file(net, tmp_path):
    path = tmp_path / "plain.onnx"
    repcompiler.export(net, path, torch.randn(1, 4, 32, 32), dynamic_axes=["batch", "height", "width"])
    return path


def test_a_module_equals_its_compiled_form(net):
    result = verify(net, repcompiler.compile(net))
    assert result.equal
    assert result.probes[:2] == ["2x4x45x67", "2x4x45x67 large"]
    assert result.difference is None


def test_a_module_equals_its_exported_file_from_either_side(net, file):
    for pair in ((net, file), (file, net)):
        result = verify(*pair)
        assert result.equal
        assert len(result.probes) == 7


@pytest.mark.parametrize("side", ["module", "file"])
def test_a_changed_weight_of_a_module_is_named_by_both_names(net, file, side):
    changed = copy.deepcopy(net)
    changed.last.weight.data[4] *= 1.01
    result = verify(net if side == "module" else file, changed)
    assert result.verdict == "different"
    assert result.difference.operation == "Conv 8->6 3x3 g2"
    assert result.difference.other == "last"
    assert "channel 4 only, all images, everywhere" in str(result.difference)


def test_a_branch_of_a_module_that_is_lost_is_found(net):
    other = copy.deepcopy(net)
    other.one[1].weight.data[3] = 0
    other.one[1].bias.data[3] = 0
    result = verify(net, other)
    assert result.difference.value == "one_1"
    assert result.difference.after == ("one_0",)


def test_inputs_that_are_given_are_tried_in_any_form(net, file):
    image = torch.randn(2, 4, 9, 9)
    for given in (image, (image,), image.numpy(), {"image": image.numpy()}, {"other name": image.numpy()}):
        for pair in ((net, net), (net, file), (file, net), (file, file)):
            result = verify(*pair, given)
            assert result.equal
            assert result.probes[0] == "2x4x9x9 given"


def test_a_module_that_needs_examples_takes_them_from_the_file(tmp_path):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 5))

        def forward(self, x):
            return x.reshape(-1, 5) @ self.weight.t()

    torch.manual_seed(0)
    module = Flat().eval()
    path = tmp_path / "flat.onnx"
    repcompiler.export(module, path, torch.randn(2, 1, 5), dynamic_axes=["batch"])
    assert verify(module, path).equal
    with pytest.raises(ModelError, match="give example inputs"):
        verify(module, module)
    assert verify(module, module, torch.randn(2, 1, 5)).equal


def test_outputs_of_another_number_or_type_are_another_interface(net):
    class Changed(nn.Module):
        def __init__(self, change):
            super().__init__()
            self.net, self.change = net, change

        def forward(self, image):
            return self.change(self.net(image))

    with pytest.raises(ModelError, match="the first model has 1 output, the second 2"):
        verify(net, Changed(lambda y: (y, y.relu())).eval())
    with pytest.raises(ModelError, match="output 0 is float32 in the first model and float64 in the second"):
        verify(net, Changed(lambda y: y.double()).eval())
