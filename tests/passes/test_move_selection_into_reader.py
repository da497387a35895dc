from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import (
    AvgPool,
    Clip,
    GlobalAvgPool,
    Identity,
    MaxPool,
    Pad,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Select,
    Sigmoid,
    Subsample,
)
from repcompiler.passes.move_selection_into_reader import move_selection_into_reader
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, random_conv, random_linear, relu

IMAGE = (None, 4, None, None)
COPIES = (0, 2, 2, 1, 0, 2)
F = {
    "Relu": Relu(),
    "Clip": Clip(0.0, 6.0),
    "Sigmoid": Sigmoid(),
    "PRelu": PRelu(np.array([0.3, -2.0, -2.0, 1.0, 0.3, -2.0])),
    "LeakyRelu": PRelu(np.array([0.2])),
    "Identity": Identity(),
    "MaxPool": MaxPool((2, 2), (1, 1), ((1, 1), (0, 1)), (1, 1)),
    "AvgPool": AvgPool((2, 2), (2, 2), ((1, 1), (0, 1)), 4),
    "Resize": Resize("linear", "half_pixel", "floor", scales=(2.0,)),
    "Pad": Pad(((1, 0), (0, 2))),
    "Subsample": Subsample((2, 2)),
    "GlobalAvgPool": GlobalAvgPool(),
}


def repeated(op, index=COPIES):
    """An operation with equal rows."""
    return replace(op, weight=op.weight[list(index)], bias=op.bias[list(index)])


