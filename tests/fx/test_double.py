"""The reference of a torch model: double precision throughout, whatever types its forward names."""

import numpy as np
import pytest
import torch
from torch import nn

import repcompiler
from repcompiler.frontends.fx import FxDocument


class Attention(nn.Module):
    """As it is often written: the softmax in single precision, a mask and positions made on the way."""

    def __init__(self):
        super().__init__()
        self.key, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.scale = torch.full((1,), 0.3)  # no buffer: .double() does not reach it

    def forward(self, x):
        keys = self.norm(self.key(x)).flatten(2)
        positions = torch.arange(keys.shape[-1], device=x.device).float() / 7
        scores = (keys.float() * self.scale + positions).masked_fill(positions > 3, -1e30)
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(x.dtype)
        sums = torch.zeros(keys.shape[:2], dtype=torch.float32)
        sums += (weights * x.flatten(2)).sum(-1)
        return sums


def in_double(model, x):
    """By hand."""
    keys = model.norm.double()(model.key.double()(x)).flatten(2)
    positions = torch.arange(keys.shape[-1]).double() / 7
    scores = (keys * model.scale.double() + positions).masked_fill(positions > 3, -1e30)
    return (torch.softmax(scores, -1) * x.flatten(2)).sum(-1)


def test_types_that_a_forward_names_are_double_in_the_reference(randomise):
    model = randomise(Attention())
    x = torch.randn(2, 4, 5, 7)
    (reference,) = FxDocument.trace(model, x).run_reference({"x": x.numpy()})
    assert reference.dtype == np.float64
    np.testing.assert_allclose(reference, in_double(model, x.double()).detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("example", [True, False])
def test_such_a_model_is_verified(randomise, example):
    model = randomise(Attention())
    report = repcompiler.Report()
    repcompiler.compile(model, torch.randn(1, 4, 5, 7) if example else None, report=report)
    assert report.verification.checked
    assert report.steps


class Table(nn.Module):
    """Reads a table at places that rounding chooses, unless the width is small."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.table = nn.Parameter(torch.randn(512))

    def forward(self, x):
        places = (torch.arange(x.shape[-1], device=x.device).float() / x.shape[-1] * x.shape[-1]).long()
        return self.norm(self.conv(x)) + self.table[places]


def test_an_input_on_which_rounding_chooses_another_number_is_left_out_where_there_are_others(randomise):
    report = repcompiler.Report()
    repcompiler.compile(randomise(Table()), torch.randn(1, 4, 8, 8), report=report)
    assert report.verification.checked
    assert report.verification.probes == ["1x4x8x8", "1x4x5x3"]
