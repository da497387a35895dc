from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import GlobalAvgPool, Mul, Reshape, Softmax, Stack, Sum, Take
from repcompiler.passes.softmax_of_two_to_sigmoid import softmax_of_two_to_sigmoid
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, relu

Add, Times, Mean = Sum((1, 1)), Mul(), GlobalAvgPool()
TWO = {"a": (None, 4, None, None), "b": (None, 4, None, None)}
LOGITS = {"u": (None, 4, 1, 1), "v": (None, 4, 1, 1)}


def mixed(a, b, u, v, axis=2, new=False, flat=False, swap=False, along=None):
    """a s_1 + b s_2 as a model writes it."""
    parts = [Reshape((0, 4))(part) for part in (u, v)] if flat else [u, v]
    weights = Softmax(axis if along is None else along)(Stack(axis, new)(*parts))
    first, second = (Take(axis, index, keep=not new)(weights) for index in (0, 1))
    if flat:
        first, second = (Reshape((0, 4, 1, 1))(share) for share in (first, second))
    return Add(Times(second, b), Times(first, a)) if swap else Add(Times(a, first), Times(b, second))


def test_weights_by_means_become_one_sigmoid_of_the_mean_difference():
    graph = build(lambda a, b: mixed(a, b, Mean(a), Mean(b)), **TWO)
    assert render(graph) == cleandoc("""
        graph(%a: [?, 4, ?, ?], %b: [?, 4, ?, ?])
          %globalavgpool1 = GlobalAvgPool(%a) : [?, 4, 1, 1]
          %globalavgpool2 = GlobalAvgPool(%b) : [?, 4, 1, 1]
          %stack1 = Stack(%globalavgpool1, %globalavgpool2) axis=2 : [?, 4, 2, 1]
          %softmax1 = Softmax(%stack1) axis=2 : [?, 4, 2, 1]
          %take1 = Take(%softmax1) axis=2 : [?, 4, 1, 1]
          %mul1 = Mul(%a, %take1) : [?, 4, ?, ?]
          %take2 = Take(%softmax1) axis=2 : [?, 4, 1, 1]
          %mul2 = Mul(%b, %take2) : [?, 4, ?, ?]
          %y = Add(%mul1, %mul2) : [?, 4, ?, ?]
          return %y
    """)
    check_pass(softmax_of_two_to_sigmoid, graph)
    assert render(graph) == cleandoc("""
        graph(%a: [?, 4, ?, ?], %b: [?, 4, ?, ?])
          %y/1 = Sub(%a, %b) : [?, 4, ?, ?]
          %y/2 = GlobalAvgPool(%y/1) : [?, 4, 1, 1]
          %y/3 = Sigmoid(%y/2) : [?, 4, 1, 1]
          %y/4 = Mul(%y/3, %y/1) : [?, 4, ?, ?]
          %y = Add(%b, %y/4) : [?, 4, ?, ?]
          return %y
    """)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_however_the_logits_are_brought_together(data):
    flat, swap, means = (data.draw(st.booleans()) for _ in range(3))
    new = data.draw(st.booleans()) or flat
    axis = data.draw(st.sampled_from([0, 1, 2] if flat else [0, 1, 2, 3, 4] if new else [2, 3]))
    broadcast = data.draw(st.booleans())
    inputs = {**TWO, "b": (None, 4, 1, 1)} if broadcast else dict(TWO)
    options = {"axis": axis, "new": new, "flat": flat, "swap": swap}
    if means:
        graph = build(lambda a, b: mixed(a, b, Mean(a), Mean(b), **options), **inputs)
    else:
        graph = build(lambda a, b, u, v: mixed(a, b, u, v, **options), **inputs, **LOGITS)
    assert len(check_pass(softmax_of_two_to_sigmoid, graph).steps) == 1
    kinds = [node.op.kind for node in graph.topological()]
    assert kinds == ["Sum", "GlobalAvgPool" if means else "Sum", "Sigmoid", "Mul", "Sum"] or not means


def test_means_of_other_values_are_subtracted():
    graph = build(lambda a, b, c: mixed(a, b, Mean(b), Mean(c)), **TWO, c=(None, 4, None, None))
    assert len(check_pass(softmax_of_two_to_sigmoid, graph).steps) == 1
    assert [node.op.kind for node in graph.topological()].count("GlobalAvgPool") == 2


def test_means_that_are_read_elsewhere_stay():
    def function(a, b):
        mean = Mean(a)
        return {"y": mixed(a, b, mean, Mean(b)), "z": relu(mean)}

    graph = build(function, **TWO)
    check_pass(softmax_of_two_to_sigmoid, graph)
    assert [node.op.kind for node in graph.topological()].count("Softmax") == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: Add(Times(a, Mean(a)), Times(b, Mean(b))),
        lambda a, b: mixed(a, b, Mean(a), Mean(b), along=1),
        lambda a, b: Sum((1, -1))(*mixed(a, b, Mean(a), Mean(b)).operands),
    ],
    ids=["no softmax", "another axis than the softmax", "a difference"],
)
def test_other_gates_are_no_match(function):
    assert not check_pass(softmax_of_two_to_sigmoid, build(function, **TWO)).steps


def three(a, b):
    weights = Softmax(2)(Stack(2, new=False)(Mean(a), Mean(b), Mean(a)))
    return Add(Times(a, Take(2, 0, keep=True)(weights)), Times(b, Take(2, 1, keep=True)(weights)))


def same_share_twice(a, b):
    weights = Softmax(2)(Stack(2, new=False)(Mean(a), Mean(b)))
    return Add(Times(a, Take(2, 0, keep=True)(weights)), Times(b, Take(2, 0, keep=True)(weights)))


def softmaxes_apart(a, b):
    first, second = (Softmax(2)(Stack(2, new=False)(Mean(a), Mean(b))) for _ in range(2))
    return Add(Times(a, Take(2, 0, keep=True)(first)), Times(b, Take(2, 1, keep=True)(second)))


def other_shape(a, b):
    weights = Softmax(1)(Stack(1, new=True)(*(Reshape((0, 2, 2, 1))(Mean(part)) for part in (a, b))))
    first, second = (Reshape((0, 4, 1, 1))(Take(1, index, keep=False)(weights)) for index in (0, 1))
    return Add(Times(a, first), Times(b, second))


@pytest.mark.parametrize("function", [three, same_share_twice, softmaxes_apart], ids=lambda f: f.__name__)
def test_what_is_no_softmax_of_two_is_no_match(function):
    assert not check_pass(softmax_of_two_to_sigmoid, build(function, **TWO)).steps


def test_logits_in_another_shape_have_the_same_numbers():
    assert len(check_pass(softmax_of_two_to_sigmoid, build(other_shape, **TWO)).steps) == 1


def test_a_share_that_is_read_elsewhere_keeps_the_softmax():
    def function(a, b):
        weights = Softmax(2)(Stack(2, new=False)(Mean(a), Mean(b)))
        first, second = (Take(2, index, keep=True)(weights) for index in (0, 1))
        return {"y": Add(Times(a, first), Times(b, second)), "z": relu(first)}

    log = check_pass(softmax_of_two_to_sigmoid, build(function, **TWO))
    assert not log.steps
    assert log.declined[0].reason == "'take1' is read more than once"


def test_each_rewrite_is_checked_by_itself():
    graph = build(lambda a, b: mixed(a, b, Mean(a), Mean(b)), **TWO)
    log = Rewriter(graph, [softmax_of_two_to_sigmoid], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert len(log.steps) == 1
    assert np.isfinite(log.steps[0].saved)
