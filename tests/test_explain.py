"""Every linear operation that is still next to another one has one line that says why, word for word."""

import numpy as np
import pytest

from repcompiler.cost import OBJECTIVES
from repcompiler.explain import explain
from repcompiler.ops import AvgPool, Clip, Concat, Identity, Opaque, Relu, Resize, Sum
from repcompiler.passes import PASSES
from repcompiler.refusal import Declined, Remaining
from repcompiler.report import Report
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, random_batch_norm, random_conv, random_conv_transpose, random_scale, relu

IMAGE = (None, 4, None, None)
ADD, SUB, JOIN = Sum((1, 1)), Sum((1, -1)), Concat()
POOL = AvgPool((2, 2), (2, 2), ((0, 0), (0, 0)), 4)
TWICE = Resize("linear", "half_pixel", "round_prefer_floor", scales=(2.0,))
SIGMOID = Opaque("Sigmoid")
RNG = np.random.default_rng(0)


def conv(*arguments, **options):
    return random_conv(RNG, *arguments, **options)


def told(function, shape=IMAGE, passes=PASSES, objective="macs"):
    """What is said of an expression once it is rewritten."""
    graph = build(function, x=shape)
    log = Rewriter(graph, passes, OBJECTIVES[objective]).run()
    return [str(line) for line in explain(graph, log.declined)]


def fork(readers):
    """A convolution that several operations read, one of them a convolution."""

    def expression(x):
        shared = conv(4, 4, 1)(x)
        return {"y": conv(4, 4, 3)(shared), **{name: relu(shared) for name in readers}}

    return expression


def pair(first, second, name="inner"):
    def expression(x):
        made = first(x)
        return {name: made, "y": second(made)}

    return expression


def residual(x):
    return ADD(conv(4, 4, 3, padding=1)(relu(conv(4, 4, 3, padding=1)(x))), x)


def gated(x):
    image = relu(conv(4, 4, 1)(x))
    return JOIN(image, conv(4, 4, 3, padding=1)(relu(conv(4, 4, 1)(image))))


def twice_shared(x):
    shared = conv(4, 4, 1, bias=False)(x)
    return {"y": ADD(conv(4, 4, 3, padding=1)(shared), conv(4, 4, 1)(x)), "z": relu(shared)}


def norm_after_join(x):
    return random_batch_norm(RNG, 8)(JOIN(Clip(0, 6)(x), conv(4, 4, 1)(relu(x))))


REASONS = {
    "exactness": (
        lambda x: conv(4, 4, 3, padding=1)(conv(4, 4, 1)(x)),
        "'y' (Conv 4->4 3x3) after 'conv1' (Conv 4->4 1x1): "
        "the second pads a map that already carries a bias: exact only inside the image",
    ),
    "cost": (
        lambda x: conv(1, 64, 1)(conv(64, 1, 1)(x)),
        "'y' (Conv 1->64 1x1) after 'conv1' (Conv 64->1 1x1): it would cost more (macs 1e+05 -> 3.21e+06)",
    ),
    "fan-out": (fork("a"), "'y' (Conv 4->4 3x3) after 'conv1' (Conv 4->4 1x1): 'conv1' is read by 2 operations: 'y', 'a'"),
    "fan-out to many": (
        fork("abcd"),
        "'y' (Conv 4->4 3x3) after 'conv1' (Conv 4->4 1x1): 'conv1' is read by 5 operations: 'y', 'a', 'b' and 2 more",
    ),
    "output": (
        pair(conv(4, 4, 1), conv(4, 4, 3)),
        "'y' (Conv 4->4 3x3) after 'inner' (Conv 4->4 1x1): 'inner' is an output of the graph",
    ),
    "output that keeps its name": (
        pair(conv(4, 4, 1), Identity()),
        "'y' (Identity) after 'inner' (Conv 4->4 1x1): 'y' is an output of the graph and keeps its name",
    ),
    "branches that differ": (
        lambda x: SUB(conv(4, 4, 3, stride=2)(x), conv(4, 4, 3, stride=(2, 1))(x)),
        "'y' (Sub) after 'conv1' (Conv 4->4 3x3), 'conv2' (Conv 4->4 3x3): the branches have strides (2, 2) and (2, 1)",
    ),
    "skip connection": (
        residual,
        "'y' (Add) after 'conv2' (Conv 4->4 3x3): the skip connection crosses 'relu1' (Relu)",
    ),
    "skip connection from activation to activation": (
        lambda x: ADD(Clip(0.0, 6.0)(relu(conv(4, 4, 1)(x))), x),
        "'y' (Add): the skip connection crosses 'relu1' (Relu)",
    ),
    "branch across an activation": (
        gated,
        "'y' (Concat) after 'conv3' (Conv 4->4 3x3): a branch crosses 'relu2' (Relu)",
    ),
    "branches of different values": (
        lambda x: ADD(conv(4, 4, 1)(relu(x)), SIGMOID(x)),
        "'y' (Add) after 'conv1' (Conv 4->4 1x1): its branches start at different values: 'relu1' (Relu), 'sigmoid1' (Sigmoid)",
    ),
    "branch that something else reads": (
        twice_shared,
        "'y' (Add) after 'conv2' (Conv 4->4 3x3), 'conv3' (Conv 4->4 1x1): 'conv1' is read by 2 operations: 'conv2', 'z'",
    ),
    "join before it": (
        lambda x: conv(4, 4, 3)(residual(x)),
        "'y' (Conv 4->4 3x3) after 'sum1' (Add): 'sum1' stays: the skip connection crosses 'relu1' (Relu)",
    ),
    "branch that takes no scale in": (
        norm_after_join,
        "'y' (BatchNorm) after 'concat1' (Concat): 'clip1' is read more than once, or made by what takes no scale in",
    ),
    "neither a convolution": (
        lambda x: POOL(TWICE(x)),
        "'y' (AvgPool) after 'resize1' (Resize): neither is a convolution that could take the other in",
    ),
    "operation that was not lifted": (
        lambda x: conv(4, 4, 1)(Opaque("Conv", reason="it is quantised")(x)),
        "'y' (Conv 4->4 1x1) after 'conv1' (Conv): 'conv1' is left alone: it is quantised",
    ),
    "across an activation": (
        lambda x: random_scale(RNG, 4)(Relu()(conv(4, 4, 1)(x))),
        "'y' (Scale) after 'conv1' (Conv 4->4 1x1): a negative scale does not pass Relu",
    ),
    "no rule": (
        lambda x: random_conv_transpose(RNG, 4, 4, 2)(random_conv_transpose(RNG, 4, 4, 2)(x)),
        "'y' (ConvTranspose) after 'convtranspose1' (ConvTranspose): no pass in use merges ConvTranspose and ConvTranspose",
    ),
}
"""A reason, an expression that stays as it is for it, and the line that says so of its last operation."""


