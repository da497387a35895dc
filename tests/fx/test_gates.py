"""Gates of torch: what they are lifted as, and two branches weighed by a softmax over their means (SPConv)."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from repcompiler.frontends.fx import FxDocument
from repcompiler.ops import GlobalAvgPool, Identity, Mul, Opaque, Reshape, Select, Sigmoid, Softmax, Stack, Take


class Then(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(4, 4, 1), function

    def forward(self, x):
        return F.elu(self.function(self.conv(x)))


def lifted(function):
    graph = FxDocument.trace(Then(function).eval(), torch.randn(2, 4, 12, 10)).lift()
    return [node.op for node in graph.topological()[1:-1]]


KNOWN = {
    "Sigmoid": (nn.Sigmoid(), [Sigmoid()]),
    "F.sigmoid": (F.sigmoid, [Sigmoid()]),
    "x.sigmoid": (lambda x: x.sigmoid(), [Sigmoid()]),
    "Softmax": (nn.Softmax(1), [Softmax(1)]),
    "F.softmax": (lambda x: F.softmax(x, dim=-1), [Softmax(3)]),
    "torch.softmax": (lambda x: torch.softmax(x, 1), [Softmax(1)]),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d(1), [GlobalAvgPool()]),
    "F.adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (1, 1)), [GlobalAvgPool()]),
    "x.mean": (lambda x: x.mean((2, 3), keepdim=True), [GlobalAvgPool()]),
    "torch.mean": (lambda x: torch.mean(x, dim=[-1, -2], keepdim=True), [GlobalAvgPool()]),
    "x.mean without its axes": (lambda x: x.mean([2, 3]), [GlobalAvgPool(dropped=2)]),
    "means viewed as a signal": (
        lambda x: x.mean((2, 3)).view(x.shape[0], 1, -1),
        [GlobalAvgPool(dropped=2), Reshape((0, 1, -1))],
    ),
    "a pooled image viewed as a row": (
        lambda x: F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1),
        [GlobalAvgPool(), Reshape((0, -1))],
    ),
    "x[:, None]": (lambda x: x[:, None], [Reshape((0, 1, 4), tail=2)]),
    "x[:, :, None, None]": (lambda x: x.mean((2, 3))[:, :, None, None], [GlobalAvgPool(dropped=2), Reshape((0, 4, 1, 1))]),
    "x[:, 1]": (lambda x: x[:, 1], [Take(1, 1, keep=False)]),
    "x[:, -1]": (lambda x: x[:, -1], [Take(1, 3, keep=False)]),
    "x.select": (lambda x: x.select(1, 2), [Take(1, 2, keep=False)]),
    "x.narrow": (lambda x: x.narrow(1, 2, 1), [Take(1, 2, keep=True)]),
    "channels by narrow": (lambda x: x.narrow(1, -3, 2), [Select((1, 2))]),
    "squeeze": (
        lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(2),
        [GlobalAvgPool(), Reshape((0, 4, 1)), Reshape((0, 4))],
    ),
    "unsqueeze": (lambda x: x.unsqueeze(1), [Reshape((0, 1, 4), tail=2)]),
    "stack": (lambda x: torch.stack((x, x.sigmoid()), 1), [Sigmoid(), Stack(1, new=True)]),
    "cat of single numbers": (
        lambda x: torch.cat([x.mean((2, 3), keepdim=True)] * 2, -1),
        [GlobalAvgPool(), Stack(3, new=False)],
    ),
    "product": (lambda x: x * x.sigmoid(), [Sigmoid(), Mul()]),
    "expand_as within a product": (
        lambda x: x * x.mean((2, 3), keepdim=True).expand_as(x),
        [GlobalAvgPool(), Identity(), Mul()],
    ),
}
UNKNOWN = {
    "softmax in another type": lambda x: F.softmax(x, 1, dtype=torch.float64),
    "a mean of channels": lambda x: x.mean(1, keepdim=True),
    "a pool to several pixels": nn.AdaptiveAvgPool2d((1, 2)),
    "squeeze of whatever is single": lambda x: x.squeeze(),
    "narrow to two pixels": lambda x: x.narrow(2, 0, 2),
    "narrow to nothing": lambda x: x.narrow(1, 0, 0),
    "a pixel of an unknown extent": lambda x: x[:, :, 3],
    "expand_as read elsewhere": lambda x: x.mean((2, 3), keepdim=True).expand_as(x).abs(),
}


@pytest.mark.parametrize(("function", "ops"), KNOWN.values(), ids=KNOWN)
def test_it_is_lifted(function, ops):
    assert lifted(function) == ops


@pytest.mark.parametrize("function", UNKNOWN.values(), ids=UNKNOWN)
def test_what_no_equation_covers_stays_opaque(function):
    assert any(isinstance(op, Opaque) for op in lifted(function))


class SPConv(nn.Module):
    """As the authors write it, without the batch norm that follows."""

    def __init__(self, channels=8, out_channels=6, part=4, stride=1):
        super().__init__()
        self.part, self.out_channels, self.stride = part, out_channels, stride
        self.gwc = nn.Conv2d(part, out_channels, 3, stride, 1, groups=2, bias=False)
        self.pwc = nn.Conv2d(part, out_channels, 1, bias=False)
        self.conv1x1 = nn.Conv2d(channels - part, out_channels, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
        self.avgpool_s2 = nn.AvgPool2d(2, 2)
        self.avgpool_add_1, self.avgpool_add_3 = nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        batch = x.size()[0]
        x_3x3, x_1x1 = x[:, : self.part], x[:, self.part :]
        out_3x3 = self.gwc(x_3x3)
        if self.stride == 2:
            x_3x3, x_1x1 = self.avgpool_s2(x_3x3), self.avgpool_s2(x_1x1)
        out_3x3 = self.bn1(out_3x3 + self.pwc(x_3x3))
        out_1x1 = self.bn2(self.conv1x1(x_1x1))
        ratio_3x3 = self.avgpool_add_3(out_3x3).squeeze(dim=3).squeeze(dim=2)
        ratio_1x1 = self.avgpool_add_1(out_1x1).squeeze(dim=3).squeeze(dim=2)
        ratio = F.softmax(torch.stack((ratio_3x3, ratio_1x1), 2), dim=2)
        return out_1x1 * ratio[:, :, 1].view(batch, self.out_channels, 1, 1).expand_as(out_1x1) + out_3x3 * ratio[:, :, 0].view(
            batch, self.out_channels, 1, 1
        ).expand_as(out_3x3)


class Briefly(SPConv):
    """The same in other words."""

    def forward(self, x):
        a = self.bn1(self.gwc(x[:, : self.part]) + self.pwc(x[:, : self.part]))
        b = self.bn2(self.conv1x1(x[:, self.part :]))
        weights = torch.stack([F.adaptive_avg_pool2d(a, 1), b.mean((2, 3), keepdim=True)]).softmax(0)
        return a * weights[0] + b * weights[1]


@pytest.mark.parametrize("form", [SPConv, Briefly])
def test_spconv_is_two_convolutions_and_a_sigmoid(plain, form):
    assert plain(form(), channels=8) == "Conv2d Conv2d mean sigmoid mul add"


class Even(nn.Module):
    """A block on an even part of the image: strided branches agree there alone."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(F.interpolate(x, size=(12, 10)))


