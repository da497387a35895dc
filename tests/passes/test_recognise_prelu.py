from math import inf

import numpy as np
import pytest

from repcompiler.ops import Clip, PRelu, Relu, Scale, Sum
from repcompiler.passes.recognise_prelu import recognise_prelu
from repcompiler.testing import build, check_pass

SHIFTED = "it is shifted, or scaled along another axis than the channels"
IMAGE = (None, 4, None, None)


def scale(numbers, shift=0.0, axis=1):
    return Scale(np.atleast_1d(np.asarray(numbers, float)), np.atleast_1d(np.asarray(shift, float)), axis)


def below(x, slope, turn=-1.0):
    return scale(slope)(Relu()(scale(turn)(x)))


@pytest.mark.parametrize("slope", [0.25, -0.5, [0.1, -0.2, 0.3, 2.0]])
@pytest.mark.parametrize("turn", [-1.0, -2.0, [-1.0, -0.5, -3.0, -1.0]])
@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
def test_two_halves_are_a_prelu(slope, turn, reverse, sign):
    def block(x):
        halves = Relu()(x), below(x, slope, turn)
        return Sum((sign, 1))(*halves[::-1]) if reverse else Sum((1, sign))(*halves)

    graph = build(block, x=IMAGE)
    check_pass(recognise_prelu, graph)
    (node,) = graph.nodes
    assert isinstance(node.op, PRelu)
    expected = sign * np.asarray(slope) * np.asarray(turn)
    np.testing.assert_array_equal(node.op.slope, np.atleast_1d(expected))


def test_the_slope_may_have_gone_into_the_half():
    graph = build(lambda x: Sum((1, -1))(Relu()(x), Relu()(scale([-0.1, -0.2, -0.3, -2.0])(x))), x=IMAGE)
    check_pass(recognise_prelu, graph)
    (node,) = graph.nodes
    np.testing.assert_array_equal(node.op.slope, [0.1, 0.2, 0.3, 2.0])


@pytest.mark.parametrize("above", [Relu(), Clip(0.0, inf)])
def test_so_they_are_by_their_definition(above):
    graph = build(lambda x: Sum((1, 1))(above(x), scale([0.1, 0.2, -0.3, 0.0])(Clip(-inf, 0.0)(x))), x=IMAGE)
    check_pass(recognise_prelu, graph)
    assert [type(node.op) for node in graph.nodes] == [PRelu]


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (lambda x: below(x, 0.5, 2.0), "both halves are of the same sign"),
        (lambda x: below(x, 0.5, [-1.0, -1.0, 0.0, -1.0]), "both halves are of the same sign"),
        (lambda x: scale(0.5, 1.0)(Relu()(scale(-1.0)(x))), SHIFTED),
        (lambda x: scale(0.5)(Relu()(scale(-1.0, 1.0)(x))), SHIFTED),
        (
            lambda x: scale(np.ones(5), axis=3)(Clip(-inf, 0.0)(x)),
            SHIFTED,
        ),
    ],
    ids=["same sign", "zero", "shift outside", "shift inside", "another axis"],
)
def test_other_halves_are_none(block, reason):
    graph = build(lambda x: Sum((1, 1))(Relu()(x), block(x)), x=(None, 4, None, 5))
    log = check_pass(recognise_prelu, graph)
    assert not log.steps
    assert log.declined[0].reason == reason


@pytest.mark.parametrize(
    "block",
    [
        lambda x: Sum((-1, 1))(Relu()(x), below(x, 0.5)),
        lambda x: Sum((1, 1))(Clip(0.0, 6.0)(x), below(x, 0.5)),
        lambda x: Sum((1, 1))(Relu()(x), scale(0.5)(Clip(-1.0, 0.0)(x))),
        lambda x: Sum((1, 1))(Relu()(scale(2.0)(x)), below(x, 0.5)),
    ],
    ids=["taken away", "a bound above", "a bound below", "of another value"],
)
def test_what_is_no_sum_of_halves_stays(block):
    assert not check_pass(recognise_prelu, build(block, x=IMAGE)).steps
