from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Clip,
    Concat,
    GlobalAvgPool,
    Identity,
    MaxPool,
    Pad,
    PRelu,
    Relu,
    Resize,
    Scale,
    Subsample,
    Sum,
)
from repcompiler.passes import PASSES
from repcompiler.passes.fold_batch_norm_through import fold_batch_norm_through
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.scaling import as_scale
from repcompiler.scaling_absorb import absorb
from repcompiler.testing import (
    build,
    check_pass,
    deviations,
    random_batch_norm,
    random_conv,
    random_scale,
    relu,
)

IMAGE = (None, 4, None, None)
MAXIMUM = MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
AVERAGE = AvgPool((2, 3), (2, 1), ((0, 0), (0, 0)), 6)
PADDED_AVERAGE = AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9)
TO_SIZE = Resize("nearest", "asymmetric", "floor", sizes=(5, 7))
UPSAMPLE = Resize("linear", "half_pixel", "floor", scales=(2.0, 1.5))


def scale_up(rng, channels, axis=1):
    """A positive scale, no shift: what a rectifier lets through."""
    return Scale(rng.uniform(0.1, 3.0, size=channels), np.zeros(channels), axis)


def positive_batch_norm(rng, channels):
    norm = random_batch_norm(rng, channels)
    return BatchNorm(np.abs(norm.gamma), norm.beta, norm.mean, norm.var, norm.eps)


def test_batch_norm_after_a_sum_of_convs_goes_into_each(rng):
    a, b = random_conv(rng, 4, 8, 3, padding=1, stride=2), random_conv(rng, 6, 8, 1)
    graph = build(lambda x, z: random_batch_norm(rng, 8)(Sum((1, -1))(a(x), b(z))), x=(1, 4, 13, 18), z=(1, 6, 7, 9))
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, 13, 18], %z: [1, 6, 7, 9])
          %conv1 = Conv(%x) 4->8 3x3 stride=2 padding=1 bias : [1, 8, 7, 9]
          %conv2 = Conv(%z) 6->8 1x1 bias : [1, 8, 7, 9]
          %sum1 = Sub(%conv1, %conv2) : [1, 8, 7, 9]
          %y = BatchNorm(%sum1) : [1, 8, 7, 9]
          return %y
    """)
    check_pass(fold_batch_norm_through, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, 13, 18], %z: [1, 6, 7, 9])
          %y/1 = Conv(%x) 4->8 3x3 stride=2 padding=1 bias : [1, 8, 7, 9]
          %y/2 = Conv(%z) 6->8 1x1 bias : [1, 8, 7, 9]
          %y = Sub(%y/1, %y/2) : [1, 8, 7, 9]
          return %y
    """)


