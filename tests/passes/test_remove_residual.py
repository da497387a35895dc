from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.explain import explain
from repcompiler.ops import (
    Clip,
    ClipChannels,
    Conv,
    Gated,
    Identity,
    MaxPool,
    PRelu,
    Relu,
    Sigmoid,
    Sum,
)
from repcompiler.passes import PASSES
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.linear_to_conv import linear_to_conv
from repcompiler.passes.remove_residual import remove_residual
from repcompiler.passing import ODD_PARTS as PASSING
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, opaque, random_batch_norm, random_conv, random_linear

IMAGE = (None, 4, None, None)
RULES = [remove_residual, identity_to_dirac, batch_norm_to_conv, linear_to_conv]
Add, Sub = Sum((1, 1)), Sum((1, -1))


def same(rng, inputs, outputs, **attributes):
    return random_conv(rng, inputs, outputs, 3, padding=1, **attributes)


def kinds(graph):
    return [str(node.op.kind) for node in graph.topological()]


def weights(graph):
    return [node.op.weight.shape for node in graph.topological() if isinstance(node.op, Conv)]


def test_what_is_not_negative_passes_relu_in_one_channel_each(rng):
    first, second = same(rng, 4, 6), same(rng, 6, 4)

    def block(x):
        x = Relu()(x)
        return Add(second(Relu()(first(x))), x)

    graph = build(block, x=IMAGE)
    check_pass(RULES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %relu1 = Relu(%x) : [?, 4, ?, ?]
          %y/1 = Conv(%relu1) 4->10 3x3 padding=1 bias : [?, 10, ?, ?]
          %y/2 = Relu(%y/1) : [?, 10, ?, ?]
          %y = Conv(%y/2) 10->4 3x3 padding=1 bias : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize(
    "activation", [Relu(), *map(Gated, ("silu", "gelu", "gelu_tanh", "hardswish"))], ids=lambda op: getattr(op, "gate", "relu")
)
def test_anything_passes_in_two_channels_where_f_of_x_less_f_of_minus_x_is_x(rng, activation):
    first, second = same(rng, 4, 6), same(rng, 6, 4)
    graph = build(lambda x: Add(second(activation(first(x))), x), x=IMAGE)
    check_pass(RULES, graph)
    assert weights(graph) == [(6 + 8, 4, 3, 3), (4, 6 + 8, 3, 3)]


@pytest.mark.parametrize("activation", [Relu(), PRelu(np.array([0.1]))], ids=lambda op: op.kind)
def test_pairs_make_groups_of_a_layer_that_makes_more_than_it_reads(rng, activation):
    """Redmon and Farhadi, YOLOv3, 2018: its blocks end in an activation. One channel each would make the 3x3 layer dense."""
    first, second = random_conv(rng, 8, 4, 1), same(rng, 4, 8)

    def block(x):
        x = activation(x)
        return Add(activation(second(activation(first(x)))), x)

    graph = build(block, x=(None, 8, None, None))
    check_pass(RULES, graph)
    assert weights(graph) == [(4 + 8, 8, 1, 1), (8 + 16, 4, 3, 3), (8, 8 + 16, 1, 1)]


@pytest.mark.parametrize("activation", [Relu(), Gated("silu")], ids=lambda op: getattr(op, "gate", "relu"))
def test_a_block_that_is_subtracted_is_added_with_its_last_layer_negated(rng, activation):
    """Zhang et al., DnCNN, TIP 2017: the network tells the noise, and that is subtracted."""
    first, second = same(rng, 4, 6), same(rng, 6, 4)
    graph = build(lambda x: Sub(x, second(activation(first(x)))), x=IMAGE)
    check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv", activation.kind, "Conv"]


@pytest.mark.parametrize("slope", [-1.0, -0.5])
def test_no_pairs_of_a_slope_that_leaves_little_of_x(rng, slope):
    """abs(x) - abs(-x) is nothing: the digits would cancel."""
    activation, first, second = PRelu(np.array([slope])), random_conv(rng, 8, 4, 1), same(rng, 4, 8)
    graph = build(lambda x: Add(activation(second(activation(first(x)))), x), x=(None, 8, None, None))
    check_pass(RULES, graph)
    assert weights(graph) == [(4 + 8, 8, 1, 1), (8 + 8, 4 + 8, 3, 3), (8, 2, 1, 1)]


@pytest.mark.parametrize(
    ("activation", "widened"),
    [(PRelu(np.array([0.3])), PRelu), (PRelu(np.linspace(-1, 1, 6)), PRelu), (Clip(-0.5, 1.0), ClipChannels)],
    ids=["LeakyReLU", "PReLU", "Clip"],
)
def test_constants_of_their_own_let_reserved_channels_pass(rng, activation, widened):
    first, second = same(rng, 4, 6), same(rng, 6, 4)
    graph = build(lambda x: Add(second(activation(first(x))), x), x=IMAGE)
    check_pass(RULES, graph)
    assert kinds(graph) == ["Conv", widened.__name__, "Conv"]
    assert weights(graph) == [(6 + 4, 4, 3, 3), (4, 6 + 4, 3, 3)]


def test_what_lies_within_its_bounds_passes_a_clip_as_it_is(rng):
    first, second = same(rng, 4, 6), same(rng, 6, 4)

    def block(x):
        x = Clip(0.0, 6.0)(x)
        return Add(second(Clip(0.0, 6.0)(first(x))), x)

    graph = build(block, x=IMAGE)
    check_pass(RULES, graph)
    assert kinds(graph) == ["Clip", "Conv", "Clip", "Conv"]


ODD_PARTS = {
    "Elu": (lambda x: np.where(x > 0, x, np.expm1(x)), lambda x: x - np.expm1(-x)),
    "Celu": (lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2)), lambda x: x - 2 * np.expm1(-x / 2)),
    "Selu": (lambda x: 1.05 * np.where(x > 0, x, 1.67 * np.expm1(x)), lambda x: 1.05 * (x - 1.67 * np.expm1(-x))),
    "Mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), lambda x: x * sum(np.tanh(np.logaddexp(0, y)) for y in (x, -x))),
    "Tanh": (np.tanh, lambda x: 2 * np.tanh(x)),
    "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: np.tanh(x / 2)),
    "Softsign": (lambda x: x / (1 + np.abs(x)), lambda x: 2 * x / (1 + np.abs(x))),
    "Softplus": (lambda x: np.logaddexp(0, x), lambda x: x),
    "LogSigmoid": (lambda x: -np.logaddexp(0, -x), lambda x: x),
}
"""An activation f, and f(x) - f(-x) for x > 0."""


