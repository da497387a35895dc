from inspect import cleandoc

import pytest

from repcompiler.ops import DepthToSpace
from repcompiler.passes.merge_pointwise_through_depth_to_space import merge_pointwise_through_depth_to_space
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
def test_mixing_pixels_is_mixing_the_channels_that_become_them(rng, mode):
    make, mix = random_conv(rng, 5, 16, 3, padding=1), random_conv(rng, 4, 3, 1)
    graph = build(lambda x: mix(DepthToSpace(2, mode)(make(x))), x=(None, 5, 7, 6))
    check_pass(merge_pointwise_through_depth_to_space, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 5, 7, 6])
          %y/1 = Conv(%x) 5->12 3x3 padding=1 bias : [?, 12, 7, 6]
          %y = DepthToSpace(%y/1) : [?, 3, 14, 12]
          return %y
    """)


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
@pytest.mark.parametrize("first", [{"groups": 4}, {"stride": 2, "bias": False}, {"dilation": 2, "padding": 1}])
def test_in_groups_with_strides_and_dilations(rng, mode, first):
    make, mix = random_conv(rng, 8, 36, 3, **first), random_conv(rng, 4, 6, 1, groups=2)
    log = check_pass(
        merge_pointwise_through_depth_to_space, build(lambda x: mix(DepthToSpace(3, mode)(make(x))), x=(None, 8, 9, 8)), "plain"
    )
    assert [step.rule for step in log.steps] == ["merge_pointwise_through_depth_to_space"]


@pytest.mark.parametrize("arguments", [{"kernel_size": 3}, {"kernel_size": 1, "padding": 1}, {"kernel_size": 1, "stride": 2}])
def test_a_conv_that_sees_other_pixels_is_refused(rng, arguments):
    make, mix = random_conv(rng, 5, 16, 3), random_conv(rng, 4, 3, **arguments)
    graph = build(lambda x: mix(DepthToSpace(2, "CRD")(make(x))), x=(None, 5, 9, 8))
    log = check_pass(merge_pointwise_through_depth_to_space, graph)
    assert not log.steps
    assert log.declined[0].reason == "it does more than mix the channels of one pixel"
