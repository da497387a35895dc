from inspect import cleandoc

import pytest

from repcompiler.ops import Reshape
from repcompiler.passes.unflatten_pointwise_conv import unflatten_pointwise_conv
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv

IMAGE = (None, 6, 5, 7)
ROW = Reshape((0, 6, 35))


@pytest.mark.parametrize("target", [(0, 4, 5, 7), (0, -1, 5, 7), (-1, 4, 5, 7)], ids=str)
@pytest.mark.parametrize("row", [ROW, Reshape((0, 0, -1))], ids=str)
def test_a_conv_on_the_row_of_pixels_is_one_on_the_image(rng, row, target):
    graph = build(lambda x: Reshape(target)(random_conv(rng, 6, 4, (1,), groups=2)(row(x))), x=IMAGE)
    check_pass(unflatten_pointwise_conv, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 6, 5, 7])
          %y = Conv(%x) 6->4 1x1 groups=2 bias : [?, 4, 5, 7]
          return %y
    """)


def test_an_image_of_three_axes(rng):
    graph = build(
        lambda x: Reshape((0, 4, 2, 3, 5))(random_conv(rng, 6, 4, (1,))(Reshape((0, 6, 30))(x))), x=(None, 6, 2, 3, 5)
    )
    check_pass(unflatten_pointwise_conv, graph)
    assert [str(node.op) for node in graph.nodes] == ["Conv 6->4 1x1x1"]


@pytest.mark.parametrize(
    ("shape", "row", "arguments", "target", "reason"),
    [
        (IMAGE, ROW, {"kernel_size": (3,), "padding": 1}, (0, 4, 5, 7), "more than mix the channels"),
        (IMAGE, ROW, {"kernel_size": (1,), "stride": 7}, (0, 4, 5, 1), "more than mix the channels"),
        (IMAGE, ROW, {"kernel_size": (1,)}, (0, 4, 7, 5), "another image"),
        (IMAGE, ROW, {"kernel_size": (1,)}, (0, 2, 10, 7), "another image"),
        ((None, 3, 10, 7), ROW, {"kernel_size": (1,)}, (0, 4, 5, 7), "not all in one row"),
        ((None, 6, None, 7), Reshape((0, 6, -1)), {"kernel_size": (1,)}, (0, 4, -1, 7), "are not known"),
    ],
)
def test_all_else_is_refused(rng, shape, row, arguments, target, reason):
    conv = random_conv(rng, 6, 4, **arguments)
    log = check_pass(unflatten_pointwise_conv, build(lambda x: Reshape(target)(conv(row(x))), x=shape))
    assert not log.steps
    assert reason in log.declined[0].reason
