from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.interpreter import evaluate
from repcompiler.ops import Pad, Sum
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.passes.merge_sequential_convs import merge_sequential_convs
from repcompiler.passes.pad_to_conv import pad_to_conv
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv, relu

PASSES = [merge_sequential_convs, merge_parallel_branches, pad_to_conv]


def test_padding_goes_into_the_conv_behind_it(rng):
    conv = random_conv(rng, 4, 8, 3, stride=2, padding=((0, 1), (1, 0)))
    graph = build(lambda x: conv(Pad(((1, 0), (0, 2)))(x)), x=(None, 4, None, None))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %pad1 = Pad(%x) padding=1:0x0:2 : [?, 4, ?, ?]
          %y = Conv(%pad1) 4->8 3x3 stride=2 padding=0:1x1:0 bias : [?, 8, ?, ?]
          return %y
    """)
    check_pass(PASSES, graph, "latency")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->8 3x3 stride=2 padding=1x1:2 bias : [?, 8, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("padding", [((2, 0),), ((1, -1), (0, 3)), ((-1, -2), (-1, 0), (0, 0))], ids=str)
def test_padding_or_crop_and_its_convolution_agree(rng, padding):
    x = rng.normal(size=(2, 3, 5, 4, 3)[: 2 + len(padding)])
    conv = pad_to_conv.view(Pad(padding), 3, len(padding))
    assert np.array_equal(evaluate(conv, [x])[0], evaluate(Pad(padding), [x])[0])


def test_crop_behind_a_conv_of_full_padding_reduces_it(rng):
    conv = random_conv(rng, 4, 4, (3, 1), padding=(2, 0))
    graph = build(lambda x: Pad(((-1, -1), (0, 0)))(conv(x)), x=(None, 4, None, None))
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->4 3x1 padding=1x0 bias : [?, 4, ?, ?]
          return %y
    """)


def test_cropped_branch_joins_a_kernel_that_reaches_less_far(rng):
    square, arm = random_conv(rng, 4, 4, 5, padding=1), random_conv(rng, 4, 4, (1, 5), padding=(0, 1))
    graph = build(lambda x: Sum((1, 1))(square(x), arm(Pad(((-1, -1), (0, 0)))(x))), x=(None, 4, None, None))
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->4 5x5 padding=1 bias : [?, 4, ?, ?]
          return %y
    """)


def test_padding_of_a_biased_map_is_refused(rng):
    graph = build(lambda x: Pad(((1, 1), (1, 1)))(random_conv(rng, 4, 4, 1)(x)), x=(None, 4, None, None))
    log = check_pass(PASSES, graph)
    assert not log.steps
    assert "already carries a bias" in log.declined[0].reason


def test_padding_that_is_read_twice_stays(rng):
    def fan_out(x):
        padded = Pad(((1, 1), (1, 1)))(x)
        return {"y": random_conv(rng, 4, 4, 3)(padded), "z": relu(padded)}

    log = check_pass(PASSES, build(fan_out, x=(None, 4, None, None)))
    assert not log.steps
    assert log.declined[0].reason == "'pad1' is read more than once"
