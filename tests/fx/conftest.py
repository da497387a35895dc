"""torch models with weights that hide nothing, compiled and held against what they were.

plain(block)  ->  the calls of the compiled block: "Conv2d ReLU"
"""

import pytest
import torch
from torch import nn

import repcompiler
from repcompiler.frontends.fx_opaque import operator_name
from repcompiler.frontends.fx_trace import copy_module, regions
from repcompiler.passes import PASSES

FOLDS = [rule.name for rule in PASSES if rule.name != "replace_batch_norm"]
"""What is left of a norm stays one, so that it is seen whether it was folded."""
SIZES = ((13, 18, 9), (10, 7, 11), (4, 5, 3), (1, 2, 1))
"""Spatial extents: odd, even and non-square, then so small that everything is border."""


def randomise(model, seed=0):
    """Normalisations as after training (gamma of both signs, mean and beta far from 0, var far from 1), in eval mode."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is not None:
                channels = part.num_features
                part.running_mean.copy_(torch.randn(channels, generator=random) + 0.5)
                part.running_var.copy_(torch.rand(channels, generator=random) * 2 + 0.2)
                if part.affine:
                    part.weight.copy_(torch.rand(channels, generator=random) + 0.5)
                    part.weight[::3] *= -1
                    part.bias.copy_(torch.randn(channels, generator=random))
    return model.eval()


def calls(model):
    """What a traced model calls, in order, without the reading of attributes."""
    names = []
    for _, region in regions(model):
        modules = dict(region.named_modules())
        nodes = [node for node in region.graph.nodes if node.op.startswith("call") and node.target is not getattr]
        names += [operator_name(node, modules) for node in nodes]
    return " ".join(names)


def tensors(result):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def assert_same(expected, actual, tolerance=1e-11):
    """Equal outputs to rounding, relative to the largest of each."""
    expected, actual = tensors(expected), tensors(actual)
    assert len(expected) == len(actual)
    for want, got in zip(expected, actual, strict=True):
        assert want.shape == got.shape
        error = (want - got).abs().max().item() if want.numel() else 0.0
        assert error <= tolerance * max(1.0, want.abs().max().item()), f"off by {error:.1e} of {want.abs().max().item():.1e}"


def compile_exactly(model, channels=4, spatial=2, example=True, tolerance=1e-11, shape=None, **options):
    """Compile a randomised double-precision model, hold the result against it at all sizes, and return it with its report.

    `shape`: the one that it takes, but for the batch.  The model given must stay what it is, and every rewrite must verify.
    """
    model = randomise(copy_module(model)).double()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shapes = [(2, channels, *size[:spatial]) for size in SIZES] if shape is None else [shape, (1, *shape[1:])]
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    given = inputs[0].clone()
    report = repcompiler.Report()
    options = {"objective": "plain", "passes": FOLDS, **options}
    with torch.random.fork_rng():
        result = repcompiler.compile(model, inputs[0] if example else None, report=report, **options)
    assert torch.equal(given, inputs[0]), "the example was written into"
    assert not report.reverted
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    shared = {tensor.data_ptr() for tensor in model.state_dict().values() if tensor.numel()}
    assert not shared & {tensor.data_ptr() for tensor in result.state_dict().values()}, "the result shares the user's weights"
    with torch.no_grad():
        for x in inputs:
            try:
                expected = model(x.clone())
            except RuntimeError:  # a window larger than the image
                assert x is not inputs[0]
                continue
            assert_same(expected, result(x.clone()), tolerance)
    return result, report


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(name="randomise")
def _randomise():
    return randomise


@pytest.fixture(name="exactly")
def _exactly():
    return compile_exactly


@pytest.fixture(name="same")
def _same():
    return assert_same


@pytest.fixture(name="calls")
def _calls():
    return calls


@pytest.fixture(name="plain")
def _plain():
    return lambda model, **options: calls(compile_exactly(model, **options)[0])
