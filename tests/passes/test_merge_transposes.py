from itertools import permutations

import pytest

from repcompiler.ops import Transpose
from repcompiler.passes import PASSES
from repcompiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from repcompiler.passes.eliminate_transpose import eliminate_transpose
from repcompiler.passes.merge_transposes import merge_transposes
from repcompiler.testing import build, check_pass, random_conv, relu

RULES = [eliminate_dead_nodes, eliminate_transpose, merge_transposes]
LAST, FIRST = Transpose((0, 2, 3, 1)), Transpose((0, 3, 1, 2))


def kinds(graph):
    return [node.op.kind for node in graph.topological()]


@pytest.mark.parametrize("first", [*permutations(range(3))])
@pytest.mark.parametrize("second", [*permutations(range(3))])
def test_two_transpositions_are_at_most_one(first, second):
    graph = build(lambda x: relu(Transpose(second)(Transpose(first)(x))), x=(None, 4, None))
    check_pass(RULES, graph)
    undone = [first[axis] for axis in second] == [0, 1, 2]
    assert kinds(graph) == ([] if undone else ["Transpose"]) + ["Relu"]


def test_a_transposition_that_moves_nothing_goes():
    graph = build(lambda x: relu(Transpose((0, 1, 2))(x)), x=(None, 4, None))
    check_pass(eliminate_transpose, graph)
    assert kinds(graph) == ["Relu"]


def test_layers_of_two_layouts_meet(rng):
    conv, pointwise = random_conv(rng, 4, 6, 3), random_conv(rng, 6, 4, 1)
    graph = build(lambda x: relu(pointwise(FIRST(LAST(conv(x))))), x=(None, 4, None, None))
    check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv", "Relu"]


def test_one_that_something_else_reads_stays_and_is_gone_past():
    graph = build(lambda x: {"y": relu(FIRST(last := LAST(x))), "z": relu(last)}, x=(None, 4, None, None))
    check_pass(RULES, graph)
    assert sorted(kinds(graph)) == ["Relu", "Relu", "Transpose"]


def test_a_result_of_the_graph_keeps_its_name():
    graph = build(lambda x: FIRST(LAST(x)), x=(None, 4, None, None))
    check_pass(RULES, graph)
    assert kinds(graph) == ["Identity"]
