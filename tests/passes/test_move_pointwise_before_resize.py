from inspect import cleandoc

import pytest

from repcompiler.ops import Resize
from repcompiler.passes import PASSES
from repcompiler.passes.move_pointwise_before_resize import move_pointwise_before_resize
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv

IMAGE = (None, 8, None, None)
DOUBLE = Resize("nearest", "asymmetric", "floor", scales=(2.0, 2.0))
COORDINATES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


@pytest.mark.parametrize("objective", ["plain", "latency", "macs"])
def test_pointwise_conv_goes_before_a_resize_that_enlarges(rng, objective):
    conv = random_conv(rng, 8, 4, 1)
    graph = build(lambda x: conv(DOUBLE(x)), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %resize1 = Resize(%x) : [?, 8, ?, ?]
          %y = Conv(%resize1) 8->4 1x1 bias : [?, 4, ?, ?]
          return %y
    """)
    check_pass(move_pointwise_before_resize, graph, objective)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %y/1 = Conv(%x) 8->4 1x1 bias : [?, 4, ?, ?]
          %y = Resize(%y/1) : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_every_kind_of_nearest_is_a_choice_of_pixels(rng, coordinates, rounding):
    resize = Resize("nearest", coordinates, rounding, scales=(1.5, 2.25))
    graph = build(lambda x: random_conv(rng, 8, 6, 1, groups=2)(resize(x)), x=IMAGE)
    assert len(check_pass(move_pointwise_before_resize, graph).steps) == 1


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("size", [{"scales": (2.0, 3.0)}, {"sizes": (31, 37)}, {"sizes": (41,)}], ids=str)
def test_every_kind_of_linear_interpolation_is_a_mean(rng, coordinates, size):
    graph = build(lambda x: random_conv(rng, 8, 6, 1)(Resize("linear", coordinates, "floor", **size)(x)), x=(1, 8, 13, 18))
    assert len(check_pass(move_pointwise_before_resize, graph).steps) == 1


@pytest.mark.parametrize("axes", [1, 3])
def test_images_of_other_ranks(rng, axes):
    resize, conv = Resize("linear", "half_pixel", "floor", scales=(2.0,)), random_conv(rng, 8, 4, (1,) * axes)
    graph = build(lambda x: conv(resize(x)), x=(None, 8, *(None,) * axes))
    assert len(check_pass(move_pointwise_before_resize, graph).steps) == 1


@pytest.mark.parametrize(
    "arguments", [{"kernel_size": 3}, {"kernel_size": 1, "padding": 1}, {"kernel_size": 1, "stride": 2}], ids=str
)
def test_conv_that_sees_other_pixels_is_refused(rng, arguments):
    graph = build(lambda x: random_conv(rng, 8, 4, **arguments)(DOUBLE(x)), x=IMAGE)
    log = check_pass(move_pointwise_before_resize, graph)
    assert log.declined[0].reason == "it does more than mix the channels of one pixel"


def test_conv_behind_a_resize_that_shrinks_stays(rng):
    resize = Resize("linear", "half_pixel", "floor", scales=(0.5, 0.5))
    log = check_pass(move_pointwise_before_resize, build(lambda x: random_conv(rng, 8, 4, 1)(resize(x)), x=IMAGE))
    assert not log.steps
    assert "it would cost more" in log.declined[0].reason


def test_conv_that_widens_stays_where_more_channels_to_resize_would_be_slower(rng):
    graph = build(lambda x: random_conv(rng, 8, 256, 1)(DOUBLE(x)), x=(1, 8, 28, 28))
    log = check_pass(move_pointwise_before_resize, graph, "latency")
    assert not log.steps


def test_pointwise_conv_goes_on_into_the_conv_before_the_resize(rng):
    wide, narrow = random_conv(rng, 8, 8, 3, padding=1), random_conv(rng, 8, 4, 1)
    graph = build(lambda x: narrow(DOUBLE(wide(x))), x=IMAGE)
    check_pass(PASSES, graph)
    assert [node.op.kind for node in graph.topological()] == ["Conv", "Resize"]
