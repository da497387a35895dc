from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.algebra import constant_response
from repcompiler.algebra_transposed import pointwise_before
from repcompiler.ops import Conv
from repcompiler.passes.merge_pointwise_before_conv_transpose import merge_pointwise_before_conv_transpose
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, deviations, random_conv, random_conv_transpose

IMAGE = (None, 8, None, None)


def test_mixing_and_up_sampling_become_one(rng):
    mix, up = random_conv(rng, 8, 4, 1, groups=2, bias=False), random_conv_transpose(rng, 4, 6, 3, stride=2, padding=1)
    graph = build(lambda x: up(mix(x)), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %conv1 = Conv(%x) 8->4 1x1 groups=2 : [?, 4, ?, ?]
          %y = ConvTranspose(%conv1) 4->6 3x3 stride=2 padding=1 bias : [?, 6, ?, ?]
          return %y
    """)
    check_pass(merge_pointwise_before_conv_transpose, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %y = ConvTranspose(%x) 8->6 3x3 stride=2 padding=1 bias : [?, 6, ?, ?]
          return %y
    """)


@pytest.mark.parametrize(
    "arguments", [{"stride": 2}, {"padding": 1}, {"padding": ((2, 1), 2)}, {"kernel_size": 2, "stride": 2}]
)
def test_bias_that_meets_other_taps_from_pixel_to_pixel_is_refused(rng, arguments):
    up = random_conv_transpose(rng, 4, 6, **{"kernel_size": 3, **arguments})
    log = check_pass(merge_pointwise_before_conv_transpose, build(lambda x: up(random_conv(rng, 8, 4, 1)(x)), x=IMAGE))
    assert not log.steps
    assert "its bias meets fewer taps at the border" in log.declined[0].reason


def test_merging_the_bias_all_the_same_would_be_wrong_at_the_border_alone(rng):
    mix, up = random_conv(rng, 8, 4, 1), random_conv_transpose(rng, 4, 6, 3, padding=1)
    rows = Conv(np.swapaxes(up.weight, 0, 1), up.bias, up.stride, up.padding, up.dilation, 1)
    naive = pointwise_before(replace(mix, bias=np.zeros(4)), up)
    naive = replace(naive, bias=up.bias + constant_response(rows, mix.bias))
    [deviation] = deviations(build(lambda x: up(mix(x)), x=IMAGE), build(lambda x: naive(x), x=IMAGE))
    assert deviation.border > 0.01
    assert max(deviation.by_depth[1:]) < 1e-12


@pytest.mark.parametrize("arguments", [{"kernel_size": 3, "padding": 2}, {"kernel_size": 1, "groups": 2}])
def test_bias_that_meets_all_taps_everywhere_is_taken_in(rng, arguments):
    up = random_conv_transpose(rng, 4, 6, **arguments)
    graph = build(lambda x: up(random_conv(rng, 8, 4, 1)(x)), x=IMAGE)
    assert len(check_pass(merge_pointwise_before_conv_transpose, graph).steps) == 1


@pytest.mark.parametrize(
    "arguments",
    [{"kernel_size": (1, 3)}, {"kernel_size": 1, "padding": ((0, 0), (0, 1))}, {"kernel_size": 1, "stride": (2, 1)}],
)
def test_first_that_sees_other_pixels_is_refused(rng, arguments):
    mix, up = random_conv(rng, 8, 4, bias=False, **arguments), random_conv_transpose(rng, 4, 6, 3)
    log = check_pass(merge_pointwise_before_conv_transpose, build(lambda x: up(mix(x)), x=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == "the convolution does more than mix the channels of one pixel"
