"""Networks nobody here wrote, through both frontends: what skips an activation is gone, or there is a reason."""

import onnx
import pytest
import torch
from mobileone import export_training_form, settle_batch_norms
from torch import nn

import repcompiler

timm = pytest.importorskip("timm")

IMAGE = (1, 3, 45, 37)
NETWORKS = {
    "legacy_seresnet18": 8,
    "eca": 4,
    "mobilenetv2_035": 10,
    "mobilenetv3_small_050": 7,
    "efficientnet_b0": 9,
    "regnety_002": 13,
    "repvgg_a0": 0,
    "ghostnet_050": 16,
    "densenet": 0,
    "preactivation": 4,
    "csp": 3,
    "convmixer": 2,
    "res2net": 10,
}
"""How many skip connections each has; with Res2Net's also values that others read, which take three steps of their own."""


def layer(inputs, outputs, kernel=1, stride=1):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.SiLU())


class Bottleneck(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Stage(nn.Module):
    """Half of the channels through bottlenecks, the other half beside them."""

    def __init__(self, channels, depth):
        super().__init__()
        half = channels // 2
        self.first, self.beside, self.last = layer(channels, half), layer(channels, half), layer(channels, channels)
        self.inner = nn.Sequential(*(Bottleneck(layer(half, half), layer(half, half, 3)) for _ in range(depth)))

    def forward(self, x):
        return self.last(torch.cat((self.inner(self.first(x)), self.beside(x)), 1))


def csp():
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(layer(3, 8, 3, 2), Stage(8, 1), layer(8, 16, 3, 2), Stage(16, 2), *head)


OWN = {
    "csp": csp,
    "eca": lambda: timm.models.resnet.ResNet(
        timm.models.resnet.BasicBlock, (1, 1, 1, 1), 10, channels=(8, 8, 16, 16), block_args={"attn_layer": "eca"}
    ),
    "convmixer": lambda: timm.models.convmixer.ConvMixer(16, 2, 3, 4, num_classes=10, act_layer=nn.GELU),
    "res2net": lambda: timm.models.resnet.ResNet(
        timm.models.res2net.Bottle2neck, (2, 1, 1, 1), 10, channels=(8, 16, 16, 16), base_width=16, block_args={"scale": 4}
    ),
    "densenet": lambda: timm.models.densenet.DenseNet(growth_rate=8, block_config=(2, 3), num_classes=10),
    "preactivation": lambda: timm.models.resnetv2.ResNetV2(
        (1, 1, 1, 1), (16, 16, 32, 32), 10, stem_chs=8, preact=True, bottle_ratio=0.5, conv_layer=timm.layers.create_conv2d,
        norm_layer=timm.layers.BatchNormAct2d,
    ),
}  # fmt: skip


def trained(name):
    torch.manual_seed(0)
    return settle_batch_norms(OWN[name]() if name in OWN else timm.create_model(name, num_classes=10), IMAGE)


def sums(report):
    """Additions before and after."""
    counts = [{kind.lower(): count for kind, count in s.operators.items()} for s in (report.before, report.after)]
    return [count.get("add", 0) for count in counts]


def assert_plain(report, name):
    assert report.verification.checked
    assert report.verification.equal
    assert not report.reverted
    removed = [step for step in report.steps if step.rule in ("remove_residual", "add_among_branches")]
    assert len(removed) == NETWORKS[name]
    assert sums(report)[1] == 0
    assert not {kind for kind in report.after.operators if "norm" in kind.lower()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_plain(name):
    report = repcompiler.Report()
    repcompiler.compile(trained(name), torch.randn(IMAGE), objective="plain", report=report)
    assert_plain(report, name)


@pytest.mark.parametrize(
    "name",
    [
        "legacy_seresnet18",
        "eca",
        "mobilenetv2_035",
        "mobilenetv3_small_050",
        "csp",
        "preactivation",
        "convmixer",
        "densenet",
        "res2net",
    ],
)
def test_a_file_is_plain(name, tmp_path):
    export_training_form(trained(name), tmp_path / "source.onnx", IMAGE)
    report = repcompiler.Report()
    result = repcompiler.compile(tmp_path / "source.onnx", objective="plain", report=report)
    onnx.checker.check_model(result)
    assert_plain(report, name)


def test_a_normalisation_over_channels_is_in_the_way():
    report = repcompiler.Report()
    network = timm.create_model("convnext_atto", num_classes=10, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)).eval()
    repcompiler.compile(network, torch.randn(1, 3, 64, 64), objective="plain", report=report)
    assert sums(report) == [4, 4]
    reasons = {line.reason.partition("'")[0] + line.reason.rpartition("' ")[2] for line in report.remaining if line.op == "Add"}
    assert reasons == {"the skip connection crosses (layer_norm)"}
