"""A frame written by slice assignment around a map: moved in front of a pointwise convolution where it holds the map's zero."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import repcompiler
from repcompiler.frontends.fx import FxDocument
from repcompiler.ops import Frame, Pad


def of_zero(bn):
    """What a batch norm makes of zero, as the authors of the diverse branch block compute it."""
    return bn.bias.detach() - bn.running_mean * bn.weight.detach() / torch.sqrt(bn.running_var + bn.eps)


def write_frame(x, width, value):
    x[:, :, 0:width, :] = value
    x[:, :, -width:, :] = value
    x[:, :, :, 0:width] = value
    x[:, :, :, -width:] = value


class BNAndPad(nn.Module):
    """Batch norm in a frame of `value(bn)`."""

    def __init__(self, channels, width, value=of_zero):
        super().__init__()
        self.bn, self.width, self.value = nn.BatchNorm2d(channels), width, value

    def forward(self, x):
        out = self.bn(x)
        frame = self.value(self.bn)
        out = F.pad(out, [self.width] * 4)
        frame = frame.view(1, -1, 1, 1)
        write_frame(out, self.width, frame)
        return out


class DiverseBranchBlock(nn.Module):
    """Ding et al., CVPR 2021: all four branches."""

    def __init__(self, kernel=3, stride=1, groups=1, value=of_zero):
        super().__init__()
        p = kernel // 2
        self.origin = nn.Sequential(nn.Conv2d(4, 4, kernel, stride, p, groups=groups, bias=False), nn.BatchNorm2d(4))
        self.point = nn.Sequential(nn.Conv2d(4, 4, 1, stride, groups=groups, bias=False), nn.BatchNorm2d(4))
        self.average = nn.Sequential(
            nn.Conv2d(4, 4, 1, groups=groups, bias=False),
            BNAndPad(4, p, value),
            nn.AvgPool2d(kernel, stride),
            nn.BatchNorm2d(4),
        )
        self.sequence = nn.Sequential(
            nn.Conv2d(4, 6, 1, groups=groups, bias=False),
            BNAndPad(6, p, value),
            nn.Conv2d(6, 4, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(4),
        )

    def forward(self, x):
        out = self.origin(x)
        out += self.point(x)
        out += self.average(x)
        out += self.sequence(x)
        return F.relu(out)


@pytest.mark.parametrize("objective", ["plain", "latency"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1)])
def test_a_diverse_branch_block_becomes_one_convolution(plain, kernel, stride, groups, objective):
    assert plain(DiverseBranchBlock(kernel, stride, groups), objective=objective) == "Conv2d relu"


def test_in_single_precision_the_frame_is_the_same_number_but_for_rounding(randomise, calls, same):
    block = randomise(DiverseBranchBlock())
    report = repcompiler.Report()
    result = repcompiler.compile(block, torch.randn(2, 4, 13, 18), report=report)
    assert calls(result) == "Conv2d relu"
    assert report.verification.checked
    assert not report.reverted
    for size in ((9, 8), (1, 1), (2, 3)):
        x = torch.randn(2, 4, *size)
        with torch.no_grad():
            same(copy.deepcopy(block).double()(x.double()), result(x).double(), 1e-5)


def test_the_result_is_unpickled_without_this_package(randomise):
    x = torch.randn(1, 4, 7, 6)
    result = repcompiler.compile(randomise(DiverseBranchBlock()), x)
    data = pickle.dumps(result)
    assert b"repcompiler" not in data
    assert torch.equal(pickle.loads(data)(x), result(x))


class EdgeOriented(nn.Module):
    """A branch of ECBSR (Zhang et al., 2021): pointwise with bias, a frame of that bias, then a fixed scaled filter."""

    def __init__(self):
        super().__init__()
        self.point = nn.Conv2d(4, 4, 1)
        self.scale, self.bias = nn.Parameter(torch.randn(4, 1, 1, 1)), nn.Parameter(torch.randn(4))
        self.mask = nn.Parameter(torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]).repeat(4, 1, 1, 1), requires_grad=False)

    def forward(self, x):
        y = F.conv2d(input=x, weight=self.point.weight, bias=self.point.bias, stride=1)
        y = F.pad(y, (1, 1, 1, 1), "constant", 0)
        frame = self.point.bias.view(1, -1, 1, 1)
        write_frame(y, 1, frame)
        return F.conv2d(input=y, weight=self.scale * self.mask, bias=self.bias, stride=1, groups=4)


def test_an_edge_oriented_branch_becomes_one_convolution(plain):
    assert plain(EdgeOriented()) in ("Conv2d", "mul Conv2d")


class RepresentedResidual(nn.Module):
    """RRRB of FMEN (Du et al., 2022): what is framed is read as it is, too."""

    def __init__(self):
        super().__init__()
        self.expand, self.feature, self.reduce = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = self.expand(x)
        z = F.pad(y, (1, 1, 1, 1))
        write_frame(z, 1, self.expand.bias.view(1, -1, 1, 1))
        return self.reduce(self.feature(z) + y) + x


def test_what_is_framed_may_be_read_as_it_is_too(plain):
    assert plain(RepresentedResidual()) == "Conv2d"


def zeros(bn):
    return torch.zeros_like(bn.bias)


def beta(bn):
    return bn.bias.detach()


def rounded_away(bn):
    return of_zero(bn) * (1 + 1e-6)


@pytest.mark.parametrize("value", [zeros, beta, rounded_away])
def test_a_frame_of_anything_else_stays_where_it_is(exactly, calls, value):
    block = nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), BNAndPad(6, 1, value), nn.Conv2d(6, 4, 3, bias=False))
    result, report = exactly(block)
    assert calls(result).split()[-1] == "Conv2d"
    assert len([name for name in calls(result).split() if name == "Conv2d"]) == 2
    reasons = [declined.reason for declined in report.declined]
    assert any("something else" in reason or "exact only inside the image" in reason for reason in reasons)


@pytest.mark.parametrize("value", [zeros, beta])
def test_moving_such_a_frame_would_be_wrong_at_the_border_only(randomise, value):
    block = randomise(
        nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), BNAndPad(6, 1, value), nn.Conv2d(6, 4, 3, bias=False))
    ).double()
    point, framed, conv = block
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        error = (block(x) - conv(framed.bn(point(F.pad(x, [1] * 4))))).abs().amax((0, 1))
    assert error[1:-1, 1:-1].max() < 1e-12
    assert error[0].min() > 1e-3
    assert error[:, 0].min() > 1e-3


def test_a_convolution_with_bias_makes_something_else_of_zero(exactly):
    block = nn.Sequential(nn.Conv2d(4, 6, 1), BNAndPad(6, 1), nn.Conv2d(6, 4, 3, bias=False))
    _, report = exactly(block)
    assert any("the frame holds something else" in declined.reason for declined in report.declined)


def test_what_sees_more_than_one_pixel_is_not_padded_more(exactly):
    block = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), BNAndPad(6, 1), nn.Conv2d(6, 4, 3, bias=False))
    _, report = exactly(block, objective="latency")
    assert any("more than one pixel" in declined.reason for declined in report.declined)


class Writes(nn.Module):
    """Something written into a padded map, by a function of it and of the frame's value."""

    def __init__(self, function):
        super().__init__()
        self.bn, self.function = nn.BatchNorm2d(4), function

    def forward(self, x):
        return self.function(F.pad(self.bn(x), [1, 1, 2, 2]), of_zero(self.bn).view(-1, 1, 1), self.bn)


