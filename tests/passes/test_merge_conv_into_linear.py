from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.cost import OBJECTIVES
from repcompiler.ops import Linear, Reshape
from repcompiler.passes.merge_conv_into_linear import merge_conv_into_linear
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, deviations, random_conv, random_linear, relu

FLATTEN = Reshape((0, -1))


def head(rng, conv, shape):
    numbers = int(np.prod(conv.infer_shape([shape])[1:]))
    return build(lambda x: random_linear(rng, numbers, 5)(FLATTEN(conv(x))), x=shape)


def test_flattened_conv_goes_into_the_linear(rng):
    graph = head(rng, random_conv(rng, 2, 6, 3, padding=1), (None, 2, 4, 5))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 2, 4, 5])
          %conv1 = Conv(%x) 2->6 3x3 padding=1 bias : [?, 6, 4, 5]
          %reshape1 = Reshape(%conv1) : [?, 120]
          %y = Linear(%reshape1) 120->5 bias : [?, 5]
          return %y
    """)
    check_pass(merge_conv_into_linear, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 2, 4, 5])
          %y/1 = Reshape(%x) : [?, 40]
          %y = Linear(%y/1) 40->5 bias : [?, 5]
          return %y
    """)


@pytest.mark.parametrize(
    ("arguments", "extents"),
    [
        ({"kernel_size": 1}, (1, 1)),
        ({"kernel_size": 3, "padding": 1}, (1, 2)),
        ({"kernel_size": (5, 3), "padding": ((2, 3), (0, 1)), "groups": 2}, (4, 5)),
        ({"kernel_size": 3, "stride": (2, 3), "padding": 1}, (7, 9)),
        ({"kernel_size": 2, "stride": 3, "dilation": (2, 3), "padding": 4, "groups": 4}, (5, 4)),
        ({"kernel_size": 3, "padding": ((-1, 2), (1, -1))}, (6, 7)),
        ({"kernel_size": (3,), "padding": 1}, (9,)),
        ({"kernel_size": (2, 3, 1), "stride": 2, "padding": 1}, (3, 4, 5)),
    ],
)
def test_any_geometry_on_known_extents_is_a_linear_map_of_the_image(rng, arguments, extents):
    graph = head(rng, random_conv(rng, 4, 8, **arguments), (2, 4, *extents))
    check_pass(merge_conv_into_linear, graph)
    assert [node.op.kind for node in graph.topological()] == ["Reshape", "Linear"]


def test_bias_counted_at_the_pixels_that_a_kernel_reads_would_be_wrong(rng):
    """The bias is at every pixel of the result: also where the kernel reads padding alone."""
    conv, shape = random_conv(rng, 2, 3, 1, padding=1), (None, 2, 2, 2)
    graph = head(rng, conv, shape)
    linear = graph.outputs[0].producer.op
    check_pass(merge_conv_into_linear, graph)
    inner = linear.weight.reshape(5, 3, 4, 4)[:, :, 1:3, 1:3].sum((2, 3)) @ conv.bias + linear.bias
    naive = Linear(graph.outputs[0].producer.op.weight, inner)
    [deviation] = deviations(graph, build(lambda x: naive(FLATTEN(x)), x=shape))
    assert deviation.worst > 0.1


def test_unknown_extents_are_refused(rng):
    graph = head(rng, random_conv(rng, 2, 3, 3, padding=1), (None, 2, 4, 5))
    graph.inputs[0].shape = (None, 2, 4, None)
    log = Rewriter(graph, [merge_conv_into_linear], OBJECTIVES["plain"]).run()
    assert not log.steps
    assert log.declined[0].reason == "the convolution's result is not flattened as a whole, or its extents are not known"


@pytest.mark.parametrize("target", [(0, 3, -1), (0, -1, 20), (-1, 20)])
def test_result_that_is_not_flattened_as_a_whole_is_refused(rng, target):
    conv = random_conv(rng, 2, 3, 3, padding=1)
    graph = build(lambda x: random_linear(rng, 20, 5)(Reshape(target)(conv(x))), x=(2, 2, 4, 5))
    log = check_pass(merge_conv_into_linear, graph)
    assert not log.steps
    assert "is not flattened as a whole" in log.declined[0].reason


def test_linear_that_would_grow_too_much_stays_small(rng):
    graph = head(rng, random_conv(rng, 64, 4, 1), (1, 64, 7, 7))
    log = check_pass(merge_conv_into_linear, graph, "params")
    assert not log.steps
    assert "it would cost more" in log.declined[0].reason


def test_map_that_is_read_twice_stays(rng):
    conv, linear = random_conv(rng, 2, 3, 3, padding=1), random_linear(rng, 60, 5)

    def fan_out(x):
        mapped = conv(x)
        return {"y": linear(FLATTEN(mapped)), "z": relu(mapped)}

    log = check_pass(merge_conv_into_linear, build(fan_out, x=(2, 2, 4, 5)))
    assert not log.steps
    assert log.declined[0].reason == "'conv1' is read more than once"
