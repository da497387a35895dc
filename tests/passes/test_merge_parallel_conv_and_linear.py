from inspect import cleandoc

import pytest

from repcompiler.cost import OBJECTIVES
from repcompiler.ops import Reshape, Sum
from repcompiler.passes.merge_parallel_conv_and_linear import merge_parallel_conv_and_linear
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, random_conv, random_linear, relu

FLATTEN = Reshape((0, -1))
IMAGE = (None, 2, 4, 5)


def test_branches_become_one_linear(rng):
    conv, linear = random_conv(rng, 2, 3, 3, padding=1), random_linear(rng, 40, 60)
    graph = build(lambda x: Sum((1, 1))(FLATTEN(conv(x)), linear(FLATTEN(x))), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 2, 4, 5])
          %conv1 = Conv(%x) 2->3 3x3 padding=1 bias : [?, 3, 4, 5]
          %reshape1 = Reshape(%conv1) : [?, 60]
          %reshape2 = Reshape(%x) : [?, 40]
          %linear1 = Linear(%reshape2) 40->60 bias : [?, 60]
          %y = Add(%reshape1, %linear1) : [?, 60]
          return %y
    """)
    check_pass(merge_parallel_conv_and_linear, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 2, 4, 5])
          %y/1 = Reshape(%x) : [?, 40]
          %y = Linear(%y/1) 40->60 bias : [?, 60]
          return %y
    """)


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_signs_follow_the_branches_in_either_order(rng, signs, mirrored):
    conv, linear = random_conv(rng, 2, 4, (2, 3), stride=(2, 1), padding=((0, 1), 1), groups=2), random_linear(rng, 40, 40)

    def branches(x):
        terms = [FLATTEN(conv(x)), linear(Reshape((-1, 40))(x))]
        return Sum(signs)(*(terms[::-1] if mirrored else terms))

    assert len(check_pass(merge_parallel_conv_and_linear, build(branches, x=IMAGE)).steps) == 1


def test_unknown_extents_are_refused(rng):
    conv, linear = random_conv(rng, 2, 2, 3, padding=1), random_linear(rng, 40, 40)
    graph = build(lambda x: Sum((1, 1))(FLATTEN(conv(x)), linear(FLATTEN(x))), x=IMAGE)
    graph.inputs[0].shape = (None, 2, 4, None)
    log = Rewriter(graph, [merge_parallel_conv_and_linear], OBJECTIVES["plain"]).run()
    assert not log.steps
    assert log.declined[0].reason == "the image is not flattened as a whole, or its extents are not known"


def test_image_that_is_not_flattened_as_a_whole_is_refused(rng):
    conv, linear = random_conv(rng, 2, 2, 3, padding=1), random_linear(rng, 20, 40)
    graph = build(lambda x: Sum((1, 1))(FLATTEN(conv(x)), linear(Reshape((-1, 20))(x))), x=(1, 2, 4, 5))
    log = check_pass(merge_parallel_conv_and_linear, graph)
    assert not log.steps
    assert log.declined[0].reason == "the image is not flattened as a whole, or its extents are not known"


@pytest.mark.parametrize(("target", "rows"), [((0, 2, -1), 20), ((-1, 20), 20), ((0, -1), 1)])
def test_result_that_is_not_flattened_as_a_whole_or_is_broadcast_is_refused(rng, target, rows):
    conv, linear = random_conv(rng, 2, 2, 3, padding=1), random_linear(rng, 40, rows)
    graph = build(lambda x: Sum((1, 1))(Reshape(target)(conv(x)), linear(FLATTEN(x))), x=(1, 2, 4, 5))
    log = check_pass(merge_parallel_conv_and_linear, graph)
    assert not log.steps
    assert log.declined[0].reason == "the convolution's result is not flattened as a whole"


def test_branches_of_two_images_are_no_match(rng):
    conv, linear = random_conv(rng, 2, 2, 3, padding=1), random_linear(rng, 40, 40)
    graph = build(lambda x: Sum((1, 1))(FLATTEN(conv(x)), linear(FLATTEN(relu(x)))), x=IMAGE)
    assert not check_pass(merge_parallel_conv_and_linear, graph).steps
