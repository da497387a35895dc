from inspect import cleandoc

import pytest

from repcompiler.passes.merge_linears import merge_linears
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_linear, relu


def test_two_linears_become_one(rng):
    graph = build(lambda x: random_linear(rng, 16, 3)(random_linear(rng, 5, 16)(x)), x=(None, 5))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 5])
          %linear1 = Linear(%x) 5->16 bias : [?, 16]
          %y = Linear(%linear1) 16->3 bias : [?, 3]
          return %y
    """)
    check_pass(merge_linears, graph, "latency")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 5])
          %y = Linear(%x) 5->3 bias : [?, 3]
          return %y
    """)


@pytest.mark.parametrize("shape", [(None, 5), (None, 7, 5), (None, 2, 7, 5)], ids=str)
def test_linears_act_on_the_last_axis_whatever_the_rank(rng, shape):
    graph = build(lambda x: random_linear(rng, 8, 6, bias=False)(random_linear(rng, 5, 8)(x)), x=shape)
    assert len(check_pass(merge_linears, graph).steps) == 1


@pytest.mark.parametrize("objective", ["latency", "macs", "params"])
def test_low_rank_pair_stays_where_its_product_would_be_dearer(rng, objective):
    graph = build(lambda x: random_linear(rng, 8, 512)(random_linear(rng, 512, 8)(x)), x=(None, 196, 512))
    log = check_pass(merge_linears, graph, objective)
    assert not log.steps
    assert f"it would cost more ({objective}" in log.declined[0].reason


def test_an_activation_between_is_a_fence(rng):
    graph = build(lambda x: random_linear(rng, 8, 6)(relu(random_linear(rng, 5, 8)(x))), x=(None, 5))
    log = check_pass(merge_linears, graph)
    assert not log.steps
    assert not log.declined


def test_hidden_layer_that_is_read_twice_stays(rng):
    def two_heads(x):
        hidden = random_linear(rng, 5, 8)(x)
        return {"y": random_linear(rng, 8, 2)(hidden), "z": random_linear(rng, 8, 3)(hidden)}

    log = check_pass(merge_linears, build(two_heads, x=(None, 5)))
    assert not log.steps
    assert {declined.reason for declined in log.declined} == {"'linear1' is read more than once"}
