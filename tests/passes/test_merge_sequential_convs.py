from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.algebra import compose
from repcompiler.ops import AvgPool, Identity, Pad, Subsample
from repcompiler.passes import PASSES
from repcompiler.passes.average_pool_to_conv import average_pool_to_conv
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.merge_sequential_convs import merge_sequential_convs
from repcompiler.passes.pad_to_conv import pad_to_conv
from repcompiler.printer import attributes, render
from repcompiler.testing import build, check_pass, deviations, random_batch_norm, random_conv, random_scale, relu

IMAGE = (None, 4, None, None)


def test_pointwise_then_spatial_becomes_one_kernel(rng):
    first, second = random_conv(rng, 4, 6, 1), random_conv(rng, 6, 8, 3, stride=2)
    graph = build(lambda x: second(first(x)), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->6 1x1 bias : [?, 6, ?, ?]
          %y = Conv(%conv1) 6->8 3x3 stride=2 bias : [?, 8, ?, ?]
          return %y
    """)
    check_pass(merge_sequential_convs, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->8 3x3 stride=2 bias : [?, 8, ?, ?]
          return %y
    """)


def test_padding_of_the_first_stays_where_it_is(rng):
    first = random_conv(rng, 4, 6, 3, stride=2, padding=((1, 2), (0, 3)), dilation=2)
    graph = build(lambda x: random_conv(rng, 6, 4, 1, stride=2)(first(x)), x=IMAGE)
    check_pass(merge_sequential_convs, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->4 3x3 stride=4 padding=1:2x0:3 dilation=2 bias : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ({"kernel_size": 3}, {"kernel_size": 3}, "4->4 5x5"),
        ({"kernel_size": (3, 2)}, {"kernel_size": (1, 4)}, "4->4 3x5"),
        ({"kernel_size": 1, "stride": 2}, {"kernel_size": 3, "padding": 1}, "4->4 3x3 stride=2 padding=2 dilation=2"),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 3, "stride": 2}, "4->4 7x7 stride=4 padding=1"),
        ({"kernel_size": 3, "dilation": 4}, {"kernel_size": 3, "dilation": 2}, "4->4 7x7 dilation=2"),
        ({"kernel_size": 3, "padding": 2}, {"kernel_size": 3, "padding": 1}, "4->4 5x5 padding=3"),
        ({"kernel_size": (5,)}, {"kernel_size": (2,), "stride": 3}, "4->4 6 stride=3"),
        ({"kernel_size": (1, 2, 2), "padding": 1}, {"kernel_size": (3, 1, 1)}, "4->4 3x2x2 padding=1"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ",
)
def test_kernels_compose_strides_multiply_paddings_add_up(rng, first, second, merged):
    inner = random_conv(rng, 4, 4, **first, bias="padding" not in second)
    outer = random_conv(rng, 4, 4, **second, bias=False)
    graph = build(lambda x: outer(inner(x)), x=(None, 4, *(None for _ in inner.kernel_size)))
    check_pass(merge_sequential_convs, graph)
    [node] = graph.nodes
    assert " ".join(attributes(node.op)) == merged + (" bias" if inner.bias.any() else "")


@pytest.mark.parametrize(
    ("first", "second", "groups"),
    [
        ((4, 8, 1), (8, 12, 1), 1),
        ((4, 8, 2), (8, 12, 2), 2),
        ((4, 8, 4), (8, 12, 4), 4),
        ((4, 8, 4), (8, 12, 2), 2),
        ((4, 8, 2), (8, 16, 8), 2),
        ((6, 12, 2), (12, 6, 3), 1),
        ((4, 4, 4), (4, 8, 2), 2),
        ((4, 8, 2), (8, 8, 8), 2),
    ],
    ids=["dense", "aligned", "depthwise x2", "nested", "finer second", "coprime", "depthwise first", "depthwise second"],
)
def test_groups_of_the_product_are_those_both_share(rng, first, second, groups):
    inner = random_conv(rng, first[0], first[1], 3, groups=first[2])
    outer = random_conv(rng, second[0], second[1], 2, groups=second[2])
    graph = build(lambda x: outer(inner(x)), x=(None, first[0], None, None))
    check_pass(merge_sequential_convs, graph)
    [node] = graph.nodes
    assert node.op.groups == groups
    assert node.op.kernel_size == (4, 4)


