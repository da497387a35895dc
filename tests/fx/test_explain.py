"""Of a torch model each remaining pair has one reason, in the paths of its modules; so have modules that are not lifted."""

import pytest
import timm
import torch
import torchvision
from torch import fx, nn

import repcompiler
from repcompiler.cost import OBJECTIVES
from repcompiler.explain import explain
from repcompiler.frontends.fx import FxDocument
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    Linear,
    Pad,
    Reshape,
    Resize,
    Scale,
    Select,
    Subsample,
    Sum,
    Transpose,
)
from repcompiler.passes import PASSES
from repcompiler.rewriter import Rewriter

LINEAR = (AvgPool, BatchNorm, Concat, Conv, ConvTranspose, Linear, Pad, Resize, Scale, Select, Subsample, Sum)
NETWORKS = {
    "resnet18": timm.create_model,
    "mobilenetv2_050": timm.create_model,
    "repghostnet_050": timm.create_model,
    "ghostnet_050": timm.create_model,
    "densenet": lambda _: timm.models.densenet.DenseNet(growth_rate=8, block_config=(2, 3)),
    "shufflenet_v2_x0_5": torchvision.models.get_model,
}


def producers(node):
    """The linear operations whose results a node reads, if only moved."""
    for value in node.inputs:
        while value.producer is not None and isinstance(value.producer.op, (Reshape, Transpose)):
            value = value.producer.inputs[0]
        if value.producer is not None and isinstance(value.producer.op, LINEAR):
            yield value.producer


@pytest.mark.parametrize(
    ("name", "objective"), [*((name, "latency") for name in NETWORKS), ("shufflenet_v2_x0_5", "plain"), ("densenet", "plain")]
)
def test_every_pair_that_remains_has_exactly_one_reason(name, objective, randomise):
    model = randomise(NETWORKS[name](name))
    graph = FxDocument.trace(model, torch.randn(1, 3, 64, 64)).lift()
    lines = explain(graph, Rewriter(graph, PASSES, OBJECTIVES[objective]).run().declined)
    told = [(line.value, value) for line in lines for value, _ in line.after]
    pairs = {
        (node.output.label, producer.output.label)
        for node in graph.nodes
        if isinstance(node.op, LINEAR)
        for producer in producers(node)
    }
    assert len(pairs) > 2
    assert len(told) == len(set(told))
    assert pairs <= set(told)
    assert all(line.reason for line in lines)
    assert all(line.rule for line in lines if (line.value, line.after[0][0]) not in pairs), "a refusal across an activation"
    assert [line for line in lines if "no pass in use" in line.reason] == []


def remaining(model, **options):
    report = repcompiler.Report()
    repcompiler.compile(model.eval(), torch.randn(2, 4, 8, 8), report=report, **options)
    return [str(line) for line in report.remaining]


def test_names_are_the_paths_of_modules():
    report = repcompiler.Report()
    model = timm.create_model("resnet18").eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
    repcompiler.compile(model, torch.randn(1, 3, 64, 64), report=report, verify=False)
    assert str(report.remaining[0]) == (
        "'layer1.0.iadd' (Add) after 'layer1.0.conv2' (Conv 64->64 3x3): the skip connection crosses 'layer1.0.act1' (Relu); "
        "carried through, it would cost more (latency 0.000653 -> 0.00128)"
    )
    named = dict(model.named_modules())
    assert all(isinstance(named[value], nn.Conv2d) for line in report.remaining for value, _ in line.after)
    assert len(report.remaining) == 8
    assert len(report.explanation()) == 1


def test_region_inside_what_cannot_be_traced_is_named_by_its_path(randomise):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return self.other(self.one(x)).relu()

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x) if x.sum() > 0 else self.inner(-x)

    assert remaining(Outer()) == [
        "'model.inner.other' (Conv 4->4 3x3) after 'model.inner.one' (Conv 4->4 1x1): "
        "the second pads a map that already carries a bias: exact only inside the image"
    ]


def hooked(module):
    module.register_forward_hook(lambda *_: None)
    return module


class Twice(nn.Module):
    """Its kernel is what it convolves."""

    def forward(self, x):
        return nn.functional.conv_transpose2d(x, x.mean((0, 2, 3), keepdim=True).transpose(0, 1).relu())


LEFT_ALONE = {
    "it has hooks, or a forward of its own": hooked(nn.Conv2d(4, 4, 1)),
    "it has no running statistics": nn.BatchNorm2d(4, track_running_stats=False),
    "its windows may be partial (ceil_mode)": nn.AvgPool2d(3, ceil_mode=True),
    "it does not count padded zeros (count_include_pad)": nn.AvgPool2d(3, padding=1, count_include_pad=False),
    "it pads with something else than zeros, or by a computed amount": nn.ConstantPad2d(1, 1.0),
    "its class is torch.nn.modules.padding.ReflectionPad2d": nn.ReflectionPad2d(1),
}


@pytest.mark.parametrize("reason", LEFT_ALONE)
def test_module_that_is_not_lifted_says_why(reason):
    module = LEFT_ALONE[reason]
    assert remaining(nn.Sequential(nn.ReLU(), module, nn.ReLU())) == [f"'1' ({type(module).__name__}): {reason}"]


def test_convolution_of_a_traced_graph_that_reflects_its_border_says_why():
    layers = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()).eval()
    assert remaining(fx.symbolic_trace(layers)) == ["'1' (Conv2d): its padding_mode is reflect"]


def test_kernel_that_depends_on_data_is_said_to():
    assert remaining(Twice()) == ["'conv_transpose2d' (conv_transpose2d): its weights depend on data"]


@pytest.mark.parametrize("objective", ["latency", "plain"])
def test_a_normalisation_that_nothing_is_carried_through_is_named(objective):
    """Behind it stands an activation that would let the skipped value pass."""
    report = repcompiler.Report()
    network = timm.create_model("convnext_atto").eval()
    repcompiler.compile(network, torch.randn(1, 3, 64, 64), objective=objective, verify=False, report=report)
    first = next(str(line) for line in report.remaining if line.op == "Add")
    assert first.endswith("the skip connection crosses 'stages.0.blocks.0.norm.layer_norm_1' (layer_norm)")
