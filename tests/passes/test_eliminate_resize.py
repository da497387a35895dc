import pytest

from repcompiler.ops import Relu, Resize
from repcompiler.passes.eliminate_resize import eliminate_resize
from repcompiler.testing import build, check_pass

COORDINATES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize(("shape", "size"), [((None, 4, 5, 7), {"sizes": (5, 7)}), ((None, 4, None, None), {"scales": (1.0,)})])
def test_a_resize_to_the_same_size_goes(mode, coordinates, shape, size):
    graph = build(lambda x: Relu()(Resize(mode, coordinates, "round_prefer_floor", **size)(x)), x=shape)
    check_pass(eliminate_resize, graph)
    assert [node.op.kind for node in graph.nodes] == ["Relu"]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((None, 4, 5, 7), {"sizes": (7, 5)}),
        ((None, 4, None, 7), {"sizes": (5, 7)}),
        ((None, 4, 5, 7), {"scales": (1.1,)}),
        ((None, 4, None, None), {"scales": (1.0, 2.0)}),
    ],
)
def test_another_size_stays(shape, size):
    graph = build(lambda x: Relu()(Resize("linear", "half_pixel", "floor", **size)(x)), x=shape)
    log = check_pass(eliminate_resize, graph)
    assert log.declined[0].reason == "it is not known to keep the size of the image"