def test_the_second_kernel_is_flipped(rng):
    first, second = random_conv(rng, 1, 1, (3,), bias=False), random_conv(rng, 1, 1, (2,), bias=False)
    graph = build(lambda x: second(first(x)), x=(None, 1, None))
    check_pass(merge_sequential_convs, graph)
    [node] = graph.nodes
    assert np.allclose(node.op.weight[0, 0], np.convolve(first.weight[0, 0], second.weight[0, 0]), rtol=0, atol=1e-15)


def test_dbb_branch_with_an_average_pool_becomes_one_kernel(rng):
    first, norm, pool = (
        random_conv(rng, 4, 4, 1, bias=False),
        random_batch_norm(rng, 4),
        AvgPool((3, 3), (2, 2), ((0, 0),) * 2, 9),
    )
    graph = build(lambda x: random_batch_norm(rng, 4)(pool(norm(first(Pad(((1, 1), (1, 1)))(x))))), x=IMAGE)
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->4 3x3 stride=2 padding=1 bias : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("bias", [True, False])
def test_padding_before_the_first_is_taken_in(rng, bias):
    first, second = random_conv(rng, 4, 4, 1, bias=bias), random_conv(rng, 4, 4, 3)
    graph = build(lambda x: second(first(Pad(((1, 0), (0, 2)))(x))), x=IMAGE)
    check_pass([merge_sequential_convs, pad_to_conv], graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->4 3x3 padding=1:0x0:2 bias : [?, 4, ?, ?]
          return %y
    """)


def test_crop_between_moves_to_the_front_and_stays_an_operation_of_its_own(rng):
    first, second = random_conv(rng, 4, 4, 3, stride=2), random_conv(rng, 4, 4, 3)
    graph = build(lambda x: second(Pad(((-1, 0), (0, -1)))(first(x))), x=IMAGE)
    check_pass([merge_sequential_convs, pad_to_conv], graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y/1 = Pad(%x) padding=-2:0x0:-2 : [?, 4, ?, ?]
          %y = Conv(%y/1) 4->4 7x7 stride=2 bias : [?, 4, ?, ?]
          return %y
    """)


def test_crop_eats_the_padding_before_it(rng):
    first, second = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 3)
    graph = build(lambda x: second(Pad(((-1, -1), (0, -1)))(first(x))), x=IMAGE)
    check_pass([merge_sequential_convs, pad_to_conv], graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->4 5x5 padding=0x1:0 bias : [?, 4, ?, ?]
          return %y
    """)


def test_second_that_pads_a_biased_map_is_refused(rng):
    graph = build(lambda x: random_conv(rng, 4, 4, 3, padding=1)(random_conv(rng, 4, 4, 1)(x)), x=IMAGE)
    log = check_pass(merge_sequential_convs, graph)
    assert not log.steps
    assert log.declined[0].reason == "the second pads a map that already carries a bias: exact only inside the image"


def test_merging_through_a_padded_bias_would_be_wrong_at_the_border_alone(rng):
    first, second = random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 3, padding=1)
    naive = replace(compose(first, replace(second, padding=((0, 0),) * 2)), padding=second.padding)
    [deviation] = deviations(build(lambda x: second(first(x)), x=IMAGE), build(lambda x: naive(x), x=IMAGE))
    assert deviation.border > 0.1
    assert max(deviation.by_depth[1:]) < 1e-12


def test_second_that_pads_what_the_first_would_go_on_with_is_refused(rng):
    same = {"kernel_size": 3, "padding": 1, "bias": False}
    graph = build(lambda x: random_conv(rng, 4, 4, **same)(random_conv(rng, 4, 4, **same)(x)), x=IMAGE)
    log = check_pass(merge_sequential_convs, graph)
    assert not log.steps
    assert log.declined[0].reason == "the second pads with zeros where the first would go on: exact only inside the image"


def test_two_padded_kernels_as_one_would_be_wrong_at_the_border_alone(rng):
    first, second = (random_conv(rng, 4, 4, 3, padding=1, bias=False) for _ in range(2))
    naive = replace(compose(first, replace(second, padding=((0, 0),) * 2)), padding=((2, 2),) * 2)
    [deviation] = deviations(build(lambda x: second(first(x)), x=IMAGE), build(lambda x: naive(x), x=IMAGE))
    assert deviation.border > 0.1
    assert max(deviation.by_depth[1:]) < 1e-12


def test_second_that_pads_where_the_first_cropped_is_refused(rng):
    graph = build(lambda x: random_conv(rng, 4, 4, 3, padding=1)(Pad(((0, 0), (0, -1)))(x)), x=IMAGE)
    log = check_pass([merge_sequential_convs, pad_to_conv], graph)
    assert not log.steps
    assert "the second pads with zeros where the first would go on" in log.declined[0].reason


def test_one_dimension_that_pads_is_enough_to_refuse(rng):
    first, second = random_conv(rng, 4, 4, (1, 3), bias=False), random_conv(rng, 4, 4, (3, 3), padding=(1, 0))
    assert len(check_pass(merge_sequential_convs, build(lambda x: second(first(x)), x=IMAGE)).steps) == 1
    across = replace(second, padding=((0, 0), (0, 1)))
    assert not check_pass(merge_sequential_convs, build(lambda x: across(first(x)), x=IMAGE)).steps


def test_scales_and_subsampling_are_convolutions_too(rng):
    conv = random_conv(rng, 4, 6, 3, padding=1)
    graph = build(lambda x: Subsample((2, 2))(Identity()(random_scale(rng, 6)(conv(x)))), x=IMAGE)
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->6 3x3 stride=2 padding=1 bias : [?, 6, ?, ?]
          return %y
    """)


