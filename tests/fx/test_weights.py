"""Weights that are expressions of parameters: parametrisations, torch's own hooks, and whatever a forward writes down."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import repcompiler


def conv():
    return nn.Conv2d(4, 4, 3, padding=1, bias=False)


def pruned():
    module = conv()
    prune.random_unstructured(module, "weight", 0.5)
    return module


class LowRank(nn.Module):
    """W + s B A."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(2, 36)), nn.Parameter(torch.randn(4, 2))

    def forward(self, weight):
        return weight + 0.5 * (self.b @ self.a).view_as(weight)


def adapted():
    module = conv()
    parametrize.register_parametrization(module, "weight", LowRank())
    return module


class Standardized(nn.Conv2d):
    """Weight standardisation in the forward."""

    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        std = self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (std + 1e-5), None, self.stride, self.padding)


EXPRESSIONS = {
    "hook of weight norm": lambda: weight_norm(conv()),
    "hook of spectral norm": lambda: spectral_norm(conv()),
    "hook of pruning": pruned,
    "weight norm": lambda: parametrizations.weight_norm(conv()),
    "spectral norm": lambda: parametrizations.spectral_norm(conv()),
    "orthogonal": lambda: parametrizations.orthogonal(conv()),
    "adapter of low rank": adapted,
    "standardisation": lambda: Standardized(4, 4, 3, padding=1, bias=False),
}

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")


@pytest.mark.parametrize("make", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_a_weight_that_parameters_make_is_made_once(exactly, calls, make):
    result, _ = exactly(nn.Sequential(make(), nn.ReLU()))
    assert calls(result) == "conv2d ReLU"
    assert len(result.state_dict()) == 1


@pytest.mark.parametrize("make", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_and_merges_like_any_other(plain, make):
    assert plain(nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), make(), nn.BatchNorm2d(4), nn.ReLU())) == "Conv2d ReLU"


@pytest.mark.parametrize("make", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_without_passes_it_stays_an_expression(exactly, make):
    module = make()
    result, _ = exactly(nn.Sequential(module, nn.ReLU()), passes=[])
    assert len(result.state_dict()) >= len(list(module.parameters()))


@pytest.mark.parametrize("normalise", [spectral_norm, parametrizations.spectral_norm])
def test_a_weight_that_is_still_iterated_on_is_no_constant(calls, normalise):
    block = nn.Sequential(conv(), nn.BatchNorm2d(4), normalise(conv()), nn.BatchNorm2d(4)).eval()
    block[2].train()
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    result = repcompiler.compile(block, torch.randn(2, 4, 9, 8), verify=False)
    assert calls(result).split()[-1] == "BatchNorm2d"
    assert all(torch.equal(tensor, before[name]) for name, tensor in block.state_dict().items())


def test_a_hook_of_the_users_keeps_its_module_whole(exactly, calls):
    module = weight_norm(conv())
    module.register_forward_hook(lambda module, args, output: output + 1)
    result, _ = exactly(nn.Sequential(module, nn.BatchNorm2d(4)))
    assert calls(result) == "Conv2d BatchNorm2d"


def test_random_weights_are_drawn_each_time(exactly, calls):
    class Noise(nn.Module):
        def forward(self, weight):
            return weight + torch.randn_like(weight)

    module = conv()
    parametrize.register_parametrization(module, "weight", Noise())
    result, _ = exactly(nn.Sequential(module, nn.BatchNorm2d(4)), verify=False, tolerance=float("inf"))
    assert "BatchNorm2d" in calls(result)
