"""The scripts of examples/ about skip connections, on small images: the reference figures are of 224x224 ones."""

import pytest
import torch
from mobilenetv2_to_v1 import mobilenet_v2
from plain_form import Size, made_plain, size_of
from resnet_to_vgg import resnet
from torch import fx, nn


def kinds(result: fx.GraphModule):
    modules = dict(result.named_modules())
    called = [node for node in result.graph.nodes if node.op.startswith("call")]
    return {type(modules[node.target]).__name__ if node.op == "call_module" else node.target.__name__ for node in called}


@pytest.mark.parametrize(
    ("depth", "before", "after"),
    [
        (18, Size(20, 11_689_512, 1_814_073_344), Size(17, 20_176_296, 3_210_973_184)),
        (34, Size(36, 21_797_672, 3_663_761_408), Size(33, 40_383_336, 6_910_349_312)),
        (50, Size(53, 25_557_032, 4_089_184_256), Size(49, 94_996_456, 16_009_396_224)),
    ],
)
def test_resnet_is_a_chain_of_convolutions(depth, before, after):
    network = resnet(depth)
    result, report = made_plain(network, 40)
    assert report.verification.checked
    assert (size_of(network), size_of(result)) == (before, after)
    assert kinds(result) == {"Conv2d", "ReLU", "relu", "MaxPool2d", "AdaptiveAvgPool2d", "flatten", "Linear"}


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_mobilenet_v2_is_v1_also_where_activations_pass_the_bound(gain):
    network = mobilenet_v2(gain)
    result, report = made_plain(network, 40)
    assert report.verification.checked
    assert (size_of(network), size_of(result)) == (Size(52, 3_504_872, 300_774_272), Size(35, 7_521_040, 848_285_376))
    assert (largest_before_clip(network) > 6.0).sum() >= (35 if gain > 1.0 else 0)


def largest_before_clip(network):
    largest = []
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.register_forward_pre_hook(lambda module, inputs: largest.append(inputs[0].max()))
    network(torch.randn(1, 3, 40, 40))
    return torch.stack(largest)
