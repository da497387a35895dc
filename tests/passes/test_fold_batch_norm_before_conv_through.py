from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.algebra import affine, constant_response, scale_inputs
from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import (
    AvgPool,
    Concat,
    GlobalAvgPool,
    MaxPool,
    Pad,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Scale,
    Select,
    Subsample,
    Sum,
    Transpose,
)
from repcompiler.passes.fold_batch_norm_before_conv_through import fold_batch_norm_before_conv_through
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import (
    build,
    check_pass,
    deviations,
    opaque,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
    random_scale,
    relu,
)

IMAGE = (None, 4, None, None)
MAXIMUM = MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
UPSAMPLE = Resize("nearest", "asymmetric", "floor", scales=(2.0, 2.0))


def positive(rng, channels, shift=False):
    return Scale(rng.uniform(0.1, 3.0, size=channels), rng.normal(size=channels) * shift)


def test_batch_norm_before_a_resize_goes_into_the_unpadded_conv_behind_it(rng):
    norm, conv = random_batch_norm(rng, 4), random_conv(rng, 4, 8, 1)
    graph = build(lambda x: conv(UPSAMPLE(norm(x))), x=(1, 4, 13, 18))
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, 13, 18])
          %batchnorm1 = BatchNorm(%x) : [1, 4, 13, 18]
          %resize1 = Resize(%batchnorm1) : [1, 4, 26, 36]
          %y = Conv(%resize1) 4->8 1x1 bias : [1, 8, 26, 36]
          return %y
    """)
    check_pass(fold_batch_norm_before_conv_through, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, 13, 18])
          %y/1 = Resize(%x) : [1, 4, 26, 36]
          %y = Conv(%y/1) 4->8 1x1 bias : [1, 8, 26, 36]
          return %y
    """)


