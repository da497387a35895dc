from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import BatchNorm, Concat, Conv, Gated, GlobalAvgPool, MaxPool, Relu, Scale, Sigmoid, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.replace_batch_norm import replace_batch_norm
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_scale

IMAGE = (None, 4, None, None)


def kinds(graph):
    return [str(node.op) for node in graph.topological()]


def test_a_norm_that_no_layer_takes_in_is_a_depthwise_layer(rng):
    norm = random_batch_norm(rng, 4)
    graph = build(lambda x: random_conv(rng, 4, 6, 3, padding=1)(norm(Relu()(x))), x=IMAGE)
    assert norm.gamma.min() < 0
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %relu1 = Relu(%x) : [?, 4, ?, ?]
          %batchnorm1 = BatchNorm(%relu1) : [?, 4, ?, ?]
          %y = Conv(%batchnorm1) 4->6 3x3 padding=1 bias : [?, 6, ?, ?]
          return %y
    """)
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %relu1 = Relu(%x) : [?, 4, ?, ?]
          %batchnorm1 = Conv(%relu1) 4->4 1x1 groups=4 bias : [?, 4, ?, ?]
          %y = Conv(%batchnorm1) 4->6 3x3 padding=1 bias : [?, 6, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 6), (2, 4, 3, 4, 5)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("make", [random_batch_norm, random_scale])
def test_norms_and_scales_of_maps_are_layers(rng, make, shape):
    graph = build(lambda x: Relu()(make(rng, 4)(x)), x=shape)
    log = Rewriter(graph, [replace_batch_norm], OBJECTIVES["plain"], need=Certify.ALL).run()
    kernel = "x".join("1" * (len(shape) - 2))
    assert kinds(graph) == [f"Conv 4->4 {kernel} g4", "Relu"]
    assert "sampled" not in str(log.steps[0].certificate)


@pytest.mark.parametrize("activation", [Relu(), Gated("gelu")])
def test_convmixer_is_convolutions_and_activations(rng, activation):
    """Trockman and Kolter, Patches Are All You Need?, 2022: the norm stands behind the activation."""

    def after(conv, x):
        return random_batch_norm(rng, 4)(activation(conv(x)))

    def block(x):
        x = Sum((1, 1))(after(random_conv(rng, 4, 4, 3, padding=1, groups=4), x), x)
        return after(random_conv(rng, 4, 4, 1), x)

    graph = build(
        lambda x: random_conv(rng, 4, 3, 1)(GlobalAvgPool()(block(block(after(random_conv(rng, 4, 4, 1), x))))), x=IMAGE
    )
    check_pass(PASSES, graph)
    assert {type(node.op) for node in graph.nodes} == {Conv, type(activation), GlobalAvgPool}
    norms = [
        node for node in graph.nodes if isinstance(node.op, Conv) and set(node.op.kernel_size) == {1} and node.op.groups > 1
    ]
    assert len(norms) == 2


def test_densely_connected_layers_are_convolutions_and_activations(rng):
    """Huang et al., DenseNet, CVPR 2017: each layer has its own norm of what all before it made."""

    def dense(x, channels):
        return Concat()(x, random_conv(rng, channels, 4, 3, padding=1)(Relu()(random_batch_norm(rng, channels)(x))))

    graph = build(lambda x: Relu()(random_batch_norm(rng, 16)(dense(dense(dense(x, 4), 8), 12))), x=IMAGE)
    check_pass(PASSES, graph)
    assert {type(node.op) for node in graph.nodes} == {Conv, Relu, Concat}


@pytest.mark.parametrize(
    "between",
    [Relu(), MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)), GlobalAvgPool()],
    ids=["Relu", "MaxPool", "GlobalAvgPool"],
)
def test_what_another_layer_takes_in_becomes_none_of_its_own(rng, between):
    """The reader comes after the norm: had the norm become a layer when it was visited, it would have stayed one."""
    scale = Scale(rng.uniform(0.5, 2, 4), np.zeros(4))
    graph = build(lambda x: random_conv(rng, 4, 6, 1)(between(scale(Sigmoid()(x)))), x=IMAGE)
    log = check_pass(PASSES, graph)
    assert len(graph.nodes) == 3
    assert not [step for step in log.steps if step.rule == "replace_batch_norm"]


@pytest.mark.parametrize("objective", ["latency", "macs"])
def test_a_norm_stays_one_where_a_layer_is_no_cheaper(rng, objective):
    graph = build(lambda x: random_conv(rng, 4, 6, 3, padding=1)(random_batch_norm(rng, 4)(Relu()(x))), x=(1, 4, 56, 56))
    assert not check_pass(PASSES, graph, objective).steps


def test_a_layer_stores_two_numbers_a_channel_where_a_norm_stores_four(rng):
    graph = build(lambda x: Relu()(random_batch_norm(rng, 4)(Relu()(x))), x=IMAGE)
    check_pass(PASSES, graph, "params")
    assert not [node for node in graph.nodes if isinstance(node.op, BatchNorm)]


@pytest.mark.parametrize(
    ("shape", "axis", "channels", "reason"),
    [
        ((2, 4), 1, 4, "what it scales has no pixels"),
        (None, 1, 4, "the shape of 'x' is not known"),
        ((None, None, 5), 1, 4, "it would make several channels of one, where there is one"),
        (IMAGE, 1, 1, "one number for all channels is arithmetic, no layer"),
        ((2, 3, 4), 2, 4, "it scales another axis than the channels"),
    ],
)
def test_what_is_no_depthwise_layer_stays_and_says_why(rng, shape, axis, channels, reason):
    graph = build(lambda x: Relu()(random_scale(rng, channels, axis)(x)), x=shape)
    log = Rewriter(graph, PASSES, OBJECTIVES["plain"]).run()
    assert not log.steps
    assert reason in [declined.reason for declined in log.declined if declined.rule == "replace_batch_norm"]
