"""Blocks of published networks with skip connections, in torch: each is plain afterwards, and computes what it did."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


def layer(inputs, outputs, kernel=1, act=nn.ReLU, groups=1):
    """Convolution, normalisation, activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([act()] if act else []))


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class C2f(nn.Module):
    """YOLOv8: parts of a value, the last through bottlenecks one after the other, and all of them concatenated."""

    def __init__(self, act, parted):
        super().__init__()
        self.first, self.last = layer(4, 8, act=act), layer(16, 4, act=act)
        self.inner = nn.ModuleList(Residual(layer(4, 4, 3, act), layer(4, 4, 3, act)) for _ in range(2))
        self.parted = parted

    def forward(self, x):
        parts = self.parted(self.first(x))
        parts.extend(block(parts[-1]) for block in self.inner)
        return x + self.last(torch.cat(parts, 1))


class C3(nn.Module):
    """YOLOv5, a CSP bottleneck."""

    def __init__(self, act):
        super().__init__()
        self.inner = nn.Sequential(layer(4, 2, act=act), Residual(layer(2, 2, 1, act), layer(2, 2, 3, act)))
        self.beside, self.last = layer(4, 2, act=act), layer(4, 4, act=act)

    def forward(self, x):
        return x + self.last(torch.cat((self.inner(x), self.beside(x)), 1))


class Elan(nn.Module):
    """YOLOv7, with a skip connection around it."""

    def __init__(self, act):
        super().__init__()
        self.first, self.second = layer(4, 2, act=act), layer(4, 2, act=act)
        self.third, self.fourth = layer(2, 2, 3, act), layer(2, 2, 3, act)
        self.last = layer(8, 4, act=None)

    def forward(self, x):
        parts = [self.first(x), self.second(x)]
        parts.append(self.third(parts[-1]))
        parts.append(self.fourth(parts[-1]))
        return self.last(torch.cat(parts, 1)) + x


class InceptionResidual(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.branches = nn.ModuleList([layer(4, 2, 1, act), nn.Sequential(layer(4, 2, 1, act), layer(2, 3, 3, act))])
        self.last, self.act = nn.Conv2d(5, 4, 1), act()

    def forward(self, x):
        return self.act(x + 0.17 * self.last(torch.cat([branch(x) for branch in self.branches], 1)))


class Root(nn.Module):
    """Deep layer aggregation: one of the branches is added again."""

    def __init__(self, act):
        super().__init__()
        self.first, self.second = layer(4, 6, 3, act), layer(6, 6, 3, act)
        self.last, self.act = layer(12, 6, act=None), act()

    def forward(self, x):
        first = self.first(x)
        second = self.second(first)
        return self.act(self.last(torch.cat([second, first], 1)) + second)


class ConvMixer(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.depthwise = Residual(nn.Conv2d(4, 4, 5, padding=2, groups=4), act(), nn.BatchNorm2d(4))
        self.pointwise = nn.Conv2d(4, 6, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class QuickGELU(nn.Module):
    """CLIP."""

    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class HSwish(nn.Module):
    """MobileNetV3, before torch had it."""

    def forward(self, x):
        return x * F.relu6(x + 3.0) / 6.0


class NewGELU(nn.Module):
    """GPT-2."""

    def forward(self, x):
        return 0.5 * x * (1.0 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0))))


ACTIVATIONS = [nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.PReLU]
WRITTEN = {QuickGELU: "mul sigmoid mul", HSwish: "add clamp mul", NewGELU: "mul pow mul add mul tanh add mul"}
PARTS = {
    "list of chunks": lambda y: list(y.chunk(2, 1)),
    "list of a split": lambda y: list(torch.split(y, (4, 4), dim=1)),
    "unpacked": lambda y: (lambda a, b: [a, b])(*y.chunk(2, 1)),
}


def of_any(block):
    return pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: act.__name__)(block)


def assert_no_sum(called):
    assert not {"add", "iadd", "sub", "mul", "batch_norm"} & set(called.split()), called


@of_any
@pytest.mark.parametrize("block", [C3, Elan, InceptionResidual, Root, ConvMixer], ids=lambda block: block.__name__)
def test_blocks_with_branches_inside(act, block, plain):
    assert_no_sum(plain(block(act)))


