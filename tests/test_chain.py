"""A chain: linear operations one behind the other, of which nobody else reads what is between."""

from dataclasses import replace

import numpy as np
import pytest

from repcompiler.chain import chain
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import Sum
from repcompiler.passes import PASSES
from repcompiler.region import Scope
from repcompiler.rewriter import Rewriter, ViewRule
from repcompiler.testing import assert_equivalent, build, random_batch_norm, random_conv, relu

rng = np.random.default_rng(0)
VIEWS = {op: rule.view for rule in PASSES if isinstance(rule, ViewRule) for op in rule.shows}


def names(graph, of):
    found = chain(next(node for node in graph.nodes if node.output.name == of), Scope(graph, VIEWS))
    return [node.output.name for node in found]


conv1, conv3 = random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 3, padding=1)
norm = random_batch_norm(rng, 4)


@pytest.mark.parametrize("of", ["conv1", "batchnorm1", "sum1", "conv4"])
def test_chain_is_the_same_from_each_of_its_steps_and_a_join_is_one(of):
    def block(x):
        inner = norm(conv1(relu(x)))
        return relu(conv1(Sum((1, 1))(conv3(inner), conv1(inner))))

    graph = build(block, x=(1, 4, None, None))
    assert names(graph, of) == ["conv1", "batchnorm1", "sum1", "conv4"]


def test_chain_ends_where_a_value_is_read_from_elsewhere_or_handed_out():
    def block(x):
        first = conv3(x)
        second = conv1(first)
        third = conv1(norm(second))
        return {"y": conv3(third), "first": first, "third": third, "z": relu(norm(second))}

    graph = build(block, x=(1, 4, None, None))
    assert names(graph, "first") == ["first"]
    assert names(graph, "third") == ["batchnorm1", "third"]
    assert names(graph, "y") == ["y"]


def test_join_of_which_a_part_is_read_elsewhere_ends_a_chain():
    def block(x):
        inner = conv1(x)
        return Sum((1, 1))(conv3(inner), conv1(inner)), inner

    def network(x):
        joined, inner = block(x)
        return {"y": conv1(joined), "z": relu(inner)}

    graph = build(network, x=(1, 4, None, None))
    assert names(graph, "y") == ["sum1", "y"]
    assert names(graph, "conv1") == ["conv1"]


def test_results_of_a_chain_of_joins_agree():
    def block(x):
        for _ in range(3):
            x = Sum((1, -1))(replace(conv1, bias=np.zeros(4))(x), norm(x))
        return x

    graph, before = build(block, x=(1, 4, None, None)), build(block, x=(1, 4, None, None))
    Rewriter(graph, PASSES, OBJECTIVES["macs"]).run()
    assert_equivalent(before, graph)
    assert [str(node.op) for node in graph.nodes] == ["Conv 4->4 1x1"]
