import pytest

from repcompiler.ops import (
    Clip,
    Conv,
    Gated,
    GlobalAvgPool,
    HardSigmoid,
    Mul,
    PRelu,
    Relu,
    Reshape,
    Sigmoid,
    Sum,
    Transpose,
)
from repcompiler.passes import PASSES
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.linear_to_conv import linear_to_conv
from repcompiler.passes.remove_residual import remove_residual
from repcompiler.testing import build, check_pass, random_conv, random_linear, relu

IMAGE = (None, 4, None, None)
RULES = [remove_residual, identity_to_dirac, batch_norm_to_conv, linear_to_conv]
Add = Sum((1, 1))


def same(rng, inputs, outputs, **attributes):
    return random_conv(rng, inputs, outputs, 3, padding=1, **attributes)


def squeezed(rng, x, channels, sigmoid):
    """Squeeze and excitation."""
    reduced = Relu()(random_conv(rng, channels, 2, 1)(GlobalAvgPool()(x)))
    return Mul()(x, sigmoid(random_conv(rng, 2, channels, 1)(reduced)))


@pytest.mark.parametrize("sigmoid", [Sigmoid(), HardSigmoid(1 / 6, 0.5)], ids=["sigmoid", "hard sigmoid"])
@pytest.mark.parametrize("activation", [Relu(), Gated("silu"), Clip(0.0, 6.0), None], ids=lambda op: op and op.kind)
def test_a_gate_is_one_for_what_is_carried_and_does_not_see_it(rng, sigmoid, activation):
    def block(x):
        hidden = same(rng, 4, 6)(x)
        hidden = hidden if activation is None else activation(hidden)
        return Add(same(rng, 6, 4)(squeezed(rng, hidden, 6, sigmoid)), x)

    graph = build(block, x=IMAGE)
    check_pass(RULES, graph)
    assert not any(isinstance(node.op, Sum) for node in graph.nodes)
    assert (
        next(node.op.out_channels for node in graph.topological() if isinstance(node.op, Conv))
        == {
            Relu: 14,
            Gated: 14,
            Clip: 10,
            type(None): 10,
        }[type(activation)]
    )


def test_a_gate_with_a_constant_a_channel_would_see_what_is_carried(rng):
    def block(x):
        hidden = Relu()(same(rng, 4, 6)(x))
        means = PRelu(rng.normal(size=6))(GlobalAvgPool()(hidden))
        gate = Sigmoid()(random_conv(rng, 6, 6, 1)(means))
        return Add(same(rng, 6, 4)(Mul()(hidden, gate)), x)

    log = check_pass(RULES, build(block, x=IMAGE))
    assert not log.steps
    assert "the gate has a constant a channel before it mixes them" in log.declined[0].reason


def test_a_gate_that_ends_in_no_sigmoid_is_refused(rng):
    def block(x):
        hidden = Relu()(same(rng, 4, 6)(x))
        gate = Relu()(random_conv(rng, 6, 6, 1)(GlobalAvgPool()(hidden)))
        return Add(same(rng, 6, 4)(Mul()(hidden, gate)), x)

    log = check_pass(RULES, build(block, x=IMAGE))
    assert not log.steps
    assert "it cannot be made one for the skipped value" in log.declined[0].reason


@pytest.mark.parametrize(
    "written", [(Reshape((0, 1, 6)),), (Reshape((0, 6, 1)), Transpose((0, 2, 1)))], ids=["view", "transpose"]
)
@pytest.mark.parametrize("last", [True, False], ids=["before a layer", "at the end"])
@pytest.mark.parametrize("activation", [Relu(), Gated("silu")], ids=lambda op: op.kind)
def test_efficient_channel_attention_does_not_see_what_is_carried(rng, activation, last, written):
    """A convolution along the channels would mix the last of a block with the first that are reserved."""

    def block(x):
        hidden = signal = activation(same(rng, 6, 6)(x))
        signal = GlobalAvgPool()(signal)
        for step in written:
            signal = step(signal)
        gate = Sigmoid()(Reshape((0, 6, 1, 1))(random_conv(rng, 1, 1, (3,), padding=1, bias=False)(signal)))
        gated = Mul()(hidden, gate)
        return relu(Add(same(rng, 6, 6)(gated) if last else gated, x))

    graph = build(block, x=(None, 6, None, None))
    log = check_pass(PASSES, graph)
    assert [step.rule for step in log.steps][:2] == ["unflatten_channel_conv", "remove_residual"]
    assert not {"Sum", "Reshape", "Transpose"} & {node.op.kind for node in graph.nodes}


def test_zeros_that_a_layer_pads_with_are_carried_too(rng):
    """Clip(1, 6) leaves x in [1, 6] alone, and not the zeros around it."""
    first, second = random_conv(rng, 4, 6, 1, padding=1), random_conv(rng, 6, 4, 1)
    shortcut = random_conv(rng, 4, 4, 1, padding=1, groups=4, bias=False)

    def block(x):
        x = Clip(1.0, 6.0)(x)
        return Add(second(Clip(1.0, 6.0)(first(x))), shortcut(x))

    log = check_pass(RULES, build(block, x=IMAGE))
    assert [step.rule for step in log.steps] == ["remove_residual"]


@pytest.mark.parametrize("channels", [1, 6])
def test_a_gate_of_channels_behind_a_layer_of_the_last_axis_is_refused(rng, channels):
    """Seed 40702 of the fuzzer: what is carried would be beside the last axis, and the gate weighs axis 1."""

    def block(x):
        hidden = random_linear(rng, 6, 6)(x)
        gate = Sigmoid()(random_conv(rng, channels, channels, (1,))(GlobalAvgPool()(hidden)))
        return Add(Mul()(hidden, gate), x)

    log = check_pass(RULES, build(block, x=(2, channels, 6)))
    assert not log.steps
    assert "the gate weighs the channels of axis 1, not those of the last" in [declined.reason for declined in log.declined]
