from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.interpreter import evaluate
from repcompiler.ops import AvgPool, Sum
from repcompiler.passes.average_pool_to_conv import average_pool_to_conv
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.passes.merge_sequential_convs import merge_sequential_convs
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv

PASSES = [merge_sequential_convs, merge_parallel_branches, average_pool_to_conv]


def test_pool_after_a_pointwise_conv_becomes_one_kernel(rng):
    conv, pool = random_conv(rng, 4, 8, 1, bias=False), AvgPool((3, 3), (2, 2), ((1, 1), (1, 1)), 9)
    graph = build(lambda x: pool(conv(x)), x=(None, 4, None, None))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->8 1x1 : [?, 8, ?, ?]
          %y = AvgPool(%conv1) 3x3 stride=2 padding=1 : [?, 8, ?, ?]
          return %y
    """)
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->8 3x3 stride=2 padding=1 : [?, 8, ?, ?]
          return %y
    """)


@pytest.mark.parametrize(
    "pool",
    [
        AvgPool((3,), (1,), ((1, 1),), 3),
        AvgPool((2, 3), (2, 1), ((0, 1), (2, 0)), 6),
        AvgPool((2, 2, 2), (2, 2, 2), ((0, 0),) * 3, 8),
        AvgPool((2, 2), (2, 2), ((0, 0),) * 2, 3),
    ],
    ids=["1-D", "even and asymmetric", "3-D", "divisor_override"],
)
def test_pool_and_its_convolution_agree(rng, pool):
    x = rng.normal(size=(2, 3, 5, 6, 4)[: 2 + len(pool.stride)])
    conv = average_pool_to_conv.view(pool, 3, len(pool.stride))
    assert np.allclose(evaluate(conv, [x])[0], evaluate(pool, [x])[0], rtol=0, atol=1e-14)


def test_pool_beside_a_depthwise_conv_stays_depthwise(rng):
    conv, pool = random_conv(rng, 4, 4, 3, padding=1, groups=4), AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9)
    graph = build(lambda x: Sum((1, 1))(conv(x), pool(x)), x=(None, 4, None, None))
    check_pass(PASSES, graph)
    [node] = graph.nodes
    assert node.op.groups == 4


def test_pool_that_pads_a_biased_map_is_refused(rng):
    graph = build(lambda x: AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9)(random_conv(rng, 4, 4, 1)(x)), x=(None, 4, None, None))
    log = check_pass(PASSES, graph)
    assert not log.steps
    assert "already carries a bias: exact only inside the image" in log.declined[0].reason


def test_pools_in_a_row_without_any_conv_stay_pools(rng):
    pool = AvgPool((2, 2), (2, 2), ((0, 0),) * 2, 4)
    log = check_pass(PASSES, build(lambda x: pool(pool(x)), x=(None, 4, 13, 13)))
    assert not log.steps