@pytest.mark.parametrize(
    ("f", "shift"),
    [
        (Relu(), False),
        (PRelu(np.array([0.1, 2.0, -1.0, 0.5])), False),
        (MAXIMUM, True),
        (UPSAMPLE, True),
        (Subsample((2, 1)), True),
        (AvgPool((2, 2), (1, 1), ((0, 0), (0, 0)), 4), True),
        (AvgPool((2, 2), (1, 1), ((1, 0), (0, 0)), 4), False),
        (Pad(((0, -1), (-1, 0))), True),
        (Pad(((0, 2), (1, 0))), False),
        (Select((3, 0, 0, 1)), True),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_positive_scale_passes_forward(rng, f, shift):
    graph = build(lambda x: random_conv(rng, 4, 6, 2, groups=2)(f(positive(rng, 4, shift)(x))), x=IMAGE)
    assert len(check_pass(fold_batch_norm_before_conv_through, graph).steps) == 1


def test_the_channels_of_an_image_are_axis_1_whatever_its_rank(rng):
    unknown = opaque("custom", lambda x: x)
    graph = build(lambda x: random_conv(rng, 4, 6, 1)(Relu()(positive(rng, 4)(unknown(x)))), x=IMAGE)
    assert next(iter(graph.topological())).output.rank is None
    assert len(check_pass(fold_batch_norm_before_conv_through, graph).steps) == 1


@pytest.mark.parametrize(
    ("f", "reason"),
    [
        (Relu(), "a negative scale does not pass Relu"),
        (MAXIMUM, "a negative scale does not pass MaxPool"),
        (Pad(((0, 2), (1, 0))), "a shift does not pass Pad"),
        (AvgPool((2, 2), (1, 1), ((1, 0), (0, 0)), 4), "a shift does not pass AvgPool"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_batch_norm_of_either_sign_is_refused_where_it_does_not_pass(rng, f, reason):
    graph = build(lambda x: random_conv(rng, 4, 6, 1)(f(random_batch_norm(rng, 4)(x))), x=IMAGE)
    log = check_pass(fold_batch_norm_before_conv_through, graph)
    assert not log.steps
    assert log.declined[0].reason == reason


def test_a_mean_of_all_pixels_lets_a_scale_of_channels_through_and_none_of_pixels(rng):
    """ConvMixer's last norm, before the pool and the classifier."""
    head = random_conv(rng, 4, 6, 1)
    graph = build(lambda x: head(GlobalAvgPool()(random_batch_norm(rng, 4)(x))), x=IMAGE)
    assert len(check_pass(fold_batch_norm_before_conv_through, graph).steps) == 1
    graph = build(lambda x: head(GlobalAvgPool()(random_scale(rng, 6, axis=3)(x))), x=(2, 4, 5, 6))
    log = check_pass(fold_batch_norm_before_conv_through, graph)
    assert not log.steps
    assert log.declined[0].reason == "a scale of another axis than the channels does not pass GlobalAvgPool"


def test_one_part_of_a_concatenation_goes_into_its_columns(rng):
    def dense_layer(x, z):
        return random_conv(rng, 7, 5, 3)(Concat()(MAXIMUM(positive(rng, 4, shift=True)(x)), z))

    graph = build(dense_layer, x=(1, 4, 13, 18), z=(1, 3, 7, 9))
    check_pass(fold_batch_norm_before_conv_through, graph)
    assert [node.op.kind for node in graph.topological()] == ["MaxPool", "Concat", "Conv"]


def test_parts_whose_channels_are_not_known_are_refused(rng):
    graph = build(lambda x, z: random_conv(rng, 7, 5, 1)(Concat()(positive(rng, 4)(x), z)), x=IMAGE, z=(None, None, None, None))
    graph.inputs[1].shape = (None, None, None, None)
    log = Rewriter(graph, [fold_batch_norm_before_conv_through], OBJECTIVES["plain"]).run()
    assert log.declined[0].reason == "the number of channels is not known"


def test_part_scaled_along_another_axis_is_refused(rng):
    graph = build(
        lambda x, z: random_conv(rng, 8, 5, 1)(Concat()(random_scale(rng, 6, axis=2)(x), z)), x=(1, 4, 6, 6), z=(1, 4, 6, 6)
    )
    log = check_pass(fold_batch_norm_before_conv_through, graph)
    assert log.declined[0].reason == "a scale of another axis than the channels is that of one part alone"


PADDED = {
    "on all sides": lambda rng: random_conv(rng, 4, 4, 3, padding=1),
    "on one side of one axis": lambda rng: random_conv(rng, 4, 4, 3, padding=((0, 0), (0, 1))),
    "before one axis": lambda rng: random_conv(rng, 4, 4, 3, padding=((1, 0), (0, 0))),
    "transposed": lambda rng: random_conv_transpose(rng, 4, 4, 3),
}


@pytest.mark.parametrize("side", PADDED)
def test_shift_that_would_reach_a_padded_border_is_refused(rng, side):
    conv = PADDED[side](rng)
    shifted = build(lambda x: conv(UPSAMPLE(random_batch_norm(rng, 4)(x))), x=IMAGE)
    log = check_pass(fold_batch_norm_before_conv_through, shifted)
    assert not log.steps
    assert "the padded border" in log.declined[0].reason
    scaled = build(lambda x: conv(UPSAMPLE(Scale(rng.normal(size=4), np.zeros(4))(x))), x=IMAGE)
    assert len(check_pass(fold_batch_norm_before_conv_through, scaled).steps) == 1


def test_folding_the_shift_all_the_same_would_be_wrong_at_the_border_alone(rng):
    norm, conv = random_batch_norm(rng, 4), random_conv(rng, 4, 4, 3, padding=1)
    t, s = affine(norm, 4)
    naive = replace(scale_inputs(conv, t), bias=conv.bias + constant_response(conv, s))
    before = build(lambda x: conv(UPSAMPLE(norm(x))), x=IMAGE)
    [deviation] = deviations(before, build(lambda x: naive(UPSAMPLE(x)), x=IMAGE))
    assert deviation.border > 0.1
    assert max(deviation.by_depth[1:]) < 1e-12


def test_tokens_of_a_scaled_map_take_its_channels_to_the_last_axis(rng):
    norm, linear = random_batch_norm(rng, 6), random_linear(rng, 6, 3)
    graph = build(lambda x: linear(Transpose((0, 2, 1))(Reshape((0, 6, -1))(norm(x)))), x=(1, 6, 3, 4))
    assert len(check_pass(fold_batch_norm_before_conv_through, graph).steps) == 1


@pytest.mark.parametrize("shape", [(None, 3, 4, 5), (1, 3, 1, 1), (2, 3, 20)])
@pytest.mark.parametrize("target", [(0, -1), (-1, 60), (0, 60)])
def test_batch_norm_before_a_flattened_image_goes_into_the_columns_of_the_linear(rng, shape, target):
    size = int(np.prod(shape[1:]))
    flatten = Reshape(tuple(size if extent == 60 else extent for extent in target))
    graph = build(lambda x: random_linear(rng, size, 7)(flatten(random_batch_norm(rng, 3)(x))), x=shape)
    check_pass(fold_batch_norm_before_conv_through, graph)
    assert [node.op.kind for node in graph.topological()] == ["Reshape", "Linear"]


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_scale_of_any_axis_of_a_flattened_image_goes_into_the_columns_of_the_linear(rng, axis):
    scale = random_scale(rng, (3, 4, 5)[axis - 1], axis)
    graph = build(lambda x: random_linear(rng, 60, 7)(Reshape((0, -1))(scale(x))), x=(None, 3, 4, 5))
    assert len(check_pass(fold_batch_norm_before_conv_through, graph).steps) == 1


def test_flattened_image_of_unknown_extents_is_refused(rng):
    graph = build(lambda x: random_linear(rng, 72, 7)(Reshape((0, -1))(random_batch_norm(rng, 6)(x))), x=(1, 6, 3, 4))
    graph.inputs[0].shape = (1, 6, None, None)
    log = Rewriter(graph, [fold_batch_norm_before_conv_through], OBJECTIVES["plain"]).run()
    assert log.declined[0].reason == "the reshape moves an axis whose extent is not known"


def test_scaled_axis_that_is_split_is_refused(rng):
    graph = build(lambda x: random_linear(rng, 9, 4)(Reshape((0, 4, -1))(random_batch_norm(rng, 6)(x))), x=(1, 6, 2, 3))
    log = check_pass(fold_batch_norm_before_conv_through, graph)
    assert log.declined[0].reason == "the reshape splits the scaled axis"


def test_scale_of_an_axis_that_the_weight_does_not_read_is_refused(rng):
    graph = build(lambda x: random_linear(rng, 6, 6)(Relu()(positive(rng, 6)(x))), x=(1, 6, 6))
    log = check_pass(fold_batch_norm_before_conv_through, graph)
    assert log.declined[0].reason == "it scales another axis than the one the weight reads"


def test_sum_is_no_match_as_its_terms_are_scaled_each_by_itself(rng):
    graph = build(lambda x, z: random_conv(rng, 4, 4, 1)(Sum((1, 1))(positive(rng, 4)(x), z)), x=IMAGE, z=IMAGE)
    assert not check_pass(fold_batch_norm_before_conv_through, graph).steps


def test_scaled_map_that_is_read_twice_stays(rng):
    def fan_out(x):
        scaled = UPSAMPLE(positive(rng, 4)(x))
        return {"y": random_conv(rng, 4, 4, 1)(scaled), "z": relu(scaled)}

    log = check_pass(fold_batch_norm_before_conv_through, build(fan_out, x=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == "'resize1' is read more than once"


def test_each_rewrite_is_checked_by_itself(rng):
    graph = build(lambda x: random_conv(rng, 4, 4, 3)(MAXIMUM(positive(rng, 4, shift=True)(x))), x=IMAGE)
    log = Rewriter(graph, [fold_batch_norm_before_conv_through], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert len(log.steps) == 1
