"""The algebra refuses what is inexact, and nothing else: each refusal is held against the definition of a convolution."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repcompiler import algebra
from repcompiler.interpreter import evaluate
from repcompiler.passes import linear_to_conv
from repcompiler.refusal import Refusal
from repcompiler.testing import random_conv, random_linear

law = settings(max_examples=500, deadline=None, derandomize=True, database=None)


@st.composite
def convs(draw, padding, stride=None):
    """A random convolution on one channel of a row of pixels, with generic weights."""
    side = st.integers(*padding)
    return random_conv(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        1,
        1,
        (draw(st.integers(1, 3)),),
        stride=stride or draw(st.integers(1, 3)),
        padding=(draw(st.tuples(side, side)),),
        dilation=draw(st.integers(1, 3)),
        bias=draw(st.booleans()),
    )


def meaning(*ops):
    """The function that applies operations one after the other."""

    def function(x):
        for op in ops:
            [x] = evaluate(op, [x])
        return x

    return function


def is_convolution(function, stride, extents):
    """Whether some zero-padded convolution with a bias computes `function`, by the definition.

    The response to zero is one number, and the response of pixel o to pixel i depends on o * stride - i alone.
    """
    bias, least, most = [], np.full(1000, np.inf), np.full(1000, -np.inf)
    for extent in extents:
        zero = function(np.zeros((1, 1, extent)))
        response = (function(np.eye(extent)[:, None]) - zero)[:, 0]
        bias += [zero.min(), zero.max()]
        pixel, result = np.indices(response.shape)
        np.minimum.at(least, result * stride - pixel + 500, response)
        np.maximum.at(most, result * stride - pixel + 500, response)
    return max(bias) - min(bias) < 1e-9 and bool((most - least < 1e-9).all())


def accepts(function, *arguments):
    try:
        function(*arguments)
    except Refusal:
        return False
    return True


def reads_next_to_the_border(conv):
    """Whether some window of a conv that pads before the image reads the padding right beside it (strides may skip it)."""
    [(before, _)], [stride], [dilation], [taps] = conv.padding, conv.stride, conv.dilation, conv.kernel_size
    return before <= 0 or any(o * stride - before + t * dilation == -1 for o in range(before) for t in range(taps))


@law
@given(convs(padding=(-1, 4)), convs(padding=(-2, 3)))
def test_sequence_is_refused_exactly_where_no_convolution_computes_it(first, second):
    assume(reads_next_to_the_border(second))
    exact = is_convolution(meaning(first, second), first.stride[0] * second.stride[0], range(40, 50))
    assert accepts(algebra.compose, first, second) == exact


@law
@given(st.data())
def test_sum_is_refused_exactly_where_the_outputs_differ_in_size(data):
    first = data.draw(convs(padding=(-1, 4)))
    second = data.draw(convs(padding=(-1, 4), stride=first.stride[0]))
    differs = {}
    for extent in range(20, 26):
        one, other = (op.infer_shape([(1, 1, extent)])[2] for op in (first, second))
        differs[extent] = one != other
        assert accepts(algebra.add, first, second, [extent]) == (one == other)
    assert accepts(algebra.add, first, second, [None]) == (not any(differs.values()))


def test_different_strides_have_no_sum():
    rng = np.random.default_rng(0)
    first, second = random_conv(rng, 1, 1, (3,), padding=1), random_conv(rng, 1, 1, (3,), stride=2, padding=((5, 4),))
    with pytest.raises(Refusal, match="strides"):
        algebra.add(first, second, [8])

    def total(x):
        return meaning(first)(x) + meaning(second)(x)

    assert not any(is_convolution(total, stride, [8]) for stride in (1, 2))


@pytest.mark.parametrize("combine", [algebra.compose, lambda *pair: algebra.add(*pair, (4,))])
def test_a_layer_of_the_last_axis_and_one_of_the_channels_are_not_one(combine):
    rng = np.random.default_rng(0)
    pixels, last = random_conv(rng, 4, 4, (1,)), linear_to_conv.view(random_linear(rng, 4, 4), 4, 0)
    for pair in ((pixels, last), (last, pixels)):
        with pytest.raises(Refusal, match="one acts on the channels, the other on the last axis"):
            combine(*pair)


@pytest.mark.parametrize("channels", [((4, 4), (4, 6)), ((4, 4), (6, 4))], ids=["outputs", "inputs"])
def test_different_channel_counts_have_no_sum(channels):
    first, second = (random_conv(np.random.default_rng(0), *pair, 1) for pair in channels)
    with pytest.raises(Refusal, match="channel counts"):
        algebra.add(first, second, [8, 8])


REFUSALS = {
    "padded bias": ({"kernel_size": 1}, {"kernel_size": 3, "padding": 1}, "carries a bias"),
    "padded output": ({"kernel_size": 3, "padding": 1, "bias": False}, {"kernel_size": 3, "padding": 1}, "would go on"),
    "padded crop": (
        {"kernel_size": 1, "padding": ((0, 0), (0, -1)), "bias": False},
        {"kernel_size": 3, "padding": 1},
        "would go on",
    ),
    "left over pixel": (
        {"kernel_size": 2, "stride": 2, "bias": False},
        {"kernel_size": 1, "padding": ((0, 1), (0, 0))},
        "would go on",
    ),
}


@pytest.mark.parametrize(("first", "second", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusal_says_why(first, second, reason):
    rng = np.random.default_rng(0)
    with pytest.raises(Refusal, match=reason):
        algebra.compose(random_conv(rng, 4, 4, **first), random_conv(rng, 4, 4, **second))


def test_bias_of_zeros_is_no_bias():
    rng = np.random.default_rng(0)
    first, second = random_conv(rng, 4, 4, 1, bias=False), random_conv(rng, 4, 4, 3, padding=1)
    assert algebra.compose(first, second).padding == second.padding
    assert not accepts(algebra.compose, replace(first, bias=np.array([0, 0, 0, 1e-30])), second)
