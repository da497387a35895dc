import pytest

from repcompiler.cost import OBJECTIVES
from repcompiler.ops import Reshape
from repcompiler.passes.eliminate_reshape import eliminate_reshape
from repcompiler.passes.merge_reshapes import merge_reshapes
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, relu


def merged(first, second, shape):
    graph = build(lambda x: relu(second(first(x))), x=shape)
    log = check_pass(merge_reshapes, graph)
    return [node.op for node in graph.nodes if isinstance(node.op, Reshape)], [declined.reason for declined in log.declined]


@pytest.mark.parametrize(
    ("shape", "first", "second", "result"),
    [
        (("n", 5, 6), Reshape((-1, 6)), Reshape((-1, 5, 6)), Reshape((-1, 5, 6))),
        (("n", 5, 6), Reshape((0, -1)), Reshape((0, 2, 15)), Reshape((0, 2, 15))),
        (("n", 5, 6), Reshape((0, 3, 10)), Reshape((0, 0, 2, -1)), Reshape((0, 3, 2, -1))),
        (("n", "m", 6), Reshape((0, 0, 2, 3)), Reshape((0, 0, -1)), Reshape((0, 0, -1))),
        ((2, 6), Reshape((0, 6, 1, 1)), Reshape((0, -1)), Reshape((0, -1))),
        ((2, 5, 6), Reshape((10, 6)), Reshape((0, 3, -1)), Reshape((10, 3, -1))),
        ((2, 6, None, None), Reshape((0, 2, 3), tail=2), Reshape((-1, 3), tail=2), Reshape((-1, 3), tail=2)),
        ((2, 6, 4, None), Reshape((0, 2, 3), tail=2), Reshape((0, 6, 4), tail=1), Reshape((0, 6, 4), tail=1)),
    ],
)
def test_two_reshapes_are_one(shape, first, second, result):
    assert merged(first, second, shape) == ([result], [])


@pytest.mark.parametrize(
    ("shape", "first", "second"),
    [
        (("n", 5, 6), Reshape((-1, 6)), Reshape((0, 2, 3))),
        (("n", "m", 6), Reshape((0, -1, 3)), Reshape((0, 0, 3, 1))),
    ],
)
def test_an_extent_that_only_the_first_makes_and_nobody_knows_is_kept_by_none(shape, first, second):
    ops, reasons = merged(first, second, shape)
    assert ops == [first, second]
    assert reasons == ["it keeps an extent that is not known"]


def test_axes_at_the_end_that_only_the_first_makes_are_kept_by_none():
    first, second = Reshape((0, 6, -1)), Reshape((0, 2, 3), tail=1)
    ops, reasons = merged(first, second, ("n", 6, None, None))
    assert ops == [first, second]
    assert reasons == ["it keeps extents that are not known"]


def test_tokens_flattened_and_back_are_what_they_were():
    graph = build(lambda x: relu(Reshape((-1, 5, 6))(Reshape((-1, 6))(x))), x=("n", 5, 6))
    Rewriter(graph, (merge_reshapes, eliminate_reshape), OBJECTIVES["latency"]).run()
    assert "Reshape" not in render(graph)