def test_layer_scale_after_a_rectified_conv_goes_into_it(rng):
    conv = random_conv(rng, 4, 8, 3)
    graph = build(lambda x: scale_up(rng, 8)(Relu()(conv(x))), x=IMAGE)
    check_pass(fold_batch_norm_through, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y/1 = Conv(%x) 4->8 3x3 bias : [?, 8, ?, ?]
          %y = Relu(%y/1) : [?, 8, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("f", [Relu(), PRelu(np.array([0.2])), PRelu(np.array([0.3, -2.0, 1.0, 0.0]))], ids=lambda op: op.kind)
def test_positive_scale_passes_a_rectifier_and_a_channel_scaled_to_zero_too(rng, f):
    conv = random_conv(rng, 4, 4, 3, padding=1)
    scales = scale_up(rng, 4), scale_up(rng, 1), Scale(np.array([0.0, 1.0, 2.0, 0.0]), np.zeros(1))
    for scale in scales:
        assert len(check_pass(fold_batch_norm_through, build(lambda x, scale=scale: scale(f(conv(x))), x=IMAGE)).steps) == 1


@pytest.mark.parametrize("f", [Relu(), PRelu(np.array([0.2])), MAXIMUM], ids=lambda op: op.kind)
def test_negative_scale_of_one_channel_is_refused(rng, f):
    scale = Scale(np.array([1.0, 2.0, -0.5, 1.0]), np.zeros(4))
    log = check_pass(fold_batch_norm_through, build(lambda x: scale(f(random_conv(rng, 4, 4, 1)(x))), x=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == f"a negative scale does not pass {f.kind}"


def test_negative_scale_would_be_wrong_behind_a_rectifier_and_a_maximum(rng):
    conv, scale = random_conv(rng, 4, 4, 1), Scale(-np.ones(4), np.zeros(4))
    for f in (Relu(), MAXIMUM):
        before = build(lambda x, f=f: scale(f(conv(x))), x=IMAGE)
        after = build(lambda x, f=f: f(scale(conv(x))), x=IMAGE)
        [deviation] = deviations(before, after)
        assert deviation.worst > 0.1


@pytest.mark.parametrize("f", [Relu(), PRelu(np.array([0.2])), PADDED_AVERAGE, Pad(((1, 0), (0, 0)))], ids=lambda op: op.kind)
def test_shift_is_refused_where_it_would_be_rectified_or_reach_padded_zeros(rng, f):
    norm = positive_batch_norm(rng, 4)
    log = check_pass(fold_batch_norm_through, build(lambda x: norm(f(random_conv(rng, 4, 4, 1)(x))), x=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == f"a shift does not pass {f.kind}"


@pytest.mark.parametrize("f", [PADDED_AVERAGE, Pad(((1, 0), (0, 2)))], ids=lambda op: op.kind)
def test_scale_without_shift_passes_padded_zeros(rng, f):
    scale = Scale(rng.normal(size=4), np.zeros(4))
    assert len(check_pass(fold_batch_norm_through, build(lambda x: scale(f(random_conv(rng, 4, 4, 1)(x))), x=IMAGE)).steps) == 1


def test_average_by_another_divisor_takes_no_shift_through(rng):
    f = AvgPool((2, 2), (1, 1), ((0, 0), (0, 0)), 3)
    log = check_pass(fold_batch_norm_through, build(lambda x: random_scale(rng, 4)(f(random_conv(rng, 4, 4, 1)(x))), x=IMAGE))
    assert log.declined[0].reason == "a shift does not pass AvgPool"


def test_batch_norm_with_positive_gamma_passes_a_maximum(rng):
    graph = build(lambda x: positive_batch_norm(rng, 4)(MAXIMUM(random_conv(rng, 4, 4, 3)(x))), x=IMAGE)
    assert len(check_pass(fold_batch_norm_through, graph).steps) == 1


@pytest.mark.parametrize(
    "f",
    [UPSAMPLE, TO_SIZE, Subsample((2, 3)), AVERAGE, GlobalAvgPool(), Pad(((-1, 0), (0, -1))), Identity()],
    ids=lambda op: op.kind,
)
def test_batch_norm_of_either_sign_passes_means_of_pixels(rng, f):
    graph = build(lambda x: random_batch_norm(rng, 4)(f(random_conv(rng, 4, 4, 3, padding=1)(x))), x=IMAGE)
    assert len(check_pass(fold_batch_norm_through, graph).steps) == 1


@pytest.mark.parametrize("f", [MAXIMUM, UPSAMPLE, AVERAGE, Pad(((-1, 0), (0, 0))), Subsample((2, 2))], ids=lambda op: op.kind)
def test_scale_of_a_spatial_axis_does_not_pass_what_mixes_or_moves_pixels(rng, f):
    sizes = f.infer_shape([(1, 4, 8, 6)])[2:]
    scale = scale_up(rng, sizes[1], axis=3)
    log = check_pass(fold_batch_norm_through, build(lambda x: scale(f(random_conv(rng, 4, 4, 1)(x))), x=(1, 4, 8, 6)))
    assert log.declined[0].reason == f"a scale of another axis than the channels does not pass {f.kind}"


def test_what_is_read_twice_or_handed_out_stays(rng):
    conv = random_conv(rng, 4, 4, 1)

    def handed_out(x):
        rectified = Relu()(conv(x))
        return {"y": scale_up(rng, 4)(rectified), "r": rectified}

    def squared(x):
        rectified = Relu()(conv(x))
        return scale_up(rng, 4)(Sum((1, 1))(rectified, rectified))

    log = check_pass(fold_batch_norm_through, build(handed_out, x=IMAGE))
    assert log.declined[0].reason == "'r' is an output of the graph"
    assert not check_pass(fold_batch_norm_through, build(squared, x=IMAGE)).steps


@pytest.mark.parametrize("fence", [relu, Clip(0.0, 6.0)], ids=["opaque", "ReLU6"])
def test_what_a_scale_does_not_pass_is_no_match(rng, fence):
    graph = build(lambda x: scale_up(rng, 4)(fence(random_conv(rng, 4, 4, 1)(x))), x=IMAGE)
    assert not check_pass(fold_batch_norm_through, graph).steps


def test_whole_tree_is_rewritten_at_once(rng):
    a, b, c = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 3, padding=1, groups=4)

    def tree(x, z, u):
        total = Sum((1, 1))(UPSAMPLE(a(x)), Sum((1, -1))(UPSAMPLE(b(z)), UPSAMPLE(Subsample((1, 1))(c(u)))))
        return positive_batch_norm(rng, 8)(MAXIMUM(Concat()(total, UPSAMPLE(random_conv(rng, 4, 4, 1)(x)))))

    graph = build(tree, x=IMAGE, z=IMAGE, u=IMAGE)
    assert len(check_pass(fold_batch_norm_through, graph).steps) == 1
    assert not any(isinstance(node.op, BatchNorm) for node in graph.nodes)


def two_convs_under_a_maximum(rng, stride=1):
    a, b = random_conv(rng, 4, 8, 3, padding=1, stride=stride), random_conv(rng, 6, 8, 1)
    norm = positive_batch_norm(rng, 8)
    return build(lambda x, z: norm(MAXIMUM(Sum((1, 1))(a(x), b(z)))), x=IMAGE, z=(None, 6, None, None))


def test_each_rewrite_is_checked_by_itself_where_the_extents_are_known_well_enough(rng):
    right = Rewriter(two_convs_under_a_maximum(rng), [fold_batch_norm_through], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert len(right.steps) == 1
    unknown = Rewriter(
        two_convs_under_a_maximum(rng, 2), [fold_batch_norm_through], OBJECTIVES["plain"], need=Certify.ALL
    ).run()
    assert "its own check needs extents that are not known" in unknown.declined[0].reason
    wrong = replace(fold_batch_norm_through, result=lambda y, norm: absorb(y, replace(as_scale(norm), shift=1.001 * norm.beta)))
    caught = Rewriter(two_convs_under_a_maximum(rng), [wrong], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert "its own check failed: the results differ" in caught.declined[0].reason


def test_after_all_passes_a_deep_tree_has_no_batch_norm_left(rng):
    def tree(x, z):
        a = random_batch_norm(rng, 4)(random_conv(rng, 4, 4, 3, padding=1)(x))
        b = random_batch_norm(rng, 4)(random_conv(rng, 4, 4, 1)(z))
        return random_batch_norm(rng, 4)(UPSAMPLE(Sum((1, 1))(a, b)))

    graph = build(tree, x=IMAGE, z=IMAGE)
    check_pass(PASSES, graph)
    assert sorted(node.op.kind for node in graph.nodes) == ["Conv", "Conv", "Resize", "Sum"]