def whole(x, value, bn):
    x[:, :, :2] = value
    x[..., -2:, :] = value
    x[..., :1] = value
    x[:, :, :, -1:] = value
    return x


def number(x, value, bn):
    x[:, :, :2] = 0.5
    x[..., -2:, :] = 0.5
    x[..., :1] = 0.5
    x[:, :, :, -1:] = 0.5
    return x


def nothing(x, value, bn):
    x[:, :, :2] = 0
    x[..., -2:, :] = 0.0
    x[..., :1] = 0
    x[:, :, :, -1:] = 0
    return x


@pytest.mark.parametrize(("function", "kind"), [(whole, Frame), (number, Frame), (nothing, Pad)])
def test_a_frame_is_known_however_its_sides_are_sliced(exactly, randomise, function, kind):
    graph = FxDocument.trace(randomise(Writes(function)), torch.randn(1, 4, 5, 6)).lift()
    (node,) = [node for node in graph.nodes if isinstance(node.op, kind)]
    assert node.op.padding == ((2, 2), (1, 1))
    exactly(Writes(function))


def side_missing(x, value, bn):
    x[:, :, :2] = value
    x[:, :, -2:] = value
    x[..., :1] = value
    return x


def into_the_map(x, value, bn):
    x[:, :, :3] = value
    return whole(x, value, bn)


def not_wide_enough(x, value, bn):
    x[:, :, :1] = value
    x[:, :, -2:] = value
    x[..., :1] = value
    x[..., -1:] = value
    return x


def read_in_between(x, value, bn):
    x[:, :, :2] = value
    y = x * 2
    return whole(x, value, bn) + y


def several_numbers(x, value, bn):
    x = whole(x, value, bn)
    x[..., -1:] = 2 * value
    return x


def varies_along_it(x, value, bn):
    x = whole(x, value, bn)
    x[:, :, :2] = torch.stack([value[:, :, 0], -value[:, :, 0]], 1)
    return x


def written_again_later(x, value, bn):
    x = whole(x, value, bn)
    y = bn(x)
    x += 1
    return y + x


def depends_on_the_input(x, value, bn):
    return whole(x, value * x.mean(), bn)


NO_FRAMES = [
    side_missing,
    into_the_map,
    not_wide_enough,
    read_in_between,
    several_numbers,
    varies_along_it,
    written_again_later,
    depends_on_the_input,
]


@pytest.mark.parametrize("function", NO_FRAMES)
def test_other_writes_stay_what_they_are(exactly, randomise, function):
    graph = FxDocument.trace(randomise(Writes(function)), torch.randn(1, 4, 5, 6)).lift()
    assert not any(isinstance(node.op, Frame) for node in graph.nodes)
    exactly(nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), Writes(function), nn.Conv2d(4, 4, 3)))
