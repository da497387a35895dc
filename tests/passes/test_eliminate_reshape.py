from inspect import cleandoc

import pytest

from repcompiler.ops import Relu, Reshape, Transpose
from repcompiler.passes.eliminate_reshape import eliminate_reshape
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv, relu


def test_transposition_and_reshape_that_move_nothing_go(rng):
    conv = random_conv(rng, 4, 8, 3, padding=1)
    graph = build(lambda x: relu(Reshape((1, 8, 9, 7))(Transpose((1, 0, 2, 3))(conv(x)))), x=(1, 4, 9, 7))
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, 9, 7])
          %conv1 = Conv(%x) 4->8 3x3 padding=1 bias : [1, 8, 9, 7]
          %transpose1 = Transpose(%conv1) : [8, 1, 9, 7]
          %reshape1 = Reshape(%transpose1) : [1, 8, 9, 7]
          %y = Relu(%reshape1) : [...]
          return %y
    """)
    check_pass(eliminate_reshape, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, 9, 7])
          %conv1 = Conv(%x) 4->8 3x3 padding=1 bias : [1, 8, 9, 7]
          %y = Relu(%conv1) : [...]
          return %y
    """)


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((2, 4, 5), (2, 4, 5)),
        ((None, 4, 5), (0, -1, 5)),
        (("n", 20), (-1, 20)),
        ((2, 20), (0, -1)),
        ((None, None, 5), (0, -1, 5)),
    ],
)
def test_reshape_to_the_shape_there_is_goes(shape, target):
    graph = build(lambda x: relu(Reshape(target)(x)), x=shape)
    assert len(check_pass(eliminate_reshape, graph).steps) == 1


@pytest.mark.parametrize(("target", "goes"), [((0, 4), True), ((0, 2, 2), False)])
def test_reshape_that_keeps_its_last_axes_goes_where_the_first_are_as_they_were(target, goes):
    graph = build(lambda x: relu(Reshape(target, tail=2)(x)), x=(2, 4, 5, 7))
    assert len(check_pass(eliminate_reshape, graph).steps) == goes


@pytest.mark.parametrize(
    ("shape", "perm", "target"),
    [
        ((2, 4, 3, 3), (1, 0, 2, 3), (2, 4, 3, 3)),
        ((1, 4, 3, 5), (0, 1, 3, 2), (1, 4, 3, 5)),
        ((1, 4, 3, 5), (1, 0, 2, 3), (4, 1, 5, 3)),
        ((None, 4, 3, 3), (1, 0, 2, 3), (2, 4, 3, 3)),
        ((2, 4, 3, 1), (0, 3, 1, 2), (2, 4, 1, 3)),
    ],
)
def test_numbers_that_move_or_take_another_shape_stay(shape, perm, target):
    graph = build(lambda x: relu(Reshape(target)(Transpose(perm)(x))), x=shape)
    log = check_pass(eliminate_reshape, graph)
    assert not log.steps
    assert not log.declined


@pytest.mark.parametrize(("shape", "target"), [((2, 4, 5), (2, 5, 4)), ((2, 4, 5), (0, -1)), ((None, None, 6), (0, 3, -1))])
def test_reshape_to_another_or_an_unknown_shape_stays(shape, target):
    log = check_pass(eliminate_reshape, build(lambda x: relu(Reshape(target)(x)), x=shape))
    assert not log.steps
    assert not log.declined


def test_reshape_whose_result_is_an_output_stays():
    log = check_pass(eliminate_reshape, build(lambda x: Reshape((2, 4))(Relu()(x)), x=(2, 4)))
    assert not log.steps
    assert log.declined[0].reason == "'y' is an output of the graph and keeps its name"
