from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.ops import Frame
from repcompiler.passes import PASSES
from repcompiler.passes.move_frame_before_pointwise import move_frame_before_pointwise
from repcompiler.printer import render
from repcompiler.testing import assert_equivalent, build, check_pass, random_batch_norm, random_conv

IMAGE = (None, 4, None, None)
PADDING = ((1, 1), (2, 1))


def test_a_frame_of_the_bias_becomes_padding_of_the_input(rng):
    conv = random_conv(rng, 4, 6, 1)
    graph = build(lambda x: Frame(PADDING, conv.bias)(conv(x)), x=IMAGE)
    check_pass(move_frame_before_pointwise, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->6 1x1 padding=1x2:1 bias : [?, 6, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("groups", [1, 2])
def test_pointwise_norm_frame_and_convolution_become_one(rng, groups):
    first, norm = random_conv(rng, 4, 6, 1, groups=groups, bias=False), random_batch_norm(rng, 6)
    of_zero = norm.beta - norm.mean * (norm.gamma / np.sqrt(norm.var + norm.eps))
    second = random_conv(rng, 6, 4, 3, groups=groups)
    graph = build(lambda x: second(Frame(((1, 1), (1, 1)), of_zero)(norm(first(x)))), x=IMAGE)
    check_pass(PASSES, graph)
    assert [str(node.op).split()[0] for node in graph.topological()] == ["Conv"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kernel_size": 3}, "more than one pixel"),
        ({"kernel_size": 1, "stride": 2}, "more than one pixel"),
        ({"kernel_size": 1, "padding": 1}, "more than one pixel"),
    ],
)
def test_what_is_framed_must_be_pointwise(rng, change, reason):
    conv = random_conv(rng, 4, 6, **change)
    log = check_pass(move_frame_before_pointwise, build(lambda x: Frame(PADDING, conv.bias)(conv(x)), x=IMAGE))
    assert not log.steps
    assert reason in log.declined[0].reason


def test_the_least_difference_is_refused(rng):
    conv = random_conv(rng, 4, 6, 1)
    frame = Frame(PADDING, np.nextafter(conv.bias, np.inf))
    log = check_pass(move_frame_before_pointwise, build(lambda x: frame(conv(x)), x=IMAGE))
    assert not log.steps
    assert "something else" in log.declined[0].reason


def test_moving_a_frame_of_zeros_would_be_wrong_at_the_border_only(rng):
    conv = random_conv(rng, 4, 6, 1)
    before = build(lambda x: Frame(PADDING, np.zeros(6))(conv(x)), x=IMAGE)
    after = build(lambda x: replace(conv, padding=PADDING)(x), x=IMAGE)
    with pytest.raises(AssertionError, match="of the border, not inside"):
        assert_equivalent(before, after)
