"""Normalisations that are affine a channel, in the ways that torch writes them, and those that only look alike."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_blocks import Call

import repcompiler

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_an_instance_norm_by_running_statistics_folds_as_a_batch_norm_does(plain, axes, affine, example):
    norm = NORM[axes](4, affine=affine, track_running_stats=True)
    model = nn.Sequential(CONV[axes](4, 4, 3, padding=1), norm, nn.ReLU())
    assert plain(model, spatial=axes, example=example) == f"Conv{axes}d ReLU"


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_an_instance_norm_by_the_statistics_of_its_input_stays(plain, axes):
    model = nn.Sequential(CONV[axes](4, 4, 1), NORM[axes](4, affine=True))
    calls = plain(model, spatial=axes, shape=(2, 4, *(5, 6, 7)[:axes]))
    assert calls == f"Conv{axes}d InstanceNorm{axes}d"


FUNCTIONS = {
    "by name": lambda m, x: F.instance_norm(
        x, m.n.running_mean, m.n.running_var, m.n.weight, m.n.bias, use_input_stats=False, eps=1e-3
    ),
    "by position": lambda m, x: F.instance_norm(x, m.n.running_mean, m.n.running_var, None, None, False, 0.1, 1e-3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_function_folds_too(plain, name):
    model = Call(lambda m, x: FUNCTIONS[name](m, m.conv(x)), conv=nn.Conv2d(4, 4, 3), n=nn.BatchNorm2d(4))
    assert plain(model) == "Conv2d"


def test_the_function_that_takes_statistics_of_its_input_stays(plain):
    model = Call(lambda m, x: F.instance_norm(m.conv(x)), conv=nn.Conv2d(4, 4, 3))
    assert plain(model, shape=(2, 4, 7, 9)) == "Conv2d instance_norm"


@pytest.mark.filterwarnings("ignore")
def test_an_exported_instance_norm_folds_too(randomise, same, calls):
    model = randomise(nn.Sequential(nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True))).double()
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    result = repcompiler.compile(torch.export.export(model, (x,)).module(), x, objective="plain")
    assert "instance_norm" not in calls(result)
    with torch.no_grad():
        same(model(x), result(x))