@pytest.mark.parametrize("name", ODD_PARTS)
def test_what_no_channel_passes_is_refused_with_what_it_makes_of_x(rng, name):
    f, odd_part = ODD_PARTS[name]
    x = rng.uniform(0, 5, size=100)
    np.testing.assert_allclose(f(x) - f(-x), odd_part(x))
    activation = Sigmoid() if name == "Sigmoid" else opaque(name, f)
    graph = build(lambda x: Add(same(rng, 6, 4)(activation(same(rng, 4, 6)(x))), x), x=IMAGE)
    log = check_pass(RULES, graph)
    assert not log.steps
    assert log.declined[0].reason == f"the skipped value does not pass {name}: f(x) - f(-x) {PASSING[name.lower()]}"


def test_deep_bodies_carry_both_signs_of_relu_on_and_recode_what_is_smooth(rng):
    def block(activation):
        def of(x):
            y = x
            for _ in range(3):
                y = activation(same(rng, 4, 4)(y))
            return Add(same(rng, 4, 4)(y), x)

        graph = build(of, x=IMAGE)
        check_pass(RULES, graph)
        return weights(graph)

    for activation in (Relu(), Gated("silu")):
        assert block(activation) == [(12, 4, 3, 3), (12, 4, 3, 3), (12, 4, 3, 3), (4, 12, 3, 3)]  # three groups


def test_grouped_layers_stay_grouped(rng):
    """Groups of the block's own size are added: of a bottleneck's dense layer one for each part of x as wide as it."""

    def bottleneck(groups):
        def block(x):
            x = Relu()(x)
            hidden = Relu()(random_conv(rng, 8, 4, 1)(x))
            return Add(random_conv(rng, 4, 8, 1)(Relu()(same(rng, 4, 4, groups=groups)(hidden))), x)

        graph = build(block, x=(None, 8, None, None))
        check_pass(RULES, graph)
        return [node.op.groups for node in graph.topological() if isinstance(node.op, Conv)]

    assert bottleneck(1) == [1, 3, 1]
    assert bottleneck(2) == [1, 6, 1]
    assert bottleneck(4) == [1, 12, 1]


def test_a_block_that_starts_and_ends_with_its_activation(rng):
    graph = build(lambda x: Add(Relu()(same(rng, 4, 4)(Relu()(x))), x), x=IMAGE)
    check_pass(RULES, graph)
    assert weights(graph) == [(4 + 8, 4, 1, 1), (4 + 8, 4, 3, 3), (4, 4 + 8, 1, 1)]  # three groups