@pytest.mark.parametrize("reason", REASONS)
def test_reason_is_given_in_one_line(reason):
    expression, expected = REASONS[reason]
    assert [line for line in told(expression) if line.startswith("'y'")] == [expected]


def test_rule_that_would_have_merged_just_the_two_speaks_first_and_exactness_before_cost_before_fan_out():
    graph = build(lambda x: relu(conv(4, 4, 3)(conv(4, 4, 1)(conv(4, 4, 1)(x)))), x=IMAGE)
    two, three = ("conv3", "conv2"), ("conv3", "conv2", "conv1")
    refusals = [
        Declined("a", "conv3", "three, exactly", "exactness", three),
        Declined("b", "conv3", "two, fan-out", "fan-out", two),
        Declined("c", "conv3", "two, cost", "cost", two),
        Declined("d", "conv3", "two, exactly", "exactness", two),
    ]
    for count, rule in ((4, "d"), (3, "c"), (2, "b"), (1, "a")):
        [line] = (line for line in explain(graph, refusals[:count]) if line.value == "conv3")
        assert line.rule == rule
        assert line.reason == refusals[count - 1].reason


def test_lines_that_differ_in_names_and_numbers_alone_are_one():
    def network(x):
        for _ in range(5):
            x = relu(residual(x))
        return conv(4, 64, 1)(conv(4, 4, 3, padding=1)(x))

    graph = build(network, x=(1, 4, 9, 9))
    report = Report(remaining=explain(graph, Rewriter(graph, PASSES, OBJECTIVES["macs"]).run().declined))
    assert report.explanation() == [
        "     5 x 'sum1' (Add) after 'conv2' (Conv 4->4 3x3): the skip connection crosses 'relu1' (Relu); "
        "also 'sum2', 'sum3', 'sum4' and 1 more",
        "     1 x 'y' (Conv 4->64 1x1) after 'conv11' (Conv 4->4 3x3): it would cost more (macs 3.14e+05 -> 1.81e+06)",
    ]


def test_what_is_not_linear_or_of_parameters_alone_has_no_line():
    assert told(lambda x: relu(conv(4, 4, 3)(relu(x)))) == []
    graph = build(lambda x: conv(4, 4, 1)(random_batch_norm(RNG, 4)(x)), x=IMAGE)
    for node in graph.nodes:
        node.output.constant = lambda: np.zeros(1)
    assert explain(graph, []) == []


def test_operation_that_was_not_lifted_has_a_line_of_its_own_where_no_linear_one_is_near():
    assert told(lambda x: relu(Opaque("Conv", reason="it is quantised")(x))) == ["'conv1' (Conv): it is quantised"]


def test_line_names_the_first_few_of_many_branches():
    line = Remaining("y", "Concat", tuple((name, "Conv") for name in "abcde"), "a reason")
    assert str(line) == "'y' (Concat) after 'a' (Conv), 'b' (Conv), 'c' (Conv) and 2 more: a reason"
