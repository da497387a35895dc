"""Blocks as their authors train them, as torch modules and as the files that torch makes of them: both come out plain.

What is counted are the operations with weights and those that join branches.
"""

import io
import re
import warnings
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import repcompiler
from repcompiler.runtime import session

KINDS = {
    "ConvT": r"conv_?transpose(\dd)?",
    "Conv": r"conv(\dd)?",
    "BN": r"batch_?norm(\dd|alization)?",
    "Linear": r"linear|gemm|matmul",
    "Add": r"add|iadd|sub|isub|sum",
    "Concat": r"cat|concat",
    "Slice": r"getitem|slice",
    "Transpose": r"permute|transpose",
    "Reshape": r"reshape|flatten|view",
}


def counted(names):
    kinds = (next((kind for kind, words in KINDS.items() if re.fullmatch(words, name, re.IGNORECASE)), "") for name in names)
    return " ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()) if kind)


def conv_bn(c, o, k=1, stride=1, groups=1, **options):
    return nn.Sequential(nn.Conv2d(c, o, k, stride, k // 2, groups=groups, bias=False, **options), nn.BatchNorm2d(o))


class QARepVGG(nn.Module):
    """Chu et al., QARepVGG, AAAI 2024, version 2: one norm for all branches."""

    def __init__(self):
        super().__init__()
        self.dense, self.point = conv_bn(8, 8, 3), nn.Conv2d(8, 8, 1, bias=False)
        self.average, self.norm = nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(8)

    def forward(self, x):
        return F.relu(self.norm(self.dense(x) + self.point(x) + x + self.average(x)))


class RepViT(nn.Module):
    """Wang et al., RepViT, CVPR 2024: token mixer and head with distillation."""

    def __init__(self):
        super().__init__()
        self.conv, self.point, self.norm = conv_bn(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1, groups=8), nn.BatchNorm2d(8)
        self.heads = nn.ModuleList(nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 5)) for _ in range(2))

    def forward(self, x):
        x = F.gelu(self.norm((self.conv(x) + self.point(x)) + x)).mean((2, 3))
        one, two = (head(x) for head in self.heads)
        return (one + two) / 2


class RepNeXt(nn.Module):
    """Zhao et al., RepNeXt, 2024: strips, squares and dilated kernels on a part of the channels each."""

    def __init__(self):
        super().__init__()
        shapes = [((1, 7), (0, 3), 1), ((7, 1), (3, 0), 1), (3, 1, 1), (3, 2, 2)]
        self.small = nn.ModuleList(nn.Conv2d(4, 4, k, padding=p, dilation=d, groups=4) for k, p, d in shapes)
        self.large, self.norm, self.outer = conv_bn(4, 4, 11, groups=4), nn.BatchNorm2d(4), nn.BatchNorm2d(8)

    def forward(self, x):
        one, two = torch.split(x, [4, 4], dim=1)
        one = self.norm(sum(conv(one) for conv in self.small) + one)
        return x + self.outer(torch.cat([one, self.large(two)], 1))


