import pytest

from repcompiler.ops import Relu, Resize
from repcompiler.passes import PASSES
from repcompiler.passes.move_pointwise_behind_resize import move_pointwise_behind_resize
from repcompiler.testing import build, check_pass, random_conv

IMAGE = (None, 8, None, None)
HALF = Resize("linear", "half_pixel", "floor", scales=(0.5, 0.5))


@pytest.mark.parametrize("objective", ["plain", "latency", "macs"])
def test_pointwise_conv_goes_behind_a_resize_that_shrinks(rng, objective):
    last = random_conv(rng, 8, 8, 3, padding=1)
    graph = build(lambda x: last(Relu()(HALF(random_conv(rng, 8, 8, 1)(x)))), x=IMAGE)
    check_pass(move_pointwise_behind_resize, graph, objective)
    assert [node.op.kind for node in graph.topological()] == ["Resize", "Conv", "Relu", "Conv"]


def test_it_stays_before_a_resize_that_may_leave_no_pixel_to_it(rng):
    log = check_pass(move_pointwise_behind_resize, build(lambda x: HALF(random_conv(rng, 8, 8, 1)(x)), x=IMAGE))
    assert log.declined[0].reason == "it would be an error on images of which a crop, a stride or a resize leaves no pixel"
    known = build(lambda x: HALF(random_conv(rng, 8, 8, 1)(x)), x=(None, 8, 2, 3))
    assert check_pass(move_pointwise_behind_resize, known).steps


@pytest.mark.parametrize(
    "arguments", [{"kernel_size": 3}, {"kernel_size": 1, "padding": 1}, {"kernel_size": 1, "stride": 2}], ids=str
)
def test_conv_that_sees_other_pixels_is_refused(rng, arguments):
    log = check_pass(move_pointwise_behind_resize, build(lambda x: HALF(random_conv(rng, 8, 4, **arguments)(x)), x=IMAGE))
    assert log.declined[0].reason == "it does more than mix the channels of one pixel"


def test_conv_that_is_read_by_others_too_stays(rng):
    def fan_out(x):
        mixed = random_conv(rng, 8, 4, 1)(x)
        return {"y": HALF(mixed), "m": mixed}

    log = check_pass(move_pointwise_behind_resize, build(fan_out, x=IMAGE))
    assert log.declined[0].reason == "'m' is an output of the graph"


@pytest.mark.parametrize(("factor", "order"), [(0.5, ["Resize", "Conv"]), (2.0, ["Conv", "Resize"])])
@pytest.mark.parametrize("conv_first", [True, False])
def test_both_directions_together_come_to_rest_where_the_image_is_smaller(rng, factor, order, conv_first):
    resize, conv = Resize("nearest", "asymmetric", "floor", scales=(factor, factor)), random_conv(rng, 8, 8, 1)
    last = random_conv(rng, 8, 8, 3, padding=1)
    graph = build(lambda x: last(Relu()(resize(conv(x)) if conv_first else conv(resize(x)))), x=IMAGE)
    check_pass(PASSES, graph, "latency")
    assert [node.op.kind for node in graph.topological()] == [*order, "Relu", "Conv"]
