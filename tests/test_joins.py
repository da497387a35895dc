"""Branches that are added up merge in pairs, or all at once where no pair pays."""

import numpy as np
import pytest

from repcompiler.cost import OBJECTIVES
from repcompiler.ops import Concat, Conv, Sum
from repcompiler.passes import PASSES
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, random_conv, random_linear, relu

rng = np.random.default_rng(0)
IMAGE = (1, 4, None, None)
row = random_conv(rng, 4, 4, (1, 3), padding=(0, 1))
column = random_conv(rng, 4, 4, (3, 1), padding=(1, 0))
corners = random_conv(rng, 4, 4, 2, padding=1, dilation=2)


def kinds(graph):
    return [str(node.op) for node in graph.topological()]


@pytest.mark.parametrize("objective", ["macs", "params"])
def test_branches_that_do_not_pay_in_pairs_merge_all_at_once(objective):
    """A row, a column and four corners: any two are a 3x3 of more taps than theirs, all three of fewer."""
    for first, second in ((row, column), (row, corners), (column, corners)):
        pair = build(lambda x, a=first, b=second: Sum((1, 1))(a(x), b(x)), x=IMAGE)
        assert not Rewriter(pair, PASSES, OBJECTIVES[objective]).run().steps
    graph = build(lambda x: Sum((1, -1, 1))(row(x), column(x), corners(x)), x=IMAGE)
    log = check_pass(PASSES, graph, objective)
    assert kinds(graph) == ["Conv 4->4 3x3"]
    assert [step.rule for step in log.steps] == ["merge_parallel_branches"]


@pytest.mark.parametrize("last", [1, -1])
def test_what_else_is_added_stays_beside_them(last):
    def network(x):
        inner = Sum((1, -1))(row(x), relu(x))
        return Sum((1, last, 1))(inner, corners(x), column(x))

    graph = build(network, x=IMAGE)
    check_pass(PASSES, graph, "macs")
    assert kinds(graph) == ["Relu", "Conv 4->4 3x3", "Sub"]


def test_branches_on_two_sources_merge_apart():
    def network(x, z):
        terms = [op(image) for image in (x, z) for op in (row, column, corners)]
        return Sum((1,) * 6)(*terms)

    graph = build(network, x=IMAGE, z=IMAGE)
    check_pass(PASSES, graph, "macs")
    assert sorted(kinds(graph)) == ["Add", "Conv 4->4 3x3", "Conv 4->4 3x3"]


def test_branches_that_are_cheaper_apart_stay_apart_however_many():
    wide = random_conv(rng, 4, 4, 7, padding=3, groups=4)
    graph = build(lambda x: Sum((1, 1, 1))(row(x), random_conv(rng, 4, 4, 1)(x), wide(x)), x=IMAGE)
    check_pass(PASSES, graph, "macs")
    assert sum(isinstance(node.op, Conv) for node in graph.nodes) == 2
    assert "Conv 4->4 7x7 g4" in kinds(graph)


def test_layers_of_tokens_that_are_concatenated_side_by_side_are_no_region():
    first, second, reader = random_linear(rng, 5, 5), random_linear(rng, 5, 5), random_linear(rng, 5, 4)
    graph = build(lambda x: reader(Concat()(first(x), second(x))), x=(None, 3, 5))
    log = check_pass(PASSES, graph)
    assert not log.steps
    assert "it concatenates along another axis than the last" in [declined.reason for declined in log.declined]
