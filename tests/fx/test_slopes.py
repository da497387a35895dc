"""Leaky ReLUs that a forward writes out: by the sign, as the larger of two, as the sum of two halves."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_blocks import Call, pair

import repcompiler
from repcompiler.frontends.fx import FxDocument
from repcompiler.ops import PRelu

WRITTEN = {
    "where it is positive": lambda m, y: torch.where(y > 0, y, y * 0.1),
    "where it is not negative": lambda m, y: torch.where(y.ge(0), y, m.slope * y),
    "where it is negative": lambda m, y: torch.where(y < 0.0, 0.2 * y, y),
    "where it is not positive": lambda m, y: (y * m.slope).where(torch.le(y, 0), y),
    "the larger of it and a part": lambda m, y: torch.maximum(y, 0.2 * y),
    "torch.max": lambda m, y: torch.max(y / 5, y),
    "a method": lambda m, y: y.maximum(m.slope * y),
    "the smaller of it and a multiple": lambda m, y: torch.min(y, 1.5 * y),
    "the sum of its halves": lambda m, y: F.relu(y) - m.slope * F.relu(-y),
    "by its definition": lambda m, y: y.clamp(min=0) + 0.3 * y.clamp(max=0),
}


def block(activate):
    return Call(lambda m, x: m.last(activate(m, m.wide(x))), wide=pair(), last=nn.Conv2d(4, 4, 1), slope=torch.rand(4, 1, 1))


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("objective", ["plain", "latency"])
@pytest.mark.parametrize("name", WRITTEN)
def test_leaky_relus_that_are_written_out_are_one_call(plain, name, objective, example):
    found = plain(block(WRITTEN[name]), objective=objective, example=example)
    assert found in ("Conv2d leaky_relu Conv2d", "Conv2d prelu Conv2d")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["where it is negative", "torch.max", "the sum of its halves"])
def test_so_they_are_in_a_program_of_torch_export(randomise, calls, same, name):
    model, x = randomise(block(WRITTEN[name])).double(), torch.randn(2, 4, 9, 7, dtype=torch.float64)
    result = repcompiler.compile(torch.export.export(model, (x,)).module(), x, objective="plain")
    assert calls(result).split()[-2] in ("leaky_relu", "prelu")
    same(model(x), result(x))


OTHER = {
    "the other way round": lambda m, y: torch.where(y > 0, y * 0.1, y),
    "by another number": lambda m, y: torch.where(y > 0.5, y, y * 0.1),
    "by a bound of its own": lambda m, y: torch.where(y > m.slope, y, y * 0.1),
    "by another value": lambda m, y: torch.where(y.exp() > 0, y, y * 0.1),
    "a multiple of another": lambda m, y: torch.where(y > 0, y, y.exp() * 0.1),
    "a multiple and more": lambda m, y: torch.where(y > 0, y, y * 0.1 - 1),
    "the larger of it and a multiple": lambda m, y: torch.maximum(y, 2 * y),
    "the smaller of it and a part": lambda m, y: torch.minimum(y, 0.5 * y),
    "the larger by some channels": lambda m, y: torch.maximum(y, (m.slope + 0.5) * y),
    "the largest of an axis": lambda m, y: y.max(1, keepdim=True)[0].expand_as(y),
    "rows": lambda m, y: torch.where(y > 0, y, y * torch.linspace(0, 1, 9, dtype=y.dtype)[: y.shape[3]]),
}


@pytest.mark.parametrize("name", OTHER)
def test_what_is_no_leaky_relu_is_none(randomise, same, name):
    model, x = randomise(block(OTHER[name])).double(), torch.randn(2, 4, 9, 9, dtype=torch.float64)
    assert not any(isinstance(node.op, PRelu) for node in FxDocument.trace(model, x).lift().nodes)
    same(model(x), repcompiler.compile(model, x, objective="plain")(x))


WRITES = {
    "after the comparison": lambda m, y: (t := y > 0, y.mul_(-2), torch.where(t, y, 0.1 * y))[-1],
    "through a view after the comparison": lambda m, y: (t := y > 0, y[:, :2].neg_(), torch.where(t, y, 0.1 * y))[-1],
    "after the multiple": lambda m, y: (s := 0.1 * y, y.mul_(-2), torch.where(y > 0, y, s))[-1],
    "after the multiple, of the larger": lambda m, y: (s := 0.1 * y, y.mul_(-2), torch.maximum(y, s))[-1],
    "into the comparison": lambda m, y: (t := y > 0, t.logical_not_(), torch.where(t, y, 0.1 * y))[-1],
    "into the multiple": lambda m, y: (s := 0.1 * y, s.neg_(), torch.where(y > 0, y, s))[-1],
}


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_between_counts(exactly, name, example):
    exactly(block(WRITES[name]), example=example)
