"""What a forward asks of parameters in Python: of the model's own numbers, which are there before any input is."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from torch import nn

import repcompiler


def pair(k=3):
    return nn.Sequential(nn.Conv2d(4, 4, k, padding=k // 2, bias=False), nn.BatchNorm2d(4))


class Asks(nn.Module):
    """Two branches, put together by a function that asks."""

    def __init__(self, function):
        super().__init__()
        self.wide, self.narrow, self.function = pair(3), pair(1), function
        self.alpha, self.mixture = nn.Parameter(torch.tensor([0.7])), nn.Parameter(torch.tensor([0.5, -1.5]))
        self.kernel, self.small = nn.Parameter(torch.randn(4, 4, 3, 3)), nn.Parameter(torch.randn(4, 4, 1, 1))
        self.register_buffer("ready", torch.ones(1))

    def forward(self, x):
        return self.function(self, x)


def alpha_if_any(m, x):
    """RepVggBlock of PP-YOLOE."""
    return m.wide(x) + m.alpha * m.narrow(x) if m.alpha else m.wide(x) + m.narrow(x)


def scaled_by_fan_in(m, x):
    """Equalised learning rate."""
    return F.conv2d(x, m.kernel * math.sqrt(2 / np.prod(m.kernel.shape[1:])), padding=m.kernel.shape[-1] // 2) + m.wide(x)


def kernel_in_the_middle(m, x):
    margin = (m.kernel.size(-1) - m.small.size(-1)) // 2
    return F.conv2d(x, m.kernel + F.pad(m.small, [margin] * m.kernel.dim()), padding=margin) + m.wide(x)


ASKED = {
    "whether it is zero": alpha_if_any,
    "its extents": scaled_by_fan_in,
    "the extents of two": kernel_in_the_middle,
    "the larger": lambda m, x: m.wide(x) if m.mixture[0] > m.mixture[1] else m.narrow(x),
    "an item": lambda m, x: m.wide(x) * m.mixture[0].item() + m.narrow(x) * float(m.mixture[1]),
    "a list": lambda m, x: sum(w * op(x) for w, op in zip(m.mixture.tolist(), (m.wide, m.narrow), strict=True)),
    "a computed list": lambda m, x: sum(w * op(x) for w, op in zip(m.mixture.exp().tolist(), (m.wide, m.narrow), strict=True)),
}


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("name", ASKED)
def test_parameters_answer_by_their_numbers(plain, name, example):
    assert plain(Asks(ASKED[name]), example=example) == "Conv2d"


def clamped(m, x):
    m.alpha.data.clamp_(0.8, 1)
    return m.wide(x) + m.narrow(x) if m.alpha > 0.75 else m.wide(x)


NOT_ASKED = {
    "a buffer, which a run may change": lambda m, x: m.wide(x) + m.narrow(x) if m.ready.item() > 0 else m.wide(x),
    "what the forward has written into": clamped,
    "what depends on the input too": lambda m, x: m.wide(x) if (m.alpha * x.sum()).abs() > -1 else m.narrow(x),
}


@pytest.mark.parametrize("name", NOT_ASKED)
def test_anything_else_is_left_to_python(randomise, same, calls, name):
    model = randomise(Asks(NOT_ASKED[name])).double()
    x = torch.randn(2, 4, 9, 6, dtype=torch.float64)
    result = repcompiler.compile(model, x, objective="plain")
    assert calls(result).startswith("Asks")
    with torch.no_grad():
        same(model(x), result(x))
