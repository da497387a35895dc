from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.ops import AvgPool, Conv, Identity, Subsample, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.printer import attributes, render, render_node
from repcompiler.testing import build, check_pass, opaque, random_batch_norm, random_conv, random_scale, relu

IMAGE = (None, 4, None, None)
Add, Sub = Sum((1, 1)), Sum((1, -1))


def kinds(graph):
    return [render_node(node).split("= ")[1].split("(")[0] for node in graph.topological()]


def test_two_branches_become_one_conv(rng):
    conv3, conv1 = random_conv(rng, 4, 8, 3, padding=1, stride=2), random_conv(rng, 4, 8, 1, stride=2)
    graph = build(lambda x: Add(conv3(x), conv1(x)), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->8 3x3 stride=2 padding=1 bias : [?, 8, ?, ?]
          %conv2 = Conv(%x) 4->8 1x1 stride=2 bias : [?, 8, ?, ?]
          %y = Add(%conv1, %conv2) : [?, 8, ?, ?]
          return %y
    """)
    check_pass(merge_parallel_branches, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->8 3x3 stride=2 padding=1 bias : [?, 8, ?, ?]
          return %y
    """)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ({"kernel_size": (1, 3), "padding": (0, 1)}, {"kernel_size": (3, 1), "padding": (1, 0)}, "3x3 padding=1"),
        ({"kernel_size": 5, "padding": 2}, {"kernel_size": 3, "padding": 1, "groups": 4}, "5x5 padding=2"),
        (
            {"kernel_size": 3, "padding": 1, "groups": 4},
            {"kernel_size": 3, "padding": 1, "groups": 2},
            "3x3 padding=1 groups=2",
        ),
        ({"kernel_size": 3, "padding": 2, "dilation": 2}, {"kernel_size": 1}, "3x3 padding=2 dilation=2"),
        ({"kernel_size": 3, "padding": 2, "dilation": 2}, {"kernel_size": 3, "padding": 1}, "5x5 padding=2"),
        (
            {"kernel_size": 3, "padding": 6, "dilation": 6},
            {"kernel_size": 3, "padding": 4, "dilation": 4},
            "7x7 padding=6 dilation=2",
        ),
        ({"kernel_size": 2, "padding": ((0, 1), (0, 1))}, {"kernel_size": 2, "padding": ((1, 0), (1, 0))}, "3x3 padding=1"),
        ({"kernel_size": 4, "padding": ((1, 2), (2, 1))}, {"kernel_size": 1}, "4x4 padding=1:2x2:1"),
        ({"kernel_size": 3}, {"kernel_size": 1, "padding": -1}, "3x3"),
        ({"kernel_size": 1, "padding": 1}, {"kernel_size": 3, "padding": 2}, "3x3 padding=2"),
        ({"kernel_size": 3, "stride": 3, "padding": 1}, {"kernel_size": 1, "stride": 3}, "3x3 stride=3 padding=1"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ",
)
@pytest.mark.parametrize("swapped", [False, True])
def test_kernels_meet_at_their_true_offsets(rng, first, second, merged, swapped):
    branches = [random_conv(rng, 4, 4, **first), random_conv(rng, 4, 4, **second)][:: -1 if swapped else 1]
    graph = build(lambda x: Add(*(conv(x) for conv in branches)), x=IMAGE)
    check_pass(merge_parallel_branches, graph)
    [node] = graph.nodes
    assert " ".join(attributes(node.op)) == f"4->4 {merged} bias"


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)], ids=str)
def test_signs_are_kept(rng, signs):
    first, second = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1)
    check_pass(merge_parallel_branches, graph := build(lambda x: Sum(signs)(first(x), second(x)), x=IMAGE))
    [node] = graph.nodes
    assert np.allclose(node.op.bias, signs[0] * first.bias + signs[1] * second.bias, rtol=0, atol=1e-15)
    assert np.allclose(node.op.weight[:, :, 0, 0], signs[0] * first.weight[:, :, 0, 0], rtol=0, atol=1e-15)


