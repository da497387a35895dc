from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import DynamicConv, Reshape, Sigmoid, Softmax, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.merge_branch_into_experts import merge_branch_into_experts
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter, ViewRule
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_linear, relu

INPUTS = {"x": (1, 4, None, None), "gates": (1, 3)}
EACH = {"x": (None, 4, None, None), "gates": (None, 3)}
RULES = [merge_branch_into_experts, *(rule for rule in PASSES if isinstance(rule, ViewRule))]
Add, Sub = Sum((1, 1)), Sum((1, -1))


def dynamic(rng, like, each, experts=3):
    """A dynamic convolution with the geometry of `like`, of an image and gates."""
    bank = random_linear(rng, experts, like.weight.size)
    conv = DynamicConv(like.weight.shape, like.bias, like.stride, like.padding, like.dilation, like.groups, each)
    return lambda x, gates: conv(x, bank(gates) if each else Reshape(like.weight.shape)(bank(gates)))


def test_static_branch_becomes_an_expert_whose_gate_is_one(rng):
    conv, branch = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1), each=False), random_conv(rng, 4, 8, 1)
    graph = build(lambda x, gates: Add(conv(x, gates), branch(x)), **INPUTS)
    check_pass(RULES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, ?, ?], %gates: [1, 3])
          %y/1 = Linear(%gates) 3->288 bias : [1, 288]
          %y/2 = Reshape(%y/1) : [8, 4, 3, 3]
          %y = DynamicConv(%x, %y/2) 4->8 3x3 padding=1 bias : [1, 8, ?, ?]
          return %y
    """)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data(), st.integers(0, 2**32 - 1).map(np.random.default_rng))
def test_any_gates_any_geometry_and_any_batch(data, rng):
    axes, each, swap = data.draw(st.integers(1, 3)), data.draw(st.booleans()), data.draw(st.booleans())
    stride, groups, other = (data.draw(st.sampled_from([1, 2])) for _ in range(3))
    like = random_conv(rng, 4, 4, (3,) * axes, stride=(stride,) * axes, padding=1, groups=groups)
    branch = random_conv(rng, 4, 4, (1,) * axes, stride=(stride,) * axes, groups=other)
    if stride == 1:
        branch = data.draw(st.sampled_from([branch, random_batch_norm(rng, 4), random_conv(rng, 4, 4, (5,) * axes, padding=2)]))
    extents = (9, 7, 8)[:axes]
    assume(min(like.infer_shape([(1, 4, *extents)])[2:]) > 0)
    conv, gate = dynamic(rng, like, each), data.draw(st.sampled_from([Sigmoid(), Softmax(1), relu]))
    batch, join = data.draw(st.integers(2, 3)) if each else 1, data.draw(st.sampled_from([Add, Sub]))

    def function(x, gates):
        terms = (conv(x, gate(gates)), branch(x))
        return Add(*terms[::-1]) if swap else join(*terms)

    graph = build(function, x=(batch, 4, *extents), gates=(batch, 3))
    assert len(check_pass(RULES, graph).steps) == 1


def test_identity_beside_it_too(rng):
    conv = dynamic(rng, random_conv(rng, 4, 4, 3, padding=1), each=True)
    assert len(check_pass(RULES, build(lambda x, gates: Add(conv(x, gates), x), **EACH)).steps) == 1


def test_what_a_dynamic_convolution_is_subtracted_from_stays(rng):
    conv = dynamic(rng, random_conv(rng, 4, 4, 3, padding=1), each=True)
    log = check_pass(RULES, build(lambda x, gates: Sub(x, conv(x, gates)), **EACH))
    assert not log.steps
    assert not log.declined


@pytest.mark.parametrize(("stride", "reason"), [(2, "the branches have strides (1, 1) and (2, 2)")])
def test_branch_of_another_stride_is_refused(rng, stride, reason):
    conv, branch = dynamic(rng, random_conv(rng, 4, 4, 1), each=True), random_conv(rng, 4, 4, 1, stride=stride)
    log = check_pass(RULES, build(lambda x, gates: Add(conv(x, gates), branch(x)), **{**EACH, "x": (None, 4, 1, 1)}))
    assert not log.steps
    assert log.declined[0].reason == reason


def test_each_rewrite_is_checked_by_itself(rng):
    conv, branch = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1), each=True), random_conv(rng, 4, 8, 1)
    graph = build(lambda x, gates: Add(conv(x, gates), branch(x)), **EACH)
    assert len(Rewriter(graph, RULES, OBJECTIVES["plain"], need=Certify.ALL).run().steps) == 1
