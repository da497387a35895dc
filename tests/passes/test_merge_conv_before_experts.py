from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import DynamicConv, Reshape, Select, Sigmoid, Softmax, Subsample
from repcompiler.passes import PASSES
from repcompiler.passes.merge_conv_before_experts import merge_conv_before_experts
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter, ViewRule
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_linear, relu

INPUTS = {"x": (1, 3, None, None), "gates": (1, 3)}
EACH = {"x": (None, 3, None, None), "gates": (None, 3)}
RULES = [merge_conv_before_experts, *(rule for rule in PASSES if isinstance(rule, ViewRule))]


def dynamic(rng, like, each, experts=3):
    """A dynamic convolution with the geometry of `like`, of an image and gates."""
    bank = random_linear(rng, experts, like.weight.size)
    conv = DynamicConv(like.weight.shape, like.bias, like.stride, like.padding, like.dilation, like.groups, each)
    return lambda x, gates: conv(x, bank(gates) if each else Reshape(like.weight.shape)(bank(gates)))


def test_pointwise_goes_into_every_expert(rng):
    mix, conv = random_conv(rng, 3, 8, 1, bias=False), dynamic(rng, random_conv(rng, 8, 4, 3, padding=1), each=False)
    graph = build(lambda x, gates: conv(mix(x), gates), **INPUTS)
    check_pass(RULES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [1, 3, ?, ?], %gates: [1, 3])
          %y/1 = Linear(%gates) 3->108 bias : [1, 108]
          %y/2 = Reshape(%y/1) : [4, 3, 3, 3]
          %y = DynamicConv(%x, %y/2) 3->4 3x3 padding=1 bias : [1, 4, ?, ?]
          return %y
    """)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data(), st.integers(0, 2**32 - 1).map(np.random.default_rng))
def test_any_gates_any_geometry_and_any_batch(data, rng):
    axes, each = data.draw(st.integers(1, 3)), data.draw(st.booleans())
    size, stride, dilation = (tuple(map(int, rng.integers(1, 4, axes))) for _ in range(3))
    groups, first = (data.draw(st.sampled_from([1, 2, 4])) for _ in range(2))
    like = random_conv(rng, 4, 8, size, stride=stride, dilation=dilation, padding=int(rng.integers(0, 3)), groups=groups)
    mix = random_conv(rng, 4, 4, (1,) * axes, groups=first, bias=False)
    before = data.draw(st.sampled_from([mix, Select((3, 1, 1, 0)), Subsample((2,) * axes)]))
    extents = (9, 7, 8)[:axes]
    inner = before.infer_shape([(1, 4, *extents)])
    assume(min(like.infer_shape([inner])[2:]) > 0)
    conv, gate = dynamic(rng, like, each), data.draw(st.sampled_from([Sigmoid(), Softmax(1), relu]))
    batch = data.draw(st.integers(2, 3)) if each else 1
    graph = build(lambda x, gates: conv(before(x), gate(gates)), x=(batch, 4, *extents), gates=(batch, 3))
    assert len(check_pass(RULES, graph).steps) == 1


@pytest.mark.parametrize("before", ["a convolution", "a batch norm"])
def test_bias_that_would_depend_on_the_gates_is_refused(rng, before):
    op = random_conv(rng, 3, 3, 1) if before == "a convolution" else random_batch_norm(rng, 3)
    conv = dynamic(rng, random_conv(rng, 3, 4, 3), each=True)
    log = check_pass(RULES, build(lambda x, gates: conv(op(x), gates), **EACH))
    assert not log.steps
    assert log.declined[0].reason == "its bias would depend on the gates"


def test_batch_norm_without_a_shift_goes_in(rng):
    norm = random_batch_norm(rng, 3)
    norm = replace(norm, beta=np.zeros(3), mean=np.zeros(3))
    conv = dynamic(rng, random_conv(rng, 3, 4, 3, padding=1), each=True)
    assert len(check_pass(RULES, build(lambda x, gates: conv(norm(x), gates), **EACH)).steps) == 1


def test_border_of_a_larger_kernel_is_refused(rng):
    mix, conv = random_conv(rng, 3, 3, 3, padding=1, bias=False), dynamic(rng, random_conv(rng, 3, 4, 3, padding=1), each=True)
    log = check_pass(RULES, build(lambda x, gates: conv(mix(x), gates), **EACH))
    assert not log.steps
    assert log.declined[0].reason == "the second pads with zeros where the first would go on: exact only inside the image"


def test_what_the_gates_read_too_stays(rng):
    mix, conv = random_conv(rng, 3, 3, 1, bias=False), dynamic(rng, random_conv(rng, 3, 4, 3), each=True)

    def function(x, gates):
        x = mix(x)
        return {"y": conv(x, gates), "z": relu(x)}

    log = check_pass(RULES, build(function, **EACH))
    assert log.declined[0].reason == "'conv1' is read more than once"


def test_each_rewrite_is_checked_by_itself(rng):
    mix, conv = random_conv(rng, 3, 3, 1, bias=False), dynamic(rng, random_conv(rng, 3, 4, 3), each=True)
    graph = build(lambda x, gates: conv(mix(x), gates), **EACH)
    assert len(Rewriter(graph, RULES, OBJECTIVES["plain"], need=Certify.ALL).run().steps) == 1
