from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.interpreter import evaluate
from repcompiler.ops import Identity, Subsample, Sum
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv

PASSES = [merge_parallel_branches, identity_to_dirac]


def test_residual_of_a_conv_goes_into_its_kernel(rng):
    conv = random_conv(rng, 4, 4, 3, padding=1, bias=False)
    graph = build(lambda x: Sum((1, 1))(conv(x), x), x=(None, 4, None, None))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->4 3x3 padding=1 : [?, 4, ?, ?]
          %y = Add(%conv1, %x) : [?, 4, ?, ?]
          return %y
    """)
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->4 3x3 padding=1 : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_channel_passes_on_itself_counted_within_its_group(rng, groups):
    conv = random_conv(rng, 6, 6, 3, padding=1, groups=groups)
    graph = build(lambda x: Sum((1, 1))(x, conv(x)), x=(None, 6, None, None))
    check_pass(PASSES, graph)
    [node] = graph.nodes
    assert node.op.groups == groups
    changed = np.argwhere(np.abs(node.op.weight - conv.weight) > 1e-9)
    assert changed.tolist() == [[channel, channel % (6 // groups), 1, 1] for channel in range(6)]


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (Identity(), (2, 3, 5)),
        (Subsample((2,)), (2, 3, 6)),
        (Subsample((1, 3)), (2, 3, 4, 7)),
        (Subsample((2, 2, 2)), (1, 2, 3, 4, 5)),
    ],
    ids=["1-D", "1-D strided", "one axis strided", "3-D"],
)
def test_identity_and_its_convolution_agree(rng, op, shape):
    x = rng.normal(size=shape)
    conv = identity_to_dirac.view(op, shape[1], len(shape) - 2)
    assert np.array_equal(evaluate(conv, [x])[0], evaluate(op, [x])[0])


def test_subsampled_branch_merges_with_a_conv_of_its_stride(rng):
    strided = random_conv(rng, 4, 4, 3, padding=1, stride=2)
    graph = build(lambda x: Sum((1, -1))(strided(x), Subsample((2, 2))(x)), x=(None, 4, None, None))
    assert len(check_pass(PASSES, graph).steps) == 1
    other = build(lambda x: Sum((1, 1))(strided(x), Subsample((2, 1))(x)), x=(None, 4, None, 1))
    log = check_pass(PASSES, other)
    assert log.declined[0].reason == "the branches have strides (2, 2) and (2, 1)"


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1)])
def test_an_image_of_one_channel_is_added_to_every_channel(rng, signs):
    graph = build(lambda x: Sum(signs)(random_conv(rng, 1, 4, 3, padding=1)(x), x), x=(None, 1, None, None))
    assert len(check_pass(PASSES, graph).steps) == 1
    assert [node.op.out_channels for node in graph.nodes] == [4]


def test_a_residual_of_several_channels_beside_one_is_as_many_identities(rng):
    graph = build(lambda x: Sum((1, 1))(random_conv(rng, 4, 1, 3, padding=1)(x), x), x=(None, 4, None, None))
    assert len(check_pass(PASSES, graph).steps) == 1
    assert [node.op.out_channels for node in graph.nodes] == [4]


def test_without_this_pass_a_residual_is_left_with_the_reason(rng):
    graph = build(lambda x: Sum((1, 1))(random_conv(rng, 4, 4, 3, padding=1)(x), x), x=(None, 4, None, None))
    log = check_pass(merge_parallel_branches, graph)
    assert not log.steps
    assert log.declined[0].reason == "no pass that shows Identity as a convolution is in use"