def test_what_no_pass_in_use_shows_as_a_convolution_is_a_fence(rng):
    pool = AvgPool((2, 2), (2, 2), ((0, 0),) * 2, 4)
    graph = build(lambda x: pool(random_conv(rng, 4, 4, 3)(x)), x=IMAGE)
    assert not check_pass([merge_sequential_convs, batch_norm_to_conv], graph).steps
    assert len(check_pass([merge_sequential_convs, average_pool_to_conv], graph).steps) == 1


def test_first_that_is_read_twice_stays(rng):
    def fan_out(x):
        first = random_conv(rng, 4, 4, 1)(x)
        return {"y": random_conv(rng, 4, 4, 3)(first), "z": relu(first)}

    log = check_pass(merge_sequential_convs, build(fan_out, x=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == "'conv1' is read more than once"


def test_value_that_the_graph_hands_out_stays_in_the_middle_of_a_chain(rng):
    def tapped(x):
        first = random_conv(rng, 4, 4, 1)(x)
        second = random_conv(rng, 4, 4, 3)(first)
        return {"features": second, "y": random_conv(rng, 4, 4, 3)(random_conv(rng, 4, 4, 1)(second))}

    graph = build(tapped, x=IMAGE)
    check_pass(merge_sequential_convs, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %features = Conv(%x) 4->4 3x3 bias : [?, 4, ?, ?]
          %y = Conv(%features) 4->4 3x3 bias : [?, 4, ?, ?]
          return %features, %y
    """)


def test_depthwise_then_pointwise_is_refused_where_it_costs_more(rng):
    depthwise, pointwise = random_conv(rng, 64, 64, 3, groups=64), random_conv(rng, 64, 64, 1)
    graph = build(lambda x: pointwise(depthwise(x)), x=(1, 64, 56, 56))
    log = check_pass(merge_sequential_convs, graph, "latency")
    assert not log.steps
    assert "it would cost more (latency" in log.declined[0].reason
    assert len(check_pass(merge_sequential_convs, graph, "plain").steps) == 1


def test_repghost_pointwise_then_padded_depthwise_never_merges(rng):
    expand, norm = random_conv(rng, 4, 8, 1, bias=False), random_batch_norm(rng, 8)
    depthwise = random_conv(rng, 8, 8, 3, padding=1, groups=8, bias=False)
    graph = build(lambda x: random_batch_norm(rng, 8)(depthwise(norm(expand(x)))), x=IMAGE)
    log = check_pass(PASSES, graph, "plain")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %batchnorm1 = Conv(%x) 4->8 1x1 bias : [?, 8, ?, ?]
          %y = Conv(%batchnorm1) 8->8 3x3 padding=1 groups=8 bias : [?, 8, ?, ?]
          return %y
    """)
    assert any("carries a bias: exact only inside the image" in declined.reason for declined in log.declined)
