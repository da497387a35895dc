from inspect import cleandoc

import pytest

from repcompiler.passes.merge_pointwise_after_conv_transpose import merge_pointwise_after_conv_transpose
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv, random_conv_transpose

IMAGE = (None, 8, None, None)


def test_up_sampling_and_mixing_become_one(rng):
    up = random_conv_transpose(rng, 8, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
    graph = build(lambda x: random_conv(rng, 4, 6, 1, groups=2)(up(x)), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %convtranspose1 = ConvTranspose(%x) 8->4 3x3 stride=2 padding=1 output_padding=1 groups=2 bias : [?, 4, ?, ?]
          %y = Conv(%convtranspose1) 4->6 1x1 groups=2 bias : [?, 6, ?, ?]
          return %y
    """)
    check_pass(merge_pointwise_after_conv_transpose, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %y = ConvTranspose(%x) 8->6 3x3 stride=2 padding=1 output_padding=1 groups=2 bias : [?, 6, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("kernel", [(3,), (3, 2), (2, 3, 1)])
@pytest.mark.parametrize(("groups", "mixing"), [(1, 1), (4, 2), (2, 4), (4, 4)])
def test_groups_meet_in_any_number_of_axes(rng, kernel, groups, mixing):
    up = random_conv_transpose(rng, 8, 4, kernel, stride=2, groups=groups)
    mix = random_conv(rng, 4, 8, (1,) * len(kernel), groups=mixing)
    graph = build(lambda x: mix(up(x)), x=(None, 8, *(None,) * len(kernel)))
    assert len(check_pass(merge_pointwise_after_conv_transpose, graph).steps) == 1


@pytest.mark.parametrize(
    "arguments",
    [{"kernel_size": (1, 3)}, {"kernel_size": 1, "padding": ((0, 0), (0, 1))}, {"kernel_size": 1, "stride": (2, 1)}],
)
def test_second_that_sees_other_pixels_is_refused(rng, arguments):
    up, mix = random_conv_transpose(rng, 8, 4, 3, stride=2), random_conv(rng, 4, 3, **arguments)
    log = check_pass(merge_pointwise_after_conv_transpose, build(lambda x: mix(up(x)), x=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == "the convolution does more than mix the channels of one pixel"
