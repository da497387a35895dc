from inspect import cleandoc

import pytest

from repcompiler.cost import OBJECTIVES
from repcompiler.ops import SpaceToDepth
from repcompiler.passes.merge_space_to_depth_into_conv import merge_space_to_depth_into_conv
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, deviations, random_conv

ANY = (None, 3, None, None)


def merged(before, graph, sizes):
    """The log of the pass on `graph`, which computes what `before` does at these sizes."""
    log = Rewriter(graph, [merge_space_to_depth_into_conv], OBJECTIVES["plain"]).run()
    graph.check()
    for size in sizes:
        assert max(deviation.worst for deviation in deviations(before, graph, size)) < 1e-12
    return log


def test_a_conv_of_blocks_that_pads_is_one_of_pixels_that_pads(rng):
    conv = random_conv(rng, 12, 8, 3, padding=1)
    before, graph = (build(lambda x: conv(SpaceToDepth(2, "DCR")(x)), x=ANY) for _ in range(2))
    merged(before, graph, [(12, 18), (6, 12), (2, 2), (4, 2)])
    assert render(graph) == cleandoc("""
        graph(%x: [?, 3, ?, ?])
          %y = Conv(%x) 3->8 6x6 stride=2 padding=2 bias : [?, 8, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize(
    ("block", "arguments"),
    [
        (2, {"kernel_size": 3, "padding": 1, "stride": 2}),
        (2, {"kernel_size": 3, "padding": 2, "dilation": 2}),
        (3, {"kernel_size": (1, 3), "padding": (0, 1)}),
        (3, {"kernel_size": 2, "padding": 1, "groups": 3}),
        (2, {"kernel_size": 5, "padding": (2, 0), "bias": False}),
        (2, {"kernel_size": 2, "padding": ((1, 0), (0, 1))}),
    ],
)
def test_with_any_stride_dilation_padding_groups_and_order(rng, mode, block, arguments):
    conv = random_conv(rng, 3 * block**2, 6, **arguments)
    before, graph = (build(lambda x: conv(SpaceToDepth(block, mode)(x)), x=ANY) for _ in range(2))
    log = merged(before, graph, [(24, 36), (18, 30), (36, 18)])
    assert [step.rule for step in log.steps] == ["merge_space_to_depth_into_conv"]
