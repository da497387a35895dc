from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.cost import OBJECTIVES
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Clip,
    Concat,
    Identity,
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
from repcompiler.passes import PASSES
from repcompiler.passes.fold_batch_norm_through import fold_batch_norm_through
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.scaling import absorb, as_scale
from repcompiler.testing import (
    build,
    check_pass,
    deviations,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
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
    [UPSAMPLE, TO_SIZE, Subsample((2, 3)), AVERAGE, Pad(((-1, 0), (0, -1))), Identity()],
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


def test_each_part_of_a_concatenation_takes_its_slice(rng):
    a, b, norm = random_conv(rng, 4, 3, 3, padding=1), random_conv_transpose(rng, 5, 2, 1), random_batch_norm(rng, 6)
    inner = random_batch_norm(rng, 1)
    graph = build(lambda x, z, u: norm(Concat()(a(x), b(z), inner(u))), x=(1, 4, 7, 9), z=(1, 5, 7, 9), u=(1, 1, 7, 9))
    check_pass(fold_batch_norm_through, graph)
    assert [node.op.kind for node in graph.topological()] == ["Conv", "ConvTranspose", "Scale", "Concat"]


def test_a_part_that_takes_no_scale_in_is_refused(rng):
    a, norm = random_conv(rng, 4, 4, 1), random_batch_norm(rng, 8)
    log = check_pass(fold_batch_norm_through, build(lambda x, z: norm(Concat()(a(x), z)), x=IMAGE, z=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == "'z' is read more than once, or made by what takes no scale in"


def test_choice_of_channels_scales_those_that_are_chosen(rng):
    graph = build(lambda x: random_batch_norm(rng, 3)(Select((2, 0, 5))(random_conv(rng, 4, 6, 3)(x))), x=IMAGE)
    assert len(check_pass(fold_batch_norm_through, graph).steps) == 1


def test_channel_that_is_chosen_twice_is_refused(rng):
    graph = build(lambda x: random_batch_norm(rng, 3)(Select((2, 0, 2))(random_conv(rng, 4, 6, 3)(x))), x=IMAGE)
    log = check_pass(fold_batch_norm_through, graph)
    assert log.declined[0].reason == "a channel is chosen twice, and each is scaled by itself"


def test_patches_as_tokens_take_the_scale_of_the_last_axis_into_the_convolution(rng):
    patches = random_conv(rng, 3, 6, 4, stride=4)

    def embed(x):
        return random_scale(rng, 6, axis=2)(Transpose((0, 2, 1))(Reshape((0, 6, -1))(patches(x))))

    graph = build(embed, x=(1, 3, 16, 12))
    assert len(check_pass(fold_batch_norm_through, graph).steps) == 1


@pytest.mark.parametrize(("shape", "axis"), [((0, 12, 6), 1), ((0, 8, 3, 3), 1), ((0, 72), 1)])
def test_reshape_that_splits_the_scaled_axis_is_refused(rng, shape, axis):
    scale = random_scale(rng, shape[axis], axis=axis)
    graph = build(lambda x: scale(Reshape(shape)(random_conv(rng, 3, 6, 4, stride=4)(x))), x=(1, 3, 16, 12))
    log = check_pass(fold_batch_norm_through, graph)
    assert log.declined[0].reason == "the reshape splits the scaled axis"


@pytest.mark.parametrize("axis", [1, 2])
def test_axis_that_divides_the_channels_scales_them_in_turn_or_in_runs(rng, axis):
    scale, grid = random_scale(rng, (2, 3)[axis - 1], axis), Reshape((0, 2, 3, 12))
    graph = build(lambda x: scale(grid(random_conv(rng, 3, 6, 4, stride=4)(x))), x=(None, 3, 16, 12))
    assert len(check_pass(fold_batch_norm_through, graph).steps) == 1


def test_image_made_of_a_vector_takes_the_scale_of_its_channels_into_the_linear(rng):
    graph = build(lambda z: random_batch_norm(rng, 3)(Reshape((-1, 3, 4, 5))(random_linear(rng, 7, 60)(z))), z=(None, 7))
    assert len(check_pass(fold_batch_norm_through, graph).steps) == 1
    assert [node.op.kind for node in graph.topological()] == ["Linear", "Reshape"]


def test_reshape_of_unknown_extents_is_refused(rng):
    graph = build(lambda x: random_scale(rng, 6)(Reshape((0, 6, -1))(random_conv(rng, 3, 6, 1)(x))), x=(None, 3, None, None))
    log = check_pass(fold_batch_norm_through, graph)
    assert log.declined[0].reason == "the reshape moves an axis whose extent is not known"


def test_linear_takes_the_scale_of_its_own_axis_alone(rng):
    linear = random_linear(rng, 5, 6)
    taken = build(lambda x: scale_up(rng, 6, axis=2)(Relu()(linear(x))), x=(None, 6, 5))
    assert len(check_pass(fold_batch_norm_through, taken).steps) == 1
    other = build(lambda x: scale_up(rng, 6)(Relu()(linear(x))), x=(None, 6, 5))
    log = check_pass(fold_batch_norm_through, other)
    assert log.declined[0].reason == "it scales another axis than the one the weight makes"


def test_scales_of_different_axes_do_not_meet(rng):
    graph = build(lambda x: scale_up(rng, 4)(Relu()(random_scale(rng, 4, axis=2)(x))), x=(1, 4, 4, 5))
    log = check_pass(fold_batch_norm_through, graph)
    assert log.declined[0].reason == "the two scale different axes"


@pytest.mark.parametrize("gate", [(1, 1, 5, 6), (1, 4, 1, 1)])
def test_term_that_is_broadcast_is_scaled_unless_along_the_scaled_axis(rng, gate):
    a, b = random_conv(rng, 4, 4, 1), random_conv(rng, gate[1], gate[1], 1)
    graph = build(lambda x, z: random_batch_norm(rng, 4)(Sum((1, 1))(a(x), b(z))), x=(1, 4, 5, 6), z=gate)
    log = check_pass(fold_batch_norm_through, graph)
    assert [step.rule for step in log.steps] == (["fold_batch_norm_through"] if gate[1] == 4 else [])
    assert log.steps or log.declined[0].reason == "a term of the sum is broadcast along the scaled axis"


def test_uniform_scale_passes_a_term_that_is_broadcast_whatever_its_shape(rng):
    a, b = random_conv(rng, 4, 4, 1), random_linear(rng, 6, 6)
    graph = build(lambda x, z: random_scale(rng, 1)(Sum((1, 1))(a(x), b(z))), x=(1, 4, 5, 6), z=(6,))
    assert len(check_pass(fold_batch_norm_through, graph).steps) == 1


def test_term_of_fewer_axes_is_not_taken_for_channels_where_extents_agree(rng):
    a, b = random_conv(rng, 4, 4, 1), random_linear(rng, 4, 4)
    graph = build(lambda x, z: random_batch_norm(rng, 4)(Sum((1, 1))(a(x), b(z))), x=(1, 4, 4, 4), z=(4, 4, 4))
    assert not check_pass(fold_batch_norm_through, graph).steps


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
    right = Rewriter(two_convs_under_a_maximum(rng), [fold_batch_norm_through], OBJECTIVES["plain"], certified=True).run()
    assert len(right.steps) == 1
    unknown = Rewriter(two_convs_under_a_maximum(rng, 2), [fold_batch_norm_through], OBJECTIVES["plain"], certified=True).run()
    assert "its own check needs extents that are not known" in unknown.declined[0].reason
    wrong = replace(fold_batch_norm_through, result=lambda y, norm: absorb(y, replace(as_scale(norm), shift=1.001 * norm.beta)))
    caught = Rewriter(two_convs_under_a_maximum(rng), [wrong], OBJECTIVES["plain"], certified=True).run()
    assert "its own check failed: the results differ" in caught.declined[0].reason


def test_after_all_passes_a_deep_tree_has_no_batch_norm_left(rng):
    def tree(x, z):
        a = random_batch_norm(rng, 4)(random_conv(rng, 4, 4, 3, padding=1)(x))
        b = random_batch_norm(rng, 4)(random_conv(rng, 4, 4, 1)(z))
        return random_batch_norm(rng, 4)(UPSAMPLE(Sum((1, 1))(a, b)))

    graph = build(tree, x=IMAGE, z=IMAGE)
    check_pass(PASSES, graph)
    assert sorted(node.op.kind for node in graph.nodes) == ["Conv", "Conv", "Resize", "Sum"]