@pytest.mark.parametrize(("act", "operations"), WRITTEN.items(), ids=lambda act: getattr(act, "__name__", ""))
def test_activations_that_a_network_writes_out_itself(act, operations, plain):
    assert plain(Residual(layer(4, 6, 3, act), layer(6, 4, 3, None))) == f"Conv2d {operations} Conv2d"


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("act", [nn.ReLU, nn.SiLU], ids=lambda act: act.__name__)
def test_parts_of_channels_as_yolo_takes_them(act, parts, plain):
    assert_no_sum(plain(C2f(act, PARTS[parts])))


@of_any
def test_a_depthwise_layer_stays_depthwise_where_it_comes_first_or_last(act, exactly, calls):
    for block in (
        Residual(layer(4, 4, 3, act, groups=4), layer(4, 4, act=None)),
        Residual(layer(4, 4, 1, act), layer(4, 4, 3, None, groups=4)),
    ):
        result, _ = exactly(block)
        wide = [module for module in result.modules() if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)]
        assert [module.groups for module in wide] == [4]
        assert_no_sum(calls(result))


class Refined(nn.Module):
    """Res2Net: each part is added to what was made of the one before, which is also a result."""

    def __init__(self, act):
        super().__init__()
        self.first, self.last = layer(4, 6, 1, act), layer(6, 4, act=None)
        self.inner = nn.ModuleList(layer(2, 2, 3, act) for _ in range(2))

    def forward(self, x):
        parts = torch.split(self.first(x), 2, 1)
        one = self.inner[0](parts[0])
        two = self.inner[1](one + parts[1])
        return x + self.last(torch.cat([one, two, parts[2]], 1))


@of_any
def test_of_res2net_the_sums_go_whose_terms_others_read(act, plain):
    assert_no_sum(plain(Refined(act)))


class Padded(nn.Module):
    """Of ResNets for small images: a shortcut of every second pixel, and zeros for the channels that are missing."""

    def __init__(self, act):
        super().__init__()
        body = nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), act(), layer(8, 8, 3, None)
        self.body, self.act = nn.Sequential(*body), act()

    def forward(self, x):
        return self.act(self.body(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))


@of_any
def test_a_shortcut_that_lacks_channels_carries_only_those_it_has(act, exactly, calls):
    result, _ = exactly(Padded(act))
    assert_no_sum(calls(result))
    reserved = 4 if act in (nn.LeakyReLU, nn.PReLU, nn.ReLU6) else 8
    assert [module.out_channels for module in result.modules() if isinstance(module, nn.Conv2d)] == [8 + reserved, 8]


class Eca(nn.Module):
    """Efficient channel attention (Wang et al., CVPR 2020), its signal made of the means as `forth` and `back` say."""

    def __init__(self, forth, back):
        super().__init__()
        self.avg_pool, self.conv = nn.AdaptiveAvgPool2d(1), nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.forth, self.back = forth, back

    def forward(self, x):
        return x * self.back(self.conv(self.forth(self, x)), x).expand_as(x)


AS_A_SIGNAL = {
    "as the authors write it": (
        lambda m, x: m.avg_pool(x).squeeze(-1).transpose(-1, -2),
        lambda y, x: torch.sigmoid(y.transpose(-1, -2).unsqueeze(-1)),
    ),
    "views, as timm does": (
        lambda m, x: x.mean((2, 3)).view(x.shape[0], 1, -1),
        lambda y, x: torch.sigmoid(y).view(x.shape[0], -1, 1, 1),
    ),
    "views of the pooled image": (
        lambda m, x: m.avg_pool(x).view(x.size(0), 1, x.size(1)),
        lambda y, x: F.hardsigmoid(y).view(x.size(0), x.size(1), 1, 1),
    ),
    "new axes": (
        lambda m, x: x.mean((2, 3)).unsqueeze(1),
        lambda y, x: torch.sigmoid(y.squeeze(1)[:, :, None, None]),
    ),
    "flattened": (
        lambda m, x: m.avg_pool(x).flatten(1).unsqueeze(1),
        lambda y, x: y.permute(0, 2, 1).unsqueeze(-1).sigmoid(),
    ),
}


@pytest.mark.parametrize("signal", AS_A_SIGNAL.values(), ids=AS_A_SIGNAL)
def test_efficient_channel_attention(signal, plain):
    inside = plain(Residual(layer(4, 6, 3), Eca(*signal), layer(6, 4, 3, None)))
    at_the_end = plain(Residual(layer(4, 6, 3), layer(6, 4, 3, None), Eca(*signal)))
    for called, before in (inside, "conv2d relu"), (at_the_end, "conv2d relu conv2d"):
        assert called.lower().replace("hardsigmoid", "sigmoid") == f"{before} mean conv2d sigmoid mul conv2d"
