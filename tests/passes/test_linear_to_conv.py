from dataclasses import replace
from inspect import cleandoc

import pytest

from repcompiler.ops import Concat, Identity, Sum, Take
from repcompiler.passes import PASSES
from repcompiler.passes.linear_to_conv import linear_to_conv
from repcompiler.passes.merge_sequential_convs import merge_sequential_convs
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_linear, random_scale, relu

SEQUENCE = (linear_to_conv, merge_sequential_convs)


def test_two_linears_become_one(rng):
    graph = build(lambda x: random_linear(rng, 16, 3)(random_linear(rng, 5, 16)(x)), x=(None, 5))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 5])
          %linear1 = Linear(%x) 5->16 bias : [?, 16]
          %y = Linear(%linear1) 16->3 bias : [?, 3]
          return %y
    """)
    check_pass(SEQUENCE, graph, "latency")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 5])
          %y = Linear(%x) 5->3 bias : [?, 3]
          return %y
    """)


@pytest.mark.parametrize("shape", [(None, 5), (None, 7, 5), (None, 2, 7, 5)], ids=str)
def test_linears_act_on_the_last_axis_whatever_the_rank(rng, shape):
    graph = build(lambda x: random_linear(rng, 8, 6, bias=False)(random_linear(rng, 5, 8)(x)), x=shape)
    assert len(check_pass(SEQUENCE, graph).steps) == 1


@pytest.mark.parametrize("objective", ["latency", "macs", "params"])
def test_low_rank_pair_stays_where_its_product_would_be_dearer(rng, objective):
    graph = build(lambda x: random_linear(rng, 8, 512)(random_linear(rng, 512, 8)(x)), x=(None, 196, 512))
    log = check_pass(SEQUENCE, graph, objective)
    assert not log.steps
    assert f"it would cost more ({objective}" in log.declined[0].reason


def test_an_activation_between_is_a_fence(rng):
    graph = build(lambda x: random_linear(rng, 8, 6)(relu(random_linear(rng, 5, 8)(x))), x=(None, 5))
    log = check_pass(SEQUENCE, graph)
    assert not log.steps
    assert not log.declined


def test_hidden_layer_goes_once_both_heads_take_it_in(rng):
    def two_heads(x):
        hidden = random_linear(rng, 5, 8)(x)
        return {"y": random_linear(rng, 8, 2)(hidden), "z": random_linear(rng, 8, 3)(hidden)}

    graph = build(two_heads, x=(None, 5))
    check_pass(SEQUENCE, graph)
    assert [str(node.op) for node in graph.nodes] == ["Linear 5->2", "Linear 5->3"]


def test_hidden_layer_that_something_else_reads_stays(rng):
    def tapped(x):
        hidden = random_linear(rng, 5, 8)(x)
        return {"y": random_linear(rng, 8, 2)(hidden), "z": relu(hidden)}

    log = check_pass(SEQUENCE, build(tapped, x=(None, 5)))
    assert not log.steps
    assert {declined.reason for declined in log.declined} == {"'linear1' is read more than once"}


def shown(graph):
    return [str(node.op) for node in graph.nodes]


@pytest.mark.parametrize("shape", [(None, 8), (None, 7, 8), (None, 2, 7, 8)], ids=str)
def test_a_low_rank_adapter_becomes_part_of_the_weight(rng, shape):
    whole, down, up = random_linear(rng, 8, 8), random_linear(rng, 8, 2, bias=False), random_linear(rng, 2, 8, bias=False)
    graph = build(lambda x: Sum((1, 1))(whole(x), random_scale(rng, 1)(up(down(x)))), x=shape)
    check_pass(PASSES, graph, "latency")
    assert shown(graph) == ["Linear 8->8"]


def test_branches_identities_and_differences_merge(rng):
    first, second = random_linear(rng, 6, 6), random_linear(rng, 6, 6)
    graph = build(lambda x: Sum((1, 1))(Sum((1, -1))(first(x), second(x)), Identity()(x)), x=(None, 5, 6))
    check_pass(PASSES, graph, "plain")
    assert shown(graph) == ["Linear 6->6"]


def test_a_scale_of_the_last_axis_beside_a_linear_merges(rng):
    scale, linear = replace(random_scale(rng, 6), axis=2), random_linear(rng, 6, 6)
    graph = build(lambda x: Sum((1, 1))(linear(x), scale(x)), x=(None, 6, 6))
    check_pass(PASSES, graph, "plain")
    assert shown(graph) == ["Linear 6->6"]


@pytest.mark.parametrize("other", [random_scale, random_batch_norm])
def test_what_acts_on_axis_1_does_not_merge_with_what_acts_on_the_last(rng, other):
    op, linear = other(rng, 6), random_linear(rng, 6, 6)
    for block in (lambda x: Sum((1, 1))(linear(x), op(x)), lambda x: linear(op(x)), lambda x: op(linear(x))):
        graph = build(block, x=(None, 6, 6))
        check_pass(PASSES, graph, "plain")
        assert len(graph.nodes) == len(build(block, x=(None, 6, 6)).nodes)


def test_a_convolution_along_the_last_axis_does_not_merge_with_a_linear_on_it(rng):
    conv, linear = random_conv(rng, 6, 6, (1,)), random_linear(rng, 6, 6)
    for block in (lambda x: linear(conv(x)), lambda x: conv(linear(x)), lambda x: Sum((1, 1))(conv(x), linear(x))):
        assert not check_pass(PASSES, build(block, x=(None, 6, 6)), "plain").steps


def test_stacked_layers_are_one_and_stacked_tokens_are_not(rng):
    parts = [random_linear(rng, 6, size) for size in (4, 3, 5)]
    graph = build(lambda x: Concat()(*(part(x) for part in parts)), x=(None, 6))
    check_pass(PASSES, graph, "plain")
    assert shown(graph) == ["Linear 6->12"]
    same = [random_linear(rng, 6, 4) for _ in range(2)]
    graph = build(lambda x: Concat()(*(part(x) for part in same)), x=(None, 5, 6))
    check_pass(PASSES, graph, "plain")
    assert len(graph.nodes) == 3


def test_one_feature_that_is_added_to_all_is_a_weight_of_all(rng):
    graph = build(lambda x: Sum((1, 1))(random_linear(rng, 1, 6)(x), x), x=(None, 5, 1))
    check_pass(PASSES, graph, "plain")
    assert [node.op.kind for node in graph.nodes] == ["Linear"]


def test_one_token_that_is_added_to_all_is_no_weight(rng):
    graph = build(lambda x: Sum((1, 1))(random_linear(rng, 4, 4)(x), Take(1, 0, keep=True)(x)), x=(None, 5, 4))
    assert not check_pass(PASSES, graph, "plain").steps
