from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import GlobalAvgPool, Mul, Select, Sigmoid, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.merge_branch_with_one_that_stays import merge_branch_with_one_that_stays
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter, ViewRule
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, relu

IMAGE = (None, 4, None, None)
RULES = [merge_branch_with_one_that_stays, *(rule for rule in PASSES if isinstance(rule, ViewRule))]


def test_branch_takes_in_what_others_read_too(rng):
    conv3, conv1 = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1)

    def function(x):
        other = conv1(x)
        return {"y": Sum((1, -1))(conv3(x), other), "z": relu(other)}

    graph = build(function, x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->4 3x3 padding=1 bias : [?, 4, ?, ?]
          %conv2 = Conv(%x) 4->4 1x1 bias : [?, 4, ?, ?]
          %y = Sub(%conv1, %conv2) : [?, 4, ?, ?]
          %z = Relu(%conv2) : [...]
          return %y, %z
    """)
    check_pass(RULES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv2 = Conv(%x) 4->4 1x1 bias : [?, 4, ?, ?]
          %z = Relu(%conv2) : [...]
          %y = Conv(%x) 4->4 3x3 padding=1 bias : [?, 4, ?, ?]
          return %y, %z
    """)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data(), st.integers(0, 2**32 - 1).map(np.random.default_rng))
def test_gate_over_branches_of_any_geometry(data, rng):
    """b + sigmoid(mean(a - b)) (a - b): the difference is one convolution, and b stays."""
    axes, stride = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    size, groups = data.draw(st.sampled_from([1, 3])), data.draw(st.sampled_from([1, 2]))
    wide = random_conv(rng, 4, 4, (3,) * axes, stride=(stride,) * axes, padding=1, groups=groups)
    thin = random_conv(rng, 4, 4, (size,) * axes, stride=(stride,) * axes, padding=size // 2)
    norm, index = random_batch_norm(rng, 4), tuple(map(int, rng.permutation(8)[:4]))

    def function(x):
        b = thin(Select(index)(x))
        d = Sum((1, -1))(norm(wide(Select((0, 1, 2, 3))(x))), b)
        return Sum((1, 1))(b, Mul()(Sigmoid()(GlobalAvgPool()(d)), d))

    graph = build(function, x=(None, 8) + (None,) * axes)
    log = check_pass(RULES, graph)
    assert [step.rule for step in log.steps] == ["merge_branch_with_one_that_stays"]
    kinds = [node.op.kind for node in graph.topological()]
    assert sorted(kinds) == sorted(["Select", "Conv", "Conv", "GlobalAvgPool", "Sigmoid", "Mul", "Sum"])


def test_branch_that_nobody_else_reads_is_not_its_business(rng):
    conv3, conv1 = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1)
    log = check_pass(RULES, build(lambda x: Sum((1, 1))(conv3(x), conv1(x)), x=IMAGE))
    assert not log.steps
    assert not log.declined


def test_branch_that_is_added_twice_is_not_its_business(rng):
    conv3, conv1 = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1)

    def function(x):
        other = conv1(x)
        return Sum((1, 1, 1))(conv3(x), other, other)

    assert not Rewriter(build(function, x=IMAGE), RULES, OBJECTIVES["plain"], need=Certify.ALL).run().steps


def test_two_branches_that_others_read_stay(rng):
    conv3, conv1 = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1)

    def function(x):
        a, b = conv3(x), conv1(x)
        return {"y": Sum((1, 1))(a, b), "z": relu(a), "w": relu(b)}

    log = check_pass(RULES, build(function, x=IMAGE))
    assert not log.steps
    assert {declined.reason for declined in log.declined} == {
        "'conv1' is read more than once",
        "'conv2' is read more than once",
    }


@pytest.mark.parametrize("objective", ["latency", "macs"])
def test_larger_kernel_is_not_computed_again(rng, objective):
    conv1, conv7 = random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 7, padding=3)

    def function(x):
        other = conv7(x)
        return {"y": Sum((1, 1))(conv1(x), other), "z": relu(other)}

    log = check_pass(RULES, build(function, x=(1, 4, 224, 224)), objective)
    assert not log.steps
    assert log.declined[0].reason.startswith("it would cost more")


def test_branches_whose_outputs_differ_in_size_are_refused(rng):
    conv3, conv1 = random_conv(rng, 4, 4, 3, stride=2, padding=1), random_conv(rng, 4, 4, 1)

    def function(x):
        other = conv1(x)
        return {"y": Sum((1, 1))(conv3(x), other), "z": relu(other)}

    log = check_pass(RULES, build(function, x=(None, 4, 1, 1)))
    assert not log.steps
    assert log.declined[0].reason == "the branches have strides (2, 2) and (1, 1)"


def test_each_rewrite_is_checked_by_itself(rng):
    conv3, conv1 = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1)

    def function(x):
        other = conv1(x)
        return {"y": Sum((1, -1))(conv3(x), other), "z": relu(other)}

    assert len(Rewriter(build(function, x=IMAGE), RULES, OBJECTIVES["plain"], need=Certify.ALL).run().steps) == 1
