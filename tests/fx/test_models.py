"""Architectures nobody here wrote, with random statistics, at small, odd and non-square sizes."""

import copy

import pytest
import torch
from torch import nn

import repcompiler

timm = pytest.importorskip("timm")

SIZES = {"repvgg_a0": (45, 37), "mobileone_s0": (45, 37), "repghostnet_100": (65, 49), "mobilenetv2_100": (33, 45)}


def count(model):
    """Convolutions, normalisations and additions of a traced network."""
    modules = dict(model.named_modules())
    kinds = []
    for node in model.graph.nodes:
        kind = modules[node.target] if node.op == "call_module" else getattr(node.target, "__name__", node.target)
        kinds.append(kind)
    return (
        sum(isinstance(kind, nn.Conv2d) or kind == "conv2d" for kind in kinds),
        sum(isinstance(kind, nn.modules.batchnorm._NormBase) or kind == "batch_norm" for kind in kinds),
        sum(kind in ("add", "iadd", "sub", "isub") for kind in kinds),
    )


def build(name, randomise):
    """One of timm, its statistics random."""
    model = timm.create_model(name, num_classes=10)
    return randomise(model).double()


@pytest.mark.parametrize("name", SIZES)
def test_the_result_is_exact_in_double_precision(name, randomise, same):
    model = build(name, randomise)
    x = torch.randn(2, 3, *SIZES[name], dtype=torch.float64)
    result = repcompiler.compile(model, x, verify=False)
    other = torch.randn(1, 3, SIZES[name][1] + 4, SIZES[name][0], dtype=torch.float64)
    with torch.no_grad():
        same(model(x), result(x), 1e-12)
        same(model(other), result(other), 1e-12)


@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0", "repghostnet_100"])
def test_it_is_at_least_as_plain_as_the_authors_own_conversion(name, randomise):
    model = build(name, randomise).float()
    report = repcompiler.Report()
    ours = count(repcompiler.compile(model, report=report))
    theirs = count(torch.fx.symbolic_trace(timm.utils.reparameterize_model(copy.deepcopy(model))))
    assert report.verification.checked
    assert not report.reverted
    assert all(mine <= other for mine, other in zip(ours, theirs, strict=True))
    assert ours[1] == 0


def test_a_torchvision_residual_network_loses_its_norms(randomise, same):
    torchvision = pytest.importorskip("torchvision")
    model = randomise(torchvision.models.resnet18(weights=None)).double()
    x = torch.randn(2, 3, 37, 45, dtype=torch.float64)
    result = repcompiler.compile(model, x, verify=False)
    assert count(result) == (20, 0, 8)
    with torch.no_grad():
        same(model(x), result(x), 1e-12)