def test_equal_channels_of_a_convolution_are_computed_once(rng):
    conv, reader = repeated(random_conv(rng, 4, 3, 3, padding=1)), random_conv(rng, 6, 5, 3, padding=1)
    graph = build(lambda x: reader(Relu()(conv(x))), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->6 3x3 padding=1 bias : [?, 6, ?, ?]
          %relu1 = Relu(%conv1) : [?, 6, ?, ?]
          %y = Conv(%relu1) 6->5 3x3 padding=1 bias : [?, 5, ?, ?]
          return %y
    """)
    check_pass(move_selection_into_reader, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y/1 = Conv(%x) 4->3 3x3 padding=1 bias : [?, 3, ?, ?]
          %y/2 = Relu(%y/1) : [?, 3, ?, ?]
          %y = Conv(%y/2) 3->5 3x3 padding=1 bias : [?, 5, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("f", F.values(), ids=F)
def test_choice_of_channels_passes(rng, f):
    reader = random_conv(rng, 6, 5, 1)
    graph = build(lambda x: reader(f(Select(COPIES)(x))), x=IMAGE)
    assert len(check_pass(move_selection_into_reader, graph).steps) == 1
    assert [node.op.kind for node in graph.topological()] == [f.kind, "Conv"]


def test_a_choice_within_groups_leaves_the_groups(rng):
    reader = random_conv(rng, 6, 4, 3, groups=2)
    graph = build(lambda x: reader(Relu()(Select((2, 0, 1, 5, 4, 3))(x))), x=(None, 6, None, None))
    check_pass(move_selection_into_reader, graph, "macs")
    assert [str(node.op) for node in graph.topological()] == ["Relu", "Conv 6->4 3x3 g2"]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data(), st.integers(0, 2**32 - 1).map(np.random.default_rng))
def test_any_choice_through_any_chain_into_any_geometry(data, rng):
    axes, groups = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 2, 3]))
    size, stride, dilation = (tuple(map(int, rng.integers(1, 3, axes))) for _ in range(3))
    reader = random_conv(rng, 6, 6, size, stride=stride, dilation=dilation, padding=int(rng.integers(0, 3)), groups=groups)
    index = tuple(map(int, rng.integers(0, 4, 6)))
    slopes = PRelu(rng.normal(size=4)[list(index)])
    pointwise = [Relu(), Clip(-0.5, np.inf), Sigmoid(), PRelu(rng.normal(size=1)), slopes]
    chain = data.draw(st.lists(st.sampled_from(pointwise), min_size=1, max_size=3))
    source = data.draw(st.sampled_from([Select(index), repeated(random_conv(rng, 4, 4, (1,) * axes), index)]))
    extents = (9, 7, 8)[:axes]
    assume(min(reader.infer_shape([(1, 6, *extents)])[2:]) > 0)

    def function(x):
        x = source(x)
        for op in chain:
            x = op(x)
        return reader(x)

    graph = build(function, x=(None, 4, *extents))
    log = check_pass(move_selection_into_reader, graph, "params")
    if len(set(index)) < 4 and source.kind == "Conv" and groups == 1:
        assert len(log.steps) == 1


def test_fully_connected_layers_too(rng):
    first, reader = repeated(random_linear(rng, 4, 3)), random_linear(rng, 6, 5)
    graph = build(lambda x: reader(Relu()(first(x))), x=(None, 4))
    assert len(check_pass(move_selection_into_reader, graph).steps) == 1
    assert [node.op.out_channels for node in graph.topological() if node.op.kind == "Linear"] == [3, 5]


def test_permutation_of_groups_gives_a_grouped_kernel_back(rng):
    reader = random_conv(rng, 4, 4, 3, padding=1, groups=2)
    graph = build(lambda x: reader(Relu()(Select((2, 3, 0, 1))(x))), x=IMAGE)
    log = check_pass(move_selection_into_reader, graph)
    assert len(log.steps) == 1


def test_copies_with_slopes_of_their_own_are_no_copies(rng):
    conv, reader = repeated(random_conv(rng, 4, 3, 1)), random_conv(rng, 6, 5, 1)
    graph = build(lambda x: reader(PRelu(np.arange(6.0))(conv(x))), x=IMAGE)
    log = check_pass(move_selection_into_reader, graph)
    assert not log.steps
    assert log.declined[0].reason == "copies of one channel have slopes of their own"


def test_unknown_number_of_channels_is_refused(rng):
    reader = random_conv(rng, 2, 5, 1)
    graph = build(lambda x: reader(Relu()(Select((0, 0))(Reshape((0, -1, 1, 1))(x)))), x=(None, None))
    log = check_pass(move_selection_into_reader, graph)
    assert log.declined[0].reason == "the number of channels is not known"


def test_layer_on_the_last_axis_has_no_channels_to_choose(rng):
    reader = random_linear(rng, 6, 5)
    graph = build(lambda x: reader(Relu()(Select((0, 0, 1))(x))), x=(None, 4, 6))
    log = check_pass(move_selection_into_reader, graph)
    assert not log.steps
    assert log.declined[0].reason == "one acts on the channels, the other on the last axis"


def test_equal_rows_of_a_layer_on_tokens_are_no_channels(rng):
    first, reader = repeated(random_linear(rng, 4, 3)), random_conv(rng, 5, 2, (1,))
    graph = build(lambda x: reader(Relu()(first(x))), x=(None, 5, 4))
    log = check_pass(move_selection_into_reader, graph)
    assert not log.steps
    assert log.declined[0].reason == "one acts on the channels, the other on the last axis"


def test_distinct_channels_are_no_match(rng):
    conv, reader = random_conv(rng, 4, 6, 1), random_conv(rng, 6, 5, 1)
    log = check_pass(move_selection_into_reader, build(lambda x: reader(Relu()(conv(x))), x=IMAGE))
    assert not log.steps
    assert not log.declined


def test_slice_of_many_channels_is_not_widened(rng):
    reader = random_conv(rng, 2, 16, 3, padding=1)
    log = check_pass(
        move_selection_into_reader, build(lambda x: reader(Relu()(Select((0, 1))(x))), x=(1, 64, 56, 56)), "latency"
    )
    assert not log.steps
    assert log.declined[0].reason.startswith("it would cost more")


def test_equal_channels_that_are_read_elsewhere_stay(rng):
    conv, reader = repeated(random_conv(rng, 4, 3, 1)), random_conv(rng, 6, 5, 1)

    def function(x):
        y = Relu()(conv(x))
        return {"y": reader(y), "z": relu(y)}

    log = check_pass(move_selection_into_reader, build(function, x=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == "'relu1' is read more than once"


def test_each_rewrite_is_checked_by_itself(rng):
    conv, reader = repeated(random_conv(rng, 4, 3, 3, padding=1)), random_conv(rng, 6, 5, 3, padding=1)
    graph = build(lambda x: reader(Relu()(conv(x))), x=IMAGE)
    assert len(Rewriter(graph, [move_selection_into_reader], OBJECTIVES["plain"], need=Certify.ALL).run().steps) == 1
