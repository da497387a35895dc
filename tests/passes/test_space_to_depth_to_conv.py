from inspect import cleandoc

import pytest

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import Concat, SpaceToDepth, Subsample
from repcompiler.passes import PASSES
from repcompiler.passes.merge_sequential_convs import merge_sequential_convs
from repcompiler.passes.space_to_depth_to_conv import space_to_depth_to_conv
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import assert_equivalent, build, check_pass, deviations, random_batch_norm, random_conv

SQUARE = (None, 3, 12, 18)


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
@pytest.mark.parametrize("block", [2, 3])
@pytest.mark.parametrize("axes", [1, 2])
def test_it_is_the_convolution_it_is_shown_as(mode, block, axes):
    op = SpaceToDepth(block, mode)
    shape = (None, 3, *(12, 18)[:axes])
    shown = space_to_depth_to_conv.view(op, 3, axes)
    assert_equivalent(build(lambda x: op(x), x=shape), build(lambda x: shown(x), x=shape))


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
def test_space_to_depth_before_a_pointwise_conv_becomes_a_strided_one(rng, mode):
    conv = random_conv(rng, 12, 8, 1)
    graph = build(lambda x: conv(SpaceToDepth(2, mode)(x)), x=SQUARE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 3, 12, 18])
          %spacetodepth1 = SpaceToDepth(%x) : [?, 12, 6, 9]
          %y = Conv(%spacetodepth1) 12->8 1x1 bias : [?, 8, 6, 9]
          return %y
    """)
    check_pass([merge_sequential_convs, space_to_depth_to_conv], graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 3, 12, 18])
          %y = Conv(%x) 3->8 2x2 stride=2 bias : [?, 8, 6, 9]
          return %y
    """)


@pytest.mark.parametrize("objective", ["plain", "latency", "macs", "params"])
def test_its_stride_and_kernel_count_under_every_objective(rng, objective):
    graph = build(
        lambda x: random_batch_norm(rng, 8)(random_conv(rng, 12, 8, 1, bias=False)(SpaceToDepth(2, "CRD")(x))), x=SQUARE
    )
    check_pass(PASSES, graph, objective)
    assert [node.op.kind for node in graph.topological()] == ["Conv"]


def test_behind_a_conv_without_padding_it_composes_to_a_larger_one(rng):
    graph = build(lambda x: random_conv(rng, 12, 8, 3)(SpaceToDepth(2, "DCR")(x)), x=SQUARE)
    check_pass(PASSES, graph)
    assert [str(node.op) for node in graph.topological()] == ["Conv 3->8 6x6"]


def focus(x):
    """Four strided slices, concatenated: space-to-depth as YOLOv5 writes it."""
    return Concat()(*(Subsample((2, 2), first)(x) for first in ((), (1, 0), (0, 1), (1, 1))))


def test_four_strided_slices_and_a_padded_conv_become_one_where_the_image_is_known_to_be_even(rng):
    graph = build(lambda x: random_conv(rng, 12, 8, 3, padding=1)(focus(x)), x=SQUARE)
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 3, 12, 18])
          %y = Conv(%x) 3->8 6x6 stride=2 padding=2 bias : [?, 8, 6, 9]
          return %y
    """)


def test_behind_an_image_that_may_be_odd_for_all_this_says_padding_is_refused(rng):
    graph = build(lambda x: random_conv(rng, 12, 8, 3, padding=1)(SpaceToDepth(2, "DCR")(x)), x=(None, 3, None, None))
    log = Rewriter(graph, [merge_sequential_convs, space_to_depth_to_conv], OBJECTIVES["plain"]).run()
    assert not log.steps
    assert "where the first would go on" in log.declined[0].reason


def test_strided_slices_agree_in_size_where_they_can_be_concatenated_at_all(rng):
    conv = random_conv(rng, 12, 8, 1)
    before, graph = (build(lambda x: conv(focus(x)), x=(None, 3, None, None)) for _ in range(2))
    Rewriter(graph, PASSES, OBJECTIVES["plain"]).run()
    assert [str(node.op) for node in graph.nodes] == ["Conv 3->8 2x2"]
    for size in ((14, 18), (2, 4), (6, 2)):
        assert max(deviation.worst for deviation in deviations(before, graph, size)) < 1e-12


def test_a_merge_of_slices_is_checked_by_itself(rng):
    graph = build(lambda x: random_conv(rng, 12, 8, 3)(focus(x)), x=SQUARE)
    log = Rewriter(graph, PASSES, OBJECTIVES["plain"], need=Certify.ALL).run()
    assert log.steps
    assert [str(node.op) for node in graph.nodes] == ["Conv 3->8 6x6"]
    assert log.steps[-1].certificate.verdict == "correctly rounded"