class VanillaNet(nn.Module):
    """Chen et al., VanillaNet, NeurIPS 2023, at the end of deep training: its inner activation has become the identity."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, eps=1e-6))
        self.two = nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16, eps=1e-6))
        self.weight, self.norm = nn.Parameter(torch.randn(16, 1, 7, 7)), nn.BatchNorm2d(16, eps=1e-6)

    def forward(self, x):
        x = F.max_pool2d(self.two(F.leaky_relu(self.one(x), 1.0)), 2)
        return self.norm(F.conv2d(F.relu(x), self.weight, padding=3, groups=16))


class RepBN(nn.Module):
    """Guo et al., SLAB, ICML 2024: batch norm and a share of the identity in the place of layer norm."""

    def __init__(self):
        super().__init__()
        self.alpha, self.norm, self.fc = nn.Parameter(torch.ones(1)), nn.BatchNorm1d(8), nn.Linear(8, 16)

    def forward(self, x):
        x = x.flatten(2)
        x = self.norm(x) + self.alpha * x
        return F.gelu(self.fc(x.transpose(1, 2)))


class DOConv(nn.Module):
    """Cao et al., DO-Conv, IEEE TIP 2022: a depthwise kernel multiplied into the kernel each time."""

    def __init__(self):
        super().__init__()
        self.W, self.D = nn.Parameter(torch.randn(12, 8, 9)), nn.Parameter(torch.randn(8, 9, 9))
        self.register_buffer("diagonal", torch.eye(9).repeat(8, 1, 1))
        self.norm = nn.BatchNorm2d(12)

    def forward(self, x):
        weight = torch.einsum("ims,ois->oim", self.D + self.diagonal, self.W).reshape(12, 8, 3, 3)
        return self.norm(F.conv2d(x, weight, padding=1))


class ESP(nn.Module):
    """Mehta et al., ESPNet, ECCV 2018: dilated convolutions, each added to those before."""

    def __init__(self):
        super().__init__()
        self.reduce, self.norm, self.act = nn.Conv2d(8, 2, 1, bias=False), nn.BatchNorm2d(10), nn.PReLU(10)
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=d, dilation=d, bias=False) for d in (1, 2, 4, 8, 16))

    def forward(self, x):
        x = self.reduce(x)
        first, *others = [conv(x) for conv in self.convs]
        sums = [sum(others[1 : stop + 1], others[0]) for stop in range(4)]
        return self.act(self.norm(torch.cat([first, *sums], 1)))


class LCNetV3(nn.Module):
    """PaddlePaddle, PP-LCNetV3: many branches, then one scale and shift for all of them."""

    def __init__(self):
        super().__init__()
        self.norm, self.branches = nn.BatchNorm2d(8), nn.ModuleList(conv_bn(8, 8, k, groups=8) for k in (1, 3, 3, 3, 3))
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        out = 0
        out += self.norm(x)
        for branch in self.branches:
            out += branch(x)
        return F.hardswish(self.scale * out + self.shift)


class XLSR(nn.Module):
    """Ayazoglu, XLSR, CVPR workshops 2021: a loop over the parts of the channels."""

    def __init__(self):
        super().__init__()
        self.convs, self.mix = nn.ModuleList(nn.Conv2d(2, 4, 3, padding=1) for _ in range(4)), nn.Conv2d(16, 8, 1)

    def forward(self, x):
        return self.mix(torch.cat([conv(part) for conv, part in zip(self.convs, torch.chunk(x, 4, dim=1), strict=True)], 1))


class Focus(nn.Module):
    """Ultralytics, YOLOv5; Ge et al., YOLOX, 2021."""

    def __init__(self):
        super().__init__()
        self.conv = conv_bn(32, 8, 3)

    def forward(self, x):
        return F.silu(self.conv(torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1)))


class Decoder(nn.Module):
    """Xie et al., SegFormer, NeurIPS 2021: fully connected layers on the channels, mixed at the size of the largest map."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 16) for _ in range(2))
        self.mix, self.norm, self.head = nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16), nn.Conv2d(16, 3, 1)

    def forward(self, x):
        maps = [x, F.relu(F.avg_pool2d(x, 3, 1, 1))]
        maps = [layer(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for layer, y in zip(self.layers, maps, strict=True)]
        return self.head(F.relu(self.norm(self.mix(torch.cat(maps, 1)))))


class Adapted(nn.Module):
    """Hu et al., LoRA, ICLR 2022, as peft and loralib write it, in front of a norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.scale = nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), 0.5
        self.A, self.B = nn.Parameter(torch.randn(6, 24)), nn.Parameter(torch.randn(36, 6))

    def forward(self, x):
        weight = self.conv.weight + (self.B @ self.A).view(self.conv.weight.shape) * self.scale
        return self.norm(self.conv._conv_forward(x.to(weight.dtype), weight, self.conv.bias))


class CReLU(nn.Module):
    """Shang et al., CReLU, ICML 2016, as in PVANet: a map and its negative, then a scale and shift."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.after = conv_bn(8, 6, 3), nn.BatchNorm2d(12), nn.Conv2d(12, 8, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        return self.after(F.relu(self.norm(torch.cat((x, -x), 1))))


NETWORKS = {
    QARepVGG: "1 Conv",
    RepViT: "1 Conv 1 Linear",
    RepNeXt: "1 Conv",
    VanillaNet: "2 Conv",
    RepBN: "1 Linear 1 Reshape 1 Transpose",
    DOConv: "1 Conv",
    ESP: "1 Conv",
    LCNetV3: "1 Conv",
    XLSR: "1 Conv",
    Focus: "1 Conv",
    Decoder: "1 Concat 4 Conv",
    Adapted: "1 Conv",
    CReLU: "2 Conv",
}
IMAGE = (2, 8, 12, 18)


def exported(model, x, opset):
    """The file that torch's exporter makes of a model, nothing in it folded."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter itself
        torch.onnx.export(
            model,
            (x,),
            file,
            dynamo=False,
            opset_version=opset,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
@pytest.mark.parametrize("objective", ["plain", "latency", "macs"])
def test_the_module_comes_out_plain(network, objective, exactly, calls):
    result, _ = exactly(network(), shape=IMAGE, objective=objective)
    if objective == "plain":
        assert counted(calls(result).split()) == NETWORKS[network]


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_the_file_comes_out_plain(network, opset, randomise):
    model, x = randomise(network()), torch.randn(IMAGE)
    source = exported(model, x, opset)
    report = repcompiler.Report()
    result = repcompiler.compile(source, objective="plain", report=report)
    assert not report.reverted
    assert report.verification.checked
    with torch.no_grad():
        expected = model.double()(x.double()).numpy()
    (name,) = (value.name for value in source.graph.input)
    (actual,) = session(result.SerializeToString()).run(None, {name: x.numpy()})
    np.testing.assert_allclose(actual, expected, atol=1e-4 * abs(expected).max(), rtol=0)
    names = [node.op_type for node in result.graph.node]
    assert counted(name for name in names if name != "Add" or "Erf" not in names) == NETWORKS[network]  # a GELU adds