def test_pre_activation_blocks_one_after_the_other(rng):
    """[norm; I; -I] of the next block is a 1x1 layer that the last one takes in."""
    norms = [random_batch_norm(rng, channels) for channels in (4, 6, 4, 6)]

    def network(x):
        for first, second in (norms[:2], norms[2:]):
            hidden = same(rng, 4, 6)(Relu()(first(x)))
            x = Add(same(rng, 6, 4)(Relu()(second(hidden))), x)
        return x

    graph = build(network, x=IMAGE)
    check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv", "Relu", "Conv", "Relu", "Conv", "Relu", "Conv", "Relu", "Conv"]


def test_nested_blocks(rng):
    def block(x, depth):
        inner = block(x, depth - 1) if depth else same(rng, 4, 4)(x)
        return Add(same(rng, 4, 4)(Relu()(inner)), x)

    graph = build(lambda x: block(Relu()(x), 2), x=IMAGE)
    check_pass(PASSES, graph)
    assert set(kinds(graph)) == {"Conv", "Relu"}


def test_subtracted_shortcut_and_other_terms(rng):
    def block(x, z):
        return Add(Sub(same(rng, 6, 4)(Relu()(same(rng, 4, 6)(x))), x), z)

    graph = build(block, x=IMAGE, z=IMAGE)
    assert len(check_pass(RULES, graph).steps) == 1
    assert kinds(graph) == ["Conv", "Relu", "Conv", "Sum"]


def test_fully_connected_layers_of_tokens(rng):
    def block(x):
        return Add(random_linear(rng, 9, 6)(Gated("gelu")(random_linear(rng, 6, 9)(x))), x)

    graph = build(block, x=(None, 5, 6))
    check_pass(PASSES, graph)
    assert [node.op.kind for node in graph.topological()] == ["Linear", "GELU", "Linear"]


def test_activations_of_vectors_with_no_layer_between():
    """Seed 10930 of the fuzzer: the layers between are identities, a channel each, which a fully connected layer spells out."""
    graph = build(lambda x: Add(Relu()(Relu()(x)), x), x=(None, 5))
    check_pass(RULES, graph)
    assert kinds(graph) == ["Linear", "Relu", "Linear", "Relu", "Linear"]


def test_slopes_of_the_wrong_axis_are_refused(rng):
    def block(x):
        return Add(random_linear(rng, 9, 6)(PRelu(np.array([0.25]))(random_linear(rng, 6, 9)(x))), x)

    graph = build(block, x=(None, 5, 6))
    log = check_pass(PASSES, graph)
    assert not [step for step in log.steps if step.rule == "remove_residual"]


def test_nothing_passes_a_maximum_of_several_pixels(rng):
    pool = MaxPool((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    graph = build(lambda x: Add(same(rng, 6, 4)(Relu()(pool(same(rng, 4, 6)(x)))), x), x=IMAGE)
    log = check_pass(PASSES, graph)
    assert not log.steps
    (line,) = explain(graph, log.declined)
    assert line.reason == "the skip connection crosses 'maxpool1' (MaxPool)"


@pytest.mark.parametrize("objective", ["latency", "macs", "params"])
def test_nothing_is_widened_that_does_not_pay(rng, objective):
    graph = build(
        lambda x: Add(same(rng, 64, 64)(Relu()(same(rng, 64, 64)(Relu()(x)))), Identity()(Relu()(x))), x=(1, 64, 28, 28)
    )
    assert not [step for step in check_pass(PASSES, graph, objective).steps if step.rule == "remove_residual"]


def test_under_latency_an_addition_that_a_runtime_folds_in_is_nothing_to_save(rng):
    """On maps this small starting an operation is what costs: a wider layer would not."""
    graph = build(lambda x: Add(same(rng, 6, 4)(Gated("silu")(same(rng, 4, 6)(x))), x), x=(1, 4, 2, 2))
    log = check_pass(PASSES, graph, "latency")
    assert not log.steps
    reasons = {refusal.reason for refusal in log.declined if refusal.rule == "remove_residual"}
    assert reasons == {"it would save no more than starting one operation takes, and runtimes fold additions into layers"}


def test_each_rewrite_is_checked_by_itself_on_numbers_that_can_be_there(rng):
    def block(x):
        x = Relu()(x)
        return Add(same(rng, 6, 4)(Relu()(same(rng, 4, 6)(x))), x)

    graph = build(block, x=IMAGE)
    log = Rewriter(graph, RULES, OBJECTIVES["plain"], need=Certify.ALL).run()
    assert [step.rule for step in log.steps] == ["remove_residual"]
    assert weights(graph) == [(6 + 4, 4, 3, 3), (4, 6 + 4, 3, 3)]
