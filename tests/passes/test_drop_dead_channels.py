from dataclasses import replace

import numpy as np
import pytest

from repcompiler.ops import Clip, ClipChannels, Conv, Gated, GlobalAvgPool, Linear, MaxPool, PRelu, Relu, Sigmoid, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.drop_dead_channels import drop_dead_channels
from repcompiler.testing import build, check_pass, random_conv, random_linear

IMAGE = (None, 3, None, None)


def without_rows(op, *rows, bias=None):
    """`op`, its rows zero as a mask leaves them; these biases there."""
    weight, shift = op.weight.copy(), op.bias.copy()
    weight[list(rows)] = 0.0
    shift[list(rows)] = 0.0 if bias is None else bias
    return replace(op, weight=weight, bias=shift)


def without_columns(op, *columns):
    weight = op.weight.copy()
    weight[:, list(columns)] = 0.0
    return replace(op, weight=weight)


def sizes(graph):
    return [(node.op.in_channels, node.op.out_channels) for node in graph.topological() if isinstance(node.op, (Conv, Linear))]


ACTIVATIONS = [Relu(), Clip(0.0, 6.0), PRelu(np.linspace(-1, 1, 6)), PRelu(np.array([0.1])), Gated("silu"), Gated("gelu")]
ACTIVATIONS += [
    Clip(-1.0, np.inf),
    ClipChannels(np.full(6, -1.0), np.linspace(1, 3, 6)),
    MaxPool((3, 3), (2, 2), ((1, 1),) * 2, (1, 1)),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_what_is_zero_everywhere_is_dropped(rng, activation):
    first, second = without_rows(random_conv(rng, 3, 6, 3, padding=1), 0, 3, 5), random_conv(rng, 6, 4, 3, padding=1)
    graph = build(lambda x: second(activation(first(x))), x=IMAGE)
    check_pass(drop_dead_channels, graph)
    assert sizes(graph) == [(3, 3), (3, 4)]


@pytest.mark.parametrize("activation", [*ACTIVATIONS, Sigmoid()], ids=str)
def test_a_number_that_is_the_same_everywhere_goes_into_the_bias_where_nothing_is_padded(rng, activation):
    first = without_rows(random_conv(rng, 3, 6, 3, padding=1), 1, 2, bias=(0.7, -0.4))
    graph = build(lambda x: random_conv(rng, 6, 4, 1)(activation(first(x))), x=IMAGE)
    check_pass(drop_dead_channels, graph)
    assert sizes(graph) == [(3, 4), (4, 4)]


def test_a_padded_number_stays_unless_it_is_zero(rng):
    first = without_rows(random_conv(rng, 3, 6, 3, padding=1), 1, 2, bias=(0.7, -0.4))
    graph = build(lambda x: random_conv(rng, 6, 4, 3, padding=1)(Relu()(first(x))), x=IMAGE)
    check_pass(drop_dead_channels, graph)
    assert sizes(graph) == [(3, 5), (5, 4)]


def test_what_nothing_reads_is_dropped(rng):
    first, second = random_conv(rng, 3, 6, 3), without_columns(random_conv(rng, 6, 4, 3, padding=1), 2, 4)
    graph = build(lambda x: second(Sigmoid()(first(x))), x=(None, 3, 9, 8))
    check_pass(drop_dead_channels, graph)
    assert sizes(graph) == [(3, 4), (4, 4)]


@pytest.mark.parametrize("padding", [0, 1])
def test_through_depthwise_layers(rng, padding):
    depthwise = random_conv(rng, 6, 6, 3, padding=padding, groups=6)
    first = without_rows(random_conv(rng, 3, 6, 1), 0, 1, bias=(-1.0, 2.0))
    last = without_columns(random_conv(rng, 6, 4, 1), 5)
    graph = build(lambda x: last(Relu()(depthwise(Relu()(first(x))))), x=(None, 3, 9, 8))
    check_pass(drop_dead_channels, graph)
    dropped = 2 if padding else 3  # what is 2 in the middle is less at the border
    assert sizes(graph) == [(3, 6 - dropped), (6 - dropped, 6 - dropped), (6 - dropped, 4)]


def test_fully_connected_layers(rng):
    first, second = without_rows(random_linear(rng, 3, 6), 0, 4, bias=(2.0, 3.0)), random_linear(rng, 6, 2)
    graph = build(lambda x: second(Relu()(first(x))), x=(None, 3))
    check_pass(drop_dead_channels, graph)
    assert sizes(graph) == [(3, 4), (4, 2)]


def test_what_acts_on_another_axis_stays(rng):
    first, second = without_rows(random_conv(rng, 3, 6, 1), 0), random_linear(rng, 6, 2)
    graph = build(lambda x: second(Relu()(first(x))), x=(None, 3, 5, 6))
    assert not check_pass(drop_dead_channels, graph).steps


def test_what_others_read_stays(rng):
    first, second = without_rows(random_conv(rng, 3, 6, 1), 0), random_conv(rng, 6, 4, 1)

    def network(x):
        hidden = Relu()(first(x))
        return {"y": second(hidden), "z": GlobalAvgPool()(hidden)}

    assert not check_pass(drop_dead_channels, build(network, x=IMAGE)).steps


def test_where_nothing_is_left_it_is_refused(rng):
    first, second = without_rows(random_conv(rng, 3, 6, 1), *range(6)), random_conv(rng, 6, 4, 1)
    log = check_pass(drop_dead_channels, build(lambda x: second(Relu()(first(x))), x=IMAGE))
    assert log.declined[0].reason == "every channel is the same everywhere: nothing would be left to compute"


def test_a_plain_block_is_pruned_freely(rng):
    """Without its skip connection, a mask on the input of a block is a mask on reserved channels, too."""
    first, second = random_conv(rng, 3, 6, 3, padding=1), random_conv(rng, 6, 4, 3, padding=1)
    mask = without_rows(random_conv(rng, 3, 3, 1), 1)

    def network(x):
        masked = Relu()(mask(x))
        return random_conv(rng, 4, 2, 1)(Relu()(Sum((1, 1))(second(Relu()(first(masked))), random_conv(rng, 3, 4, 1)(masked))))

    graph = build(network, x=IMAGE)
    check_pass(PASSES, graph)
    assert sizes(graph)[:2] == [(3, 2), (2, 6 + 2)]


@pytest.mark.parametrize("channels", [3, 4])
def test_columns_that_a_layer_of_the_last_axis_makes_are_no_channels(rng, channels):
    """Its rows of zeros make columns of zeros; the convolution behind it may have as many channels."""
    linear, conv = without_rows(random_linear(rng, 8, 4), 1, 2), random_conv(rng, channels, 5, 1)
    for between in (Relu(), random_conv(rng, channels, channels, 3, groups=channels)):
        graph = build(lambda x, op=between: conv(op(linear(x))), x=(None, channels, None, 8))
        assert not check_pass(drop_dead_channels, graph).steps
