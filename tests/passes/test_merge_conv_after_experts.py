from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import DynamicConv, Reshape, Sigmoid, Softmax
from repcompiler.passes.merge_conv_after_experts import merge_conv_after_experts
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, random_conv, random_linear, relu

INPUTS = {"x": (1, 4, None, None), "gates": (1, 3)}
EACH = {"x": (None, 4, None, None), "gates": (None, 3)}


def dynamic(rng, like, each, experts=3):
    """A dynamic convolution with the geometry of `like`, of an image and gates."""
    bank = random_linear(rng, experts, like.weight.size)
    conv = DynamicConv(like.weight.shape, like.bias, like.stride, like.padding, like.dilation, like.groups, each)
    return lambda x, gates: conv(x, bank(gates) if each else Reshape(like.weight.shape)(bank(gates)))


def test_pointwise_goes_into_every_expert(rng):
    conv, mix = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1), each=False), random_conv(rng, 8, 3, 1)
    graph = build(lambda x, gates: mix(conv(x, gates)), **INPUTS)
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, ?, ?], %gates: [1, 3])
          %linear1 = Linear(%gates) 3->288 bias : [1, 288]
          %reshape1 = Reshape(%linear1) : [8, 4, 3, 3]
          %dynamicconv1 = DynamicConv(%x, %reshape1) 4->8 3x3 padding=1 bias : [1, 8, ?, ?]
          %y = Conv(%dynamicconv1) 8->3 1x1 bias : [1, 3, ?, ?]
          return %y
    """)
    check_pass(merge_conv_after_experts, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, ?, ?], %gates: [1, 3])
          %y/1 = Linear(%gates) 3->108 bias : [1, 108]
          %y/2 = Reshape(%y/1) : [3, 4, 3, 3]
          %y = DynamicConv(%x, %y/2) 4->3 3x3 padding=1 bias : [1, 3, ?, ?]
          return %y
    """)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data(), st.integers(0, 2**32 - 1).map(np.random.default_rng))
def test_any_gates_any_geometry_and_any_batch(data, rng):
    axes, each = data.draw(st.integers(1, 3)), data.draw(st.booleans())
    size, stride, dilation = (tuple(map(int, rng.integers(1, 4, axes))) for _ in range(3))
    groups, last = (data.draw(st.sampled_from([1, 2, 4])) for _ in range(2))
    like = random_conv(rng, 4, 8, size, stride=stride, dilation=dilation, padding=int(rng.integers(0, 3)), groups=groups)
    after = random_conv(rng, 8, 8, data.draw(st.sampled_from([1, 2])), stride=data.draw(st.integers(1, 2)), groups=last)
    after = random_conv(rng, 8, 8, (after.kernel_size[0],) * axes, stride=(after.stride[0],) * axes, groups=last)
    extents = (9, 7, 8)[:axes]
    inner = like.infer_shape([(1, 4, *extents)])
    assume(min(inner[2:]) > 0 and min(after.infer_shape([inner])[2:]) > 0)
    conv, gate = dynamic(rng, like, each), data.draw(st.sampled_from([Sigmoid(), Softmax(1), relu]))
    batch = data.draw(st.integers(2, 3)) if each else 1
    graph = build(lambda x, gates: after(conv(x, gate(gates))), x=(batch, 4, *extents), gates=(batch, 3))
    assert len(check_pass(merge_conv_after_experts, graph).steps) == 1


def test_padded_map_that_carries_a_bias_is_refused(rng):
    conv, after = dynamic(rng, random_conv(rng, 4, 8, 1), each=True), random_conv(rng, 8, 3, 3, padding=1)
    log = check_pass(merge_conv_after_experts, build(lambda x, gates: after(conv(x, gates)), **EACH))
    assert not log.steps
    assert log.declined[0].reason == "the second pads a map that already carries a bias: exact only inside the image"


def test_experts_that_would_grow_stay(rng):
    conv, after = dynamic(rng, random_conv(rng, 4, 4, 3, padding=1), each=True), random_conv(rng, 4, 64, 1)
    inputs = {"x": (1, 4, 56, 56), "gates": (1, 3)}
    log = check_pass(merge_conv_after_experts, build(lambda x, gates: after(conv(x, gates)), **inputs), "latency")
    assert not log.steps
    assert log.declined[0].reason.startswith("it would cost more")


def test_kernel_of_unknown_layout_is_refused(rng):
    like, after, bank = random_conv(rng, 4, 8, 1), random_conv(rng, 8, 3, 1), random_linear(rng, 3, 4)
    conv = DynamicConv(like.weight.shape, like.bias, like.stride, like.padding, like.dilation, 1)
    graph = build(lambda x, gates: after(conv(x, Reshape((8, 4, 1, 1))(bank(gates)))), x=(1, 4, None, None), gates=(8, 3))
    log = check_pass(merge_conv_after_experts, graph)
    assert log.declined[0].reason == "it is not told how the mixed experts are laid out as one kernel"


def test_result_read_elsewhere_stays(rng):
    conv, after = dynamic(rng, random_conv(rng, 4, 8, 1), each=True), random_conv(rng, 8, 3, 1)

    def function(x, gates):
        y = conv(x, gates)
        return {"y": after(y), "z": relu(y)}

    log = check_pass(merge_conv_after_experts, build(function, **EACH))
    assert log.declined[0].reason == "'dynamicconv1' is read more than once"


@pytest.mark.parametrize("each", [False, True])
def test_each_rewrite_is_checked_by_itself(rng, each):
    conv, after = dynamic(rng, random_conv(rng, 4, 8, 3), each), random_conv(rng, 8, 3, 1)
    graph = build(lambda x, gates: after(conv(x, gates)), **(EACH if each else INPUTS))
    log = Rewriter(graph, [merge_conv_after_experts], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert len(log.steps) == 1
