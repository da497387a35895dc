from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.ops import (
    BatchNorm,
    Clip,
    Gated,
    Identity,
    Linear,
    PRelu,
    Relu,
    Sum,
)
from repcompiler.passes import PASSES
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_linear

Add = Sum((1, 1))


@st.composite
def blocks(draw):
    """Blocks of up to three layers: any kernel, stride, dilation and groups; sign of x known or not; any shortcut that fits."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    channels = [4, *(draw(st.sampled_from([2, 4, 8])) for _ in range(draw(st.integers(1, 2)))), 4]
    layers, stride = [], 1
    for inputs, outputs in pairwise(channels):
        kernel, step = draw(st.sampled_from([1, 2, 3, 5])), draw(st.sampled_from([1, 1, 2]))
        dilation = draw(st.sampled_from([1, 2]))
        groups = draw(st.sampled_from([1, np.gcd(inputs, outputs)]))
        reach = dilation * (kernel - 1)
        padding = ((reach // 2, reach - reach // 2),) * 2 if draw(st.booleans()) else 0
        attributes = {"stride": step, "dilation": dilation, "padding": padding, "groups": int(groups)}
        layers.append(random_conv(rng, inputs, outputs, kernel, **attributes))
        stride *= step
    activations = [draw(st.sampled_from(ANY)) for _ in layers[1:]]
    before = draw(st.sampled_from([Identity(), Relu(), Clip(0.0, 6.0), random_batch_norm(rng, 4)]))
    return layers, activations, before, stride, rng


ANY = [Relu(), Clip(0.0, 6.0), Clip(-1.0, np.inf), PRelu(np.array([0.2])), Gated("silu"), Gated("hardswish")]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(blocks())
def test_any_block_becomes_one_chain_or_stays(block):
    layers, activations, before, stride, rng = block

    def of(x):
        x = before(x)
        y = layers[0](x)
        for activation, layer in zip(activations, layers[1:], strict=True):
            y = layer(activation(y))
        lost = sizes[0] - sizes[1] * stride
        crop = ((lost // 2, lost - lost // 2),) * 2 if stride == 1 else ((0, stride * (sizes[1] - 1) + 1 - sizes[0]),) * 2
        padding = tuple((-before, -after) for before, after in crop) if stride == 1 else crop
        return Add(y, random_conv(rng, 4, 4, 1, stride=stride, padding=padding)(x))

    size = 23
    for layer in layers:
        size = layer.infer_shape([(1, layer.in_channels, size, size)])[2]
    sizes = (23, size)
    graph = build(of, x=(None, 4, 23, 23))
    log = check_pass([rule for rule in PASSES if rule.name != "fold_batch_norm"], graph)
    if any(step.rule == "remove_residual" for step in log.steps):
        assert not any(isinstance(node.op, (Sum, Linear)) for node in graph.nodes)
    assert not any(isinstance(node.op, BatchNorm) and node.op.channels != 4 for node in graph.nodes)


LAST, PIXELS = random_linear(np.random.default_rng(0), 4, 4), random_conv(np.random.default_rng(0), 4, 4, (3,), padding=1)


@pytest.mark.parametrize(
    ("first", "last", "shortcut"), [(LAST, PIXELS, None), (PIXELS, LAST, None), (PIXELS, PIXELS, LAST), (LAST, LAST, PIXELS)]
)
def test_layers_of_the_last_axis_and_of_the_channels_carry_nothing_for_each_other(first, last, shortcut):
    """Where there are as many pixels as channels, the shapes fit."""
    graph = build(lambda x: Add(last(Relu()(first(x))), x if shortcut is None else shortcut(x)), x=(None, 4, 4))
    log = check_pass(PASSES, graph)
    assert not log.steps
    assert "one acts on the channels, the other on the last axis" in [declined.reason for declined in log.declined]