def test_terms_of_a_tree_are_found_among_others_whatever_the_signs(rng):
    first, second, third = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 5, padding=2)
    graph = build(lambda x, z: Sub(Add(first(x), relu(x)), Sub(Sub(second(x), z), third(x))), x=IMAGE, z=IMAGE)
    check_pass(merge_parallel_branches, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?], %z: [?, 4, ?, ?])
          %relu1 = Relu(%x) : [...]
          %y/2 = Conv(%x) 4->4 5x5 padding=2 bias : [?, 4, ?, ?]
          %y = Sum[1, 1, 1](%y/2, %relu1, %z) : [...]
          return %y
    """)


def test_operands_may_broadcast_beside_the_merged_branches(rng):
    first, second = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1)
    gate = opaque("GlobalPool", lambda x: x.mean((2, 3), keepdims=True))
    graph = build(lambda x: Sum((1, -1, 1))(first(x), gate(x), second(x)), x=IMAGE)
    check_pass(merge_parallel_branches, graph)
    assert kinds(graph) == ["GlobalPool", "Conv", "Sub"]


def test_branches_of_different_inputs_pair_up_by_input(rng):
    convs = [random_conv(rng, 4, 4, 3, padding=1) for _ in range(4)]

    def block(x, z):
        return Sum((1, 1, -1, -1))(convs[0](x), convs[1](z), convs[2](x), convs[3](z))

    graph = build(block, x=IMAGE, z=IMAGE)
    check_pass(merge_parallel_branches, graph)
    assert kinds(graph) == ["Conv", "Conv", "Add"]


def test_subtracted_identity_merges(rng):
    graph = build(lambda x: Sub(random_conv(rng, 4, 4, 3, padding=1)(x), x), x=IMAGE)
    check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv"]


def test_identity_that_occurs_twice_counts_twice(rng):
    conv = random_conv(rng, 4, 4, 3, padding=1)
    graph = build(lambda x: Sum((1, 1, 1))(x, conv(x), x), x=IMAGE)
    check_pass(PASSES, graph)
    [node] = graph.nodes
    centre = node.op.weight[:, :, 1, 1] - conv.weight[:, :, 1, 1]
    assert np.allclose(centre, 2 * np.eye(4), rtol=0, atol=1e-15)


def test_term_that_occurs_twice_counts_twice(rng):
    conv = random_conv(rng, 4, 4, 3, padding=1)

    def doubled(x):
        term = conv(x)
        return Add(term, term)

    graph = build(doubled, x=IMAGE)
    check_pass(PASSES, graph)
    [node] = graph.nodes
    assert np.array_equal(node.op.weight, 2 * conv.weight)


def test_term_that_occurs_twice_beside_a_branch_stays_for_the_other_occurrence(rng):
    conv, other = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1)

    def three(x, z):
        term = conv(relu(x))
        return Add(Add(term, term), other(z))

    graph = build(three, x=IMAGE, z=IMAGE)
    check_pass(PASSES, graph)
    assert sorted(node.op.kind for node in graph.nodes) == ["Conv", "Conv", "Relu", "Sum"]


def test_two_norms_of_one_conv_become_one_and_fold(rng):
    first, second = random_batch_norm(rng, 4), random_batch_norm(rng, 4)

    def block(x):
        shared = random_conv(rng, 4, 4, 3, padding=1)(x)
        return Add(first(shared), second(shared))

    graph = build(block, x=IMAGE)
    log = check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv"]
    assert [step.rule for step in log.steps] == ["merge_parallel_branches", "fold_batch_norm"]


def test_average_pool_next_to_a_strided_conv(rng):
    conv, pool = random_conv(rng, 4, 4, 3, padding=1, stride=2, groups=2), AvgPool((2, 2), (2, 2), ((0, 0),) * 2, 4)
    graph = build(lambda x: Add(conv(x), random_conv(rng, 4, 4, 1)(pool(x))), x=(None, 4, 14, 10))
    check_pass(PASSES, graph)
    [node] = graph.nodes
    assert node.op.kernel_size == (3, 3)
    assert node.op.groups == 1


def test_strided_identity_next_to_a_strided_conv(rng):
    graph = build(lambda x: Add(random_conv(rng, 4, 4, 3, padding=1, stride=2)(x), Subsample((2, 2))(Identity()(x))), x=IMAGE)
    check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv"]


def test_different_strides_are_refused(rng):
    conv, strided = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1, stride=2)
    whole = build(lambda x: Add(conv(x), replace(strided, padding=((4, 3), (3, 3)))(x)), x=(None, 4, 8, 6))
    log = check_pass(merge_parallel_branches, whole)
    assert not log.steps
    assert log.declined[0].reason == "the branches have strides (1, 1) and (2, 2)"


def test_outputs_that_may_differ_in_size_are_refused_until_the_size_is_known(rng):
    wide, narrow = random_conv(rng, 4, 4, 3, stride=2, padding=1), random_conv(rng, 4, 4, 2, stride=2)

    def block(x):
        return Add(wide(x), narrow(x))

    known = build(block, x=(None, 4, 14, 10))  # an odd size would not even be summed
    assert len(check_pass(merge_parallel_branches, known).steps) == 1
    log = check_pass(merge_parallel_branches, build(block, x=(None, 4, 14, None)))
    assert not log.steps
    assert log.declined[0].reason == "the branches' outputs differ in size"


def test_outputs_that_broadcast_over_pixels_are_refused(rng):
    graph = build(lambda x: Add(random_conv(rng, 4, 4, 3, padding=1)(x), random_conv(rng, 4, 4, 5)(x)), x=(None, 4, 5, 5))
    log = check_pass(merge_parallel_branches, graph)
    assert not log.steps
    assert log.declined[0].reason == "the branches' outputs differ in size"


def test_branch_that_the_graph_hands_out_stays(rng):
    def tapped(x):
        branch = random_conv(rng, 4, 4, 1)(x)
        return {"branch": branch, "y": Add(random_conv(rng, 4, 4, 3, padding=1)(x), branch)}

    log = check_pass(merge_parallel_branches, build(tapped, x=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == "'branch' is an output of the graph"


def test_partial_sum_that_is_read_elsewhere_is_a_term_of_its_own(rng):
    convs = [random_conv(rng, 4, 4, 3, padding=1) for _ in range(4)]

    def tapped(x):
        partial = Add(convs[0](x), convs[1](x))
        return {"y": Add(Add(partial, convs[2](x)), convs[3](x)), "partial": partial}

    graph = build(tapped, x=IMAGE)
    check_pass(merge_parallel_branches, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %partial = Conv(%x) 4->4 3x3 padding=1 bias : [?, 4, ?, ?]
          %y/1 = Conv(%x) 4->4 3x3 padding=1 bias : [?, 4, ?, ?]
          %y = Add(%y/1, %partial) : [?, 4, ?, ?]
          return %y, %partial
    """)