def test_strided_spconv_too(plain):
    assert plain(Even(SPConv(stride=2)), channels=8) == "interpolate Conv2d pad Conv2d mean sigmoid mul add"


def test_batch_norm_behind_the_gate_stays(plain):
    assert plain(nn.Sequential(SPConv(), nn.BatchNorm2d(6)), channels=8) == "Conv2d Conv2d mean sigmoid mul add BatchNorm2d"


def test_gate_in_place_computes_what_it_did(exactly):
    class InPlace(SPConv):
        def forward(self, x):
            a, b = self.gwc(x[:, : self.part]), self.conv1x1(x[:, self.part :])
            weights = torch.stack([a.mean((2, 3), keepdim=True), b.mean((2, 3), keepdim=True)]).softmax(0)
            a *= weights[0]
            b.mul_(weights[1])
            return a.add_(b)

    exactly(InPlace(), channels=8)


class Widened(nn.Module):
    """A block whose channels were copied, as Net2Net does."""

    def __init__(self, f):
        super().__init__()
        self.first, self.f, self.second = nn.Conv2d(4, 6, 3, padding=1), f, nn.Conv2d(6, 3, 3, padding=1)
        with torch.no_grad():
            self.first.weight[3:] = self.first.weight[:3]
            self.first.bias[3:] = self.first.bias[:3]

    def forward(self, x):
        return self.second(self.f(self.first(x)))


@pytest.mark.parametrize("f", [nn.ReLU6(), nn.Sigmoid(), nn.Sequential(nn.MaxPool2d(2, 1), nn.LeakyReLU(0.1, inplace=True))])
def test_channels_that_were_copied_are_computed_once(exactly, f):
    result, _ = exactly(Widened(f))
    assert [tuple(weight.shape) for weight in result.parameters() if weight.ndim == 4] == [(3, 4, 3, 3), (3, 3, 3, 3)]
