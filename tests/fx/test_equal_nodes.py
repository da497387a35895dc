"""What a torch module computes twice is computed once, and its memory stays what its writes make of it."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_blocks import Call, pair

import repcompiler
from repcompiler.frontends.fx_trace import copy_module


class Twice(nn.Module):
    """Two branches joined by a function; the second is a copy of the first, or the first itself."""

    def __init__(self, branch, join, shared):
        super().__init__()
        self.one, self.join = branch, join
        self.other = branch if shared else copy_module(branch)

    def forward(self, x):
        return self.join(self.one(x), self.other(x))


def activated():
    return nn.Sequential(*pair(), nn.ReLU(), nn.MaxPool2d(3, 1, 1))


@pytest.mark.parametrize("shared", [True, False])
def test_equal_branches_are_computed_once(randomise, calls, same, shared):
    source, x = Twice(randomise(activated()), torch.mul, shared).eval().double(), torch.randn(2, 4, 9, 7, dtype=torch.float64)
    result = repcompiler.compile(source, x, objective="plain")
    assert calls(result) == "Conv2d ReLU MaxPool2d mul"
    same(source(x), result(x))


def test_a_copy_goes_with_its_parameters_and_what_is_shared_stays_shared(randomise):
    block, x = randomise(activated()), torch.randn(2, 4, 9, 7)
    sizes = []
    for shared in (True, False):
        source = Twice(block, torch.mul, shared).eval()
        result = repcompiler.compile(source, x, objective="plain")
        torch.testing.assert_close(result(x), source(x))
        sizes.append(sum(tensor.numel() for tensor in result.parameters()))
    assert sizes == [4 * 4 * 9 + 4] * 2


def test_the_result_trains(randomise):
    block = randomise(nn.Sequential(*pair(), nn.ReLU()))
    source, x = Twice(block, torch.mul, True).eval().double(), torch.randn(2, 4, 9, 7, dtype=torch.float64)
    result = repcompiler.compile(source, x, objective="plain")
    gradients = []
    for model in (source, result):
        given = x.clone().requires_grad_()
        model(given).sum().backward()
        gradients.append(given.grad)
        assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    "forward",
    {
        "the second is written into": lambda m, x: F.max_pool2d(x, 3, 1, 1) * F.max_pool2d(x, 3, 1, 1).relu_(),
        "the first is": lambda m, x: F.max_pool2d(x, 3, 1, 1).relu_() * F.max_pool2d(x, 3, 1, 1),
        "both are": lambda m, x: F.max_pool2d(x, 3, 1, 1).relu_() * F.max_pool2d(x, 3, 1, 1).neg_(),
        "by an activation in place": lambda m, x: m.inplace(m.conv(x)) - m.conv(x),
        "by one of the copy": lambda m, x: m.conv(x) - m.inplace(m.conv(x)),
    }.items(),
    ids=lambda item: item[0],
)
def test_memory_that_one_of_them_writes_into_is_not_the_others(exactly, forward):
    exactly(Call(forward[1], conv=nn.Conv2d(4, 4, 3, padding=1), inplace=nn.ReLU(inplace=True)))


class Written(nn.Module):
    """A value, or what it is computed from, is written into between the two."""

    def __init__(self, source):
        super().__init__()
        self.source = source

    def forward(self, x):
        x = x * 2
        first = F.max_pool2d(x, 3, 1, 1)
        seen = first.sigmoid()
        (x if self.source else first).add_(1.0)
        return first, seen, F.max_pool2d(x, 3, 1, 1)


@pytest.mark.parametrize("source", [True, False])
def test_what_is_written_into_between_is_computed_again(plain, source):
    assert plain(Written(source)).count("max_pool2d") == 2


@pytest.mark.parametrize(
    "random",
    [lambda m, x: torch.randn_like(x) + torch.randn_like(x), lambda m, x: F.dropout(x, 0.5, True) + F.dropout(x, 0.5, True)],
)
def test_two_random_values_are_two(random):
    x = torch.randn(2, 4, 9, 7)
    result = repcompiler.compile(Call(lambda m, x: m.conv(random(m, x)), conv=nn.Conv2d(4, 4, 1)).eval(), x, verify=False)
    drawn = [node for node in result.graph.nodes if getattr(node.target, "__name__", "") in ("randn_like", "dropout")]
    assert len(drawn) == 2
