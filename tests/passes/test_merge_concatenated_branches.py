import numpy as np
import pytest

from repcompiler.algebra import stack
from repcompiler.ops import Concat, Conv, Identity, Select, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.linear_to_conv import linear_to_conv
from repcompiler.passes.merge_concatenated_branches import merge_concatenated_branches
from repcompiler.passes.select_to_conv import select_to_conv
from repcompiler.refusal import Refusal
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_linear

IMAGE = (None, 4, None, None)
Add = Sum((1, 1))
PARTIAL = (merge_concatenated_branches, select_to_conv)


def ops(graph):
    return [node.op.kind for node in graph.topological()]


def only_conv(graph):
    (node,) = graph.topological()
    assert isinstance(node.op, Conv)
    return node.op


def test_rows_are_stacked_in_the_order_of_the_concatenation(rng):
    first, second, third = (
        random_conv(rng, 4, 3, 3, padding=1),
        random_conv(rng, 4, 5, 1),
        random_conv(rng, 4, 2, (1, 3), padding=(0, 1)),
    )
    graph = build(lambda x: Concat()(first(x), second(x), third(x)), x=IMAGE)
    check_pass(merge_concatenated_branches, graph)
    merged = only_conv(graph)
    assert (merged.out_channels, merged.kernel_size, merged.padding) == (10, (3, 3), ((1, 1), (1, 1)))


def test_one_branch_may_be_read_twice(rng):
    conv = random_conv(rng, 4, 3, 3, padding=1)

    def twice(x):
        branch = conv(x)
        return Concat()(branch, branch)

    graph = build(twice, x=IMAGE)
    check_pass(merge_concatenated_branches, graph)
    assert only_conv(graph).out_channels == 6


def test_neighbours_merge_and_strangers_keep_their_places(rng):
    first, second, third = (random_conv(rng, 4, 4, 1) for _ in range(3))
    graph = build(lambda x, z: Concat()(z, first(x), second(x), z, third(x)), x=IMAGE, z=IMAGE)
    check_pass(merge_concatenated_branches, graph)
    assert ops(graph) == ["Conv", "Conv", "Concat"]


def test_slices_convolved_one_by_one_and_concatenated_are_one_grouped_conv(rng):
    halves = [Select((0, 1)), Select((2, 3))]
    convs = [random_conv(rng, 2, 3, 3, padding=1) for _ in halves]
    graph = build(lambda x: Concat()(*(conv(half(x)) for conv, half in zip(convs, halves, strict=True))), x=IMAGE)
    check_pass(PARTIAL, graph, "macs")
    assert only_conv(graph).groups == 2


def test_slices_of_one_channel_are_a_depthwise_conv(rng):
    parts = [(Select((index,)), random_conv(rng, 1, 1, 3, padding=1)) for index in range(4)]
    graph = build(lambda x: Concat()(*(conv(part(x)) for part, conv in parts)), x=IMAGE)
    check_pass(PARTIAL, graph, "latency")
    assert only_conv(graph).groups == 4


def test_a_partial_convolution_is_merged_where_plainness_is_wanted(rng):
    conv = random_conv(rng, 2, 2, 3, padding=1)

    def partial(x):
        return Concat()(conv(Select((0, 1))(x)), Select((2, 3))(x))

    graph = build(partial, x=IMAGE)
    check_pass(PASSES, graph, "plain")
    assert ops(graph) == ["Conv"]
    costly = build(partial, x=(1, 4, 56, 56))
    log = check_pass(PASSES, costly, "macs")
    assert ops(costly) == ["Select", "Conv", "Select", "Concat"]
    assert "cost more" in log.declined[0].reason


def test_a_conv_behind_a_concatenation_of_branches_takes_them_in(rng):
    left, right = random_conv(rng, 4, 8, 1), random_conv(rng, 4, 8, 1)
    project = random_conv(rng, 16, 4, 1)
    graph = build(lambda x: project(Concat()(left(x), right(x))), x=IMAGE)
    check_pass(PASSES, graph, "latency")
    assert only_conv(graph).in_channels == 4


def test_branches_of_different_inputs_stay(rng):
    first, second = random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 1)
    graph = build(lambda x, z: Concat()(first(x), second(z)), x=IMAGE, z=IMAGE)
    assert not check_pass(merge_concatenated_branches, graph).steps


@pytest.mark.parametrize(("options", "reason"), [({"stride": 2}, "strides"), ({"padding": 0}, "differ in size")])
def test_branches_of_other_geometry_are_refused(rng, options, reason):
    same, other = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 3, **{"padding": 1, **options})
    with pytest.raises(Refusal, match=reason):
        stack((same, other), (7, 9))


def test_layers_of_tokens_that_are_concatenated_side_by_side_are_refused(rng):
    first, second = random_linear(rng, 5, 5), random_linear(rng, 5, 5)
    graph = build(lambda x: Concat()(first(x), second(x)), x=(None, 3, 5))
    log = check_pass([merge_concatenated_branches, linear_to_conv], graph)
    assert log.declined[0].reason == "they are concatenated along another axis than the last"


def test_live_identity_branches_count(rng):
    norm, conv = random_batch_norm(rng, 4), random_conv(rng, 4, 4, 3, padding=1)
    graph = build(lambda x: Concat()(Add(conv(x), x), norm(x), Identity()(x)), x=IMAGE)
    check_pass(PASSES, graph, "plain")
    assert only_conv(graph).out_channels == 12
    assert np.any(only_conv(graph).weight)