def test_average_pool_that_leaves_padding_out_of_its_mean_is_a_fence(rng):
    """Lifted as opaque: count_include_pad=False divides by fewer pixels at the border, which no convolution does."""

    def mean(x):
        padded, ones = (np.pad(array, ((0, 0), (0, 0), (1, 1), (1, 1))) for array in (x, np.ones_like(x)))
        windows = [np.lib.stride_tricks.sliding_window_view(array, (3, 3), (2, 3)).sum((4, 5)) for array in (padded, ones)]
        return windows[0] / windows[1]

    graph = build(lambda x: Add(random_conv(rng, 4, 4, 3, padding=1)(x), opaque("AveragePool", mean)(x)), x=IMAGE)
    assert not check_pass(PASSES, graph).steps


def test_depthwise_and_dense_stay_apart_where_that_is_faster(rng):
    depthwise, dense = random_conv(rng, 64, 64, 3, padding=1, groups=64), random_conv(rng, 64, 64, 1)
    graph = build(lambda x: Add(depthwise(x), dense(x)), x=(1, 64, 56, 56))
    for objective in ("latency", "macs", "params"):
        log = check_pass(PASSES, graph, objective)
        assert not log.steps
        assert f"it would cost more ({objective}" in log.declined[0].reason
    assert len(check_pass(PASSES, graph, "plain").steps) == 1


@pytest.mark.parametrize("shape", [(None, 4), (None, 4, None), IMAGE], ids=str)
def test_branches_that_only_scale_become_one_scale(rng, shape):
    graph = build(lambda x: Sum((1, 1, -1))(random_batch_norm(rng, 4)(x), random_scale(rng, 1)(x), x), x=shape)
    check_pass(PASSES, graph, "latency")
    assert kinds(graph) == ["Scale"]


def test_weights_of_a_branch_may_be_shared_with_another_layer(rng):
    conv = random_conv(rng, 4, 4, 3, padding=1)
    weight = conv.weight.copy()
    graph = build(lambda x: conv(relu(Add(conv(x), x))), x=IMAGE)
    check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv", "Relu", "Conv"]
    assert np.array_equal(conv.weight, weight)
    assert isinstance(graph.outputs[0].producer.op, Conv)
