"""A branch of one channel, added to one of many, stands for copies of it."""

import pytest

from repcompiler.ops import Linear, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.testing import build, check_pass, random_conv, random_linear

IMAGE = (None, 4, None, None)
Add = Sum((1, 1))


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1)])
@pytest.mark.parametrize("wide_first", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_one_channel_is_added_to_every_channel(rng, signs, wide_first, groups):
    convs = [random_conv(rng, 4, 6, 3, padding=1, groups=groups), random_conv(rng, 4, 1, 5, padding=2)]
    first, second = convs if wide_first else convs[::-1]
    graph = build(lambda x: Sum(signs)(first(x), second(x)), x=IMAGE)
    assert len(check_pass(merge_parallel_branches, graph, objective="plain").steps) == 1
    (merged,) = graph.nodes
    assert merged.op.out_channels == 6


def test_one_feature_is_added_to_every_feature(rng):
    """Of vectors, and of tokens."""
    for shape in ((None, 4), (None, 7, 4)):
        graph = build(lambda x: Add(random_linear(rng, 4, 6)(x), random_linear(rng, 4, 1)(x)), x=shape)
        check_pass(PASSES, graph, objective="plain")
        assert [type(node.op) for node in graph.nodes] == [Linear]


def test_the_sum_of_single_channels_is_one_channel_still(rng):
    """And a third branch has more."""
    ones = [random_conv(rng, 4, 1, k, padding=k // 2) for k in (1, 3)]
    graph = build(lambda x: Add(Add(ones[0](x), ones[1](x)), random_conv(rng, 4, 6, 3, padding=1)(x)), x=IMAGE)
    check_pass(merge_parallel_branches, graph)
    assert [node.op.out_channels for node in graph.nodes] == [6]


def test_one_channel_of_another_size_is_refused(rng):
    graph = build(lambda x: Add(random_conv(rng, 4, 4, 3, padding=1)(x), random_conv(rng, 4, 1, 5)(x)), x=(None, 4, 5, 5))
    log = check_pass(merge_parallel_branches, graph)
    assert not log.steps
    assert log.declined[0].reason == "the branches' outputs differ in size"
