"""Kernels that a forward writes into memory of its own, place by place, out of parameters: constants to all who read them."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_blocks import Call

import repcompiler


class Flatten(nn.Module):
    """As einops' Rearrange, which such forwards make where they call it."""

    def __init__(self, flat):
        super().__init__()
        self.flat = flat

    def forward(self, w):
        return w.flatten(2) if self.flat else w.unflatten(2, (3, 3))


class Difference(nn.Module):
    """Central (cd), horizontal (hd), vertical (vd) and angular (ad) differences, as DEA-Net's authors write them."""

    def __init__(self, kind, channels=4, theta=1.0):
        super().__init__()
        self.conv = (nn.Conv1d if kind in ("hd", "vd") else nn.Conv2d)(channels, channels, 3, padding=1)
        self.kind, self.theta = kind, theta

    def get_weight(self):
        conv_weight = self.conv.weight
        conv_shape = conv_weight.shape
        kernel = torch.zeros(conv_shape[0], conv_shape[1], 3 * 3).fill_(0)
        if self.kind == "cd":
            conv_weight = Flatten(True)(conv_weight)
            kernel[:, :, :] = conv_weight[:, :, :]
            kernel[:, :, 4] = conv_weight[:, :, 4] - conv_weight[:, :, :].sum(2)
        elif self.kind == "ad":
            conv_weight = Flatten(True)(conv_weight)
            kernel = conv_weight - self.theta * conv_weight[:, :, [3, 0, 1, 6, 4, 2, 7, 8, 5]]
        else:
            taps = ([0, 3, 6], [2, 5, 8]) if self.kind == "hd" else ([0, 1, 2], [6, 7, 8])
            kernel[:, :, taps[0]] = conv_weight[:, :, :]
            kernel[:, :, taps[1]] = -conv_weight[:, :, :]
        return Flatten(False)(kernel), self.conv.bias

    def forward(self, x):
        weight, bias = self.get_weight()
        return F.conv2d(x, weight, bias, padding=1)


class Radial(nn.Module):
    """A radial difference convolution: a 3x3 kernel spread over a 5x5 one (PiDiNet, and DEA-Net's rd)."""

    def __init__(self, channels=4, theta=0.7):
        super().__init__()
        self.conv, self.theta = nn.Conv2d(channels, channels, 3, padding=2), theta

    def forward(self, x):
        if math.fabs(self.theta - 0.0) < 1e-8:
            return self.conv(x)
        conv_weight = self.conv.weight
        conv_shape = conv_weight.shape
        if conv_weight.is_cuda:
            buffer = torch.cuda.FloatTensor(conv_shape[0], conv_shape[1], 5 * 5).fill_(0)
        else:
            buffer = torch.zeros(conv_shape[0], conv_shape[1], 5 * 5)
        conv_weight = conv_weight.view(conv_shape[0], conv_shape[1], -1)
        buffer[:, :, [0, 2, 4, 10, 14, 20, 22, 24]] = conv_weight[:, :, 1:]
        buffer[:, :, [6, 7, 8, 11, 13, 16, 17, 18]] = -conv_weight[:, :, 1:] * self.theta
        buffer[:, :, 12] = conv_weight[:, :, 0] * (1 - self.theta)
        buffer = buffer.view(conv_shape[0], conv_shape[1], 5, 5)
        return F.conv2d(x, buffer, self.conv.bias, self.conv.stride, self.conv.padding, groups=self.conv.groups)


class DetailEnhanced(nn.Module):
    """Five kernels, one convolution."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(Difference(kind) for kind in ("cd", "hd", "vd", "ad"))
        self.plain = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        weight, bias = self.plain.weight, self.plain.bias
        for part in self.parts:
            w, b = part.get_weight()
            weight, bias = weight + w, bias + b
        return F.conv2d(input=x, weight=weight, bias=bias, stride=1, padding=1, groups=1)


@pytest.fixture(name="double")
def _double():
    """Such forwards name no type: their zeros are of the usual one."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


MODULES = {kind: partial(Difference, kind) for kind in ("cd", "hd", "vd", "ad")} | {"rd": Radial, "all": DetailEnhanced}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_difference_convolutions_merge_as_any_other(plain, name, example):
    block = nn.Sequential(MODULES[name](), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    assert plain(block, example=example) == "Conv2d"


@pytest.mark.parametrize("name", MODULES)
def test_so_they_do_in_single_precision(randomise, calls, name):
    block, x, report = (
        randomise(nn.Sequential(MODULES[name](), nn.BatchNorm2d(4))),
        torch.randn(2, 4, 9, 7),
        repcompiler.Report(),
    )
    result = repcompiler.compile(block, x, report=report)
    assert set(calls(result).split()) == {"Conv2d"}
    assert report.verification.checked
    assert not report.reverted
    torch.testing.assert_close(result(x), block(x))


def test_the_weights_that_it_is_made_of_are_not_left_behind(randomise):
    result = repcompiler.compile(randomise(DetailEnhanced()), torch.randn(2, 4, 9, 7))
    assert sum(p.numel() for p in result.parameters()) == 4 * 4 * 9 + 4


def conv(m, x, kernel):
    return m.norm(F.conv2d(x, kernel, padding=1))


def read_between(m, x):
    kernel = torch.zeros(4, 4, 3, 3)
    kernel[:, :, 1] = m.weight[:, :, 1]
    early = conv(m, x, kernel)
    kernel[:, :, 0] = m.weight[:, :, 0]
    return early + conv(m, x, kernel)


def summed_between(m, x):
    kernel = torch.zeros(4, 4, 3, 3)
    kernel[:, :, 1] = m.weight[:, :, 1]
    total = kernel.sum()
    kernel[:, :, 0] = m.weight[:, :, 0] * total
    return conv(m, x, kernel) * total


def written_by_the_input(m, x):
    kernel = torch.zeros(4, 4, 3, 3)
    kernel[:, :, 1] = m.weight[:, :, 1]
    kernel[:, :, 0] = x.mean()
    return conv(m, x, kernel)


def written_through_a_view(m, x):
    kernel = torch.ones(4, 4, 9)
    square = kernel.view(4, 4, 3, 3)
    square[:, :, 1] = m.weight[:, :, 1]
    kernel[:, :, 3] *= 2
    square[0].neg_()
    return conv(m, x, square)


def handed_out(m, x):
    kernel = torch.zeros(4, 4, 3, 3)
    kernel[:, :, 1] = m.weight[:, :, 1]
    return conv(m, x, kernel), kernel


def of_random_numbers(m, x):
    kernel = torch.zeros(4, 4, 3, 3)
    kernel[:, :, 1] = 0 * torch.rand_like(m.weight[:, :, 1]) + m.weight[:, :, 1]
    return conv(m, x, kernel)


WRITES = (
    read_between, summed_between, written_by_the_input, written_through_a_view, handed_out, of_random_numbers,
)  # fmt: skip


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("forward", WRITES)
def test_what_is_read_is_what_was_written_by_then(exactly, forward, example):
    exactly(Call(forward, weight=torch.randn(4, 4, 3, 3), norm=nn.BatchNorm2d(4)), example=example)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("forward", "convs"),
    [(written_through_a_view, "Conv2d"), (written_by_the_input, None), (read_between, None)],
)
def test_it_is_a_constant_where_nothing_else_reads_it_before(plain, forward, convs):
    found = plain(Call(forward, weight=torch.randn(4, 4, 3, 3), norm=nn.BatchNorm2d(4)))
    assert found == convs if convs else "setitem" in found.split()
