"""The scripts of examples/ about skip connections, on small images: the reference figures are of 224x224 ones."""

import pytest
import torch
from mobilenetv2_to_v1 import mobilenet_v2
from mobileone import settle_batch_norms
from plain_form import Size, made_plain, size_of
from resnet_to_vgg import resnet
from rmrep import rmrep
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


@pytest.mark.parametrize(
    ("depth", "repvgg", "reserved"),
    [
        (21, 2_400_931_840, 2_144_030_720),
        (37, 4_456_140_800, 3_942_338_560),
        (69, 8_566_558_720, 6_511_349_760),
        (133, 16_787_394_560, 10_621_767_680),
    ],
)
def test_rmrep_takes_less_arithmetic_in_training_than_repvgg(depth, repvgg, reserved):
    assert (size_of(rmrep(depth, 0.0)).macs, size_of(rmrep(depth)).macs) == (repvgg, reserved)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.75])
def test_each_block_of_rmrep_is_one_convolution(ratio):
    """Under `latency` it computes only what is not reserved, where a concatenation is cheaper than that much of a layer."""
    network = settle_batch_norms(rmrep(21, ratio), (1, 3, 64, 64))
    for objective in ("plain", "latency"):
        result, report = made_plain(network, 45, objective)
        assert report.verification.checked
        assert size_of(result).convolutions == 21
        beside = {"getitem", "cat"} if ratio and objective == "latency" else set()
        assert kinds(result) - beside == {"Conv2d", "relu", "AdaptiveAvgPool2d", "Flatten", "Linear"}
