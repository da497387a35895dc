from inspect import cleandoc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repcompiler.ops import AvgPool, GlobalAvgPool
from repcompiler.passes import PASSES
from repcompiler.passes.move_pointwise_after_pool import move_pointwise_after_pool
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv

IMAGE = (None, 16, 28, 28)


def pool():
    return AvgPool((2, 2), (2, 2), ((0, 0), (0, 0)), 4)


def kinds(graph):
    return [str(node.op) for node in graph.nodes]


def test_the_transition_of_a_densenet_pools_first(rng):
    conv = random_conv(rng, 16, 8, 1)
    graph = build(lambda x: pool()(conv(x)), x=IMAGE)
    check_pass(PASSES, graph, "macs")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 16, 28, 28])
          %y/1 = AvgPool(%x) 2x2 stride=2 : [?, 16, 14, 14]
          %y = Conv(%y/1) 16->8 1x1 bias : [?, 8, 14, 14]
          return %y
    """)


def test_a_batch_norm_behind_the_pool_folds_too(rng):
    conv, norm = random_conv(rng, 16, 8, 1), random_batch_norm(rng, 8)
    graph = build(lambda x: norm(pool()(conv(x))), x=IMAGE)
    check_pass(PASSES, graph, "macs")
    assert kinds(graph) == ["AvgPool", "Conv 16->8 1x1"]


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((1, 0), (0, 0)), ((0, 0), (0, 1))])
@pytest.mark.parametrize(("bias", "moved"), [(True, False), (False, True)])
def test_padded_zeros_carry_no_bias(rng, bias, moved, padding):
    padded = AvgPool((3, 3), (3, 3), padding, 9)
    graph = build(lambda x: padded(random_conv(rng, 16, 8, 1, bias=bias)(x)), x=IMAGE)
    log = check_pass(move_pointwise_after_pool, graph, "macs")
    assert bool(log.steps) == moved
    assert moved or log.declined[0].reason == "the pool counts padded zeros, which carry no bias"


@pytest.mark.parametrize("geometry", [{"kernel": 3, "padding": 1}, {"stride": 2}, {"padding": 1}], ids=str)
def test_a_convolution_that_looks_around_stays(rng, geometry):
    conv = random_conv(rng, 16, 8, geometry.pop("kernel", 1), **geometry)
    log = check_pass(move_pointwise_after_pool, build(lambda x: pool()(conv(x)), x=IMAGE), "macs")
    assert "does more than mix" in log.declined[0].reason


def test_widening_pools_last_where_that_is_cheaper(rng):
    overlapping = AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9)
    graph = build(lambda x: overlapping(random_conv(rng, 64, 1, 1, bias=False)(x)), x=(None, 64, 28, 28))
    log = check_pass(move_pointwise_after_pool, graph, "macs")
    assert "it would cost more" in log.declined[0].reason


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.integers(1, 9), st.booleans(), st.integers(0, 2**32))
def test_any_pool_and_divisor_comes_out_exactly(size, stride, padding, divisor, grouped, seed):
    import numpy as np

    rng = np.random.default_rng(seed)
    op = AvgPool((size, size), (stride, stride), ((min(padding, size - 1),) * 2,) * 2, divisor)
    conv = random_conv(rng, 4, 6, 1, groups=2 if grouped else 1, bias=padding == 0)
    check_pass(move_pointwise_after_pool, build(lambda x: op(conv(x)), x=(None, 4, 9, 7)), "macs")


def test_the_mean_of_all_pixels_comes_first(rng):
    conv, norm = random_conv(rng, 16, 8, 1), random_batch_norm(rng, 8)
    graph = build(lambda x: GlobalAvgPool()(norm(conv(x))), x=(None, 16, None, None))
    check_pass(PASSES, graph, "latency")
    assert kinds(graph) == ["GlobalAvgPool", "Conv 16->8 1x1"]


@pytest.mark.parametrize("groups", [1, 4])
def test_a_mean_that_is_a_number_a_channel_is_mixed_by_a_fully_connected_layer(rng, groups):
    conv = random_conv(rng, 16, 8, 1, groups=groups)
    graph = build(lambda x: GlobalAvgPool(dropped=2)(conv(x)), x=IMAGE)
    check_pass(move_pointwise_after_pool, graph, "macs")
    assert kinds(graph) == ["GlobalAvgPool", "Linear 16->8"]
