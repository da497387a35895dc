"""Expressions that share parts."""

from inspect import cleandoc

import numpy as np

from repcompiler.ops import Identity, Scale, Sum
from repcompiler.printer import render
from repcompiler.testing import build, relu


def shared(x):
    part = Identity()(Scale(np.full(1, 2.0), np.zeros(1))(x))
    return Sum((1, 1))(part, Identity()(part))


def test_part_that_occurs_twice_becomes_one_node_that_is_read_twice():
    graph = build(relu, x=(None, 4))
    [node] = graph.nodes
    term = shared(graph.inputs[0])
    gone, added = graph.replace(node, term)
    graph.check()
    assert gone == [node]
    assert [new.op.kind for new in added] == ["Scale", "Identity", "Identity", "Sum"]
    assert sum(added[1].output.uses.values()) == 2
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4])
          %y/1 = Scale(%x) : [?, 4]
          %y/2 = Identity(%y/1) : [?, 4]
          %y/3 = Identity(%y/2) : [?, 4]
          %y = Add(%y/2, %y/3) : [...]
          return %y
    """)


def test_parts_are_each_once_operands_first():
    [x] = build(relu, x=(None, 4)).inputs
    term = shared(x)
    part = term.operands[0]
    assert list(term.parts()) == [part.operands[0], part, term.operands[1], term]


def test_equal_expressions_are_not_shared():
    [x] = build(relu, x=(None, 4)).inputs
    assert len(Sum((1, 1))(Identity()(x), Identity()(x)).parts()) == 3
