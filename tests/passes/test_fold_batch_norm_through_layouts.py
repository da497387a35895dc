"""Scales that go back through what moves, joins or chooses channels and axes."""

import numpy as np
import pytest

from repcompiler.ops import (
    Concat,
    Relu,
    Reshape,
    Scale,
    Select,
    Sum,
    Transpose,
)
from repcompiler.passes.fold_batch_norm_through import fold_batch_norm_through
from repcompiler.testing import (
    build,
    check_pass,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
    random_scale,
)

IMAGE = (None, 4, None, None)


def scale_up(rng, channels, axis=1):
    """A positive scale, no shift: what a rectifier lets through."""
    return Scale(rng.uniform(0.1, 3.0, size=channels), np.zeros(channels), axis)


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
    graph = build(lambda x: random_scale(rng, 6, 2)(Reshape((0, -1, 6))(random_conv(rng, 3, 6, 1)(x))), x=(None, 3, None, None))
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


@pytest.mark.parametrize(
    ("image", "squeeze"),
    [((None, 4, 1, None), (0, 4, -1)), ((None, 4, None, 1), (0, 0, 0)), ((None, 4, None, None), (0, 4, -1, 1))],
    ids=str,
)
def test_a_reshape_of_what_lies_behind_the_channels_lets_their_scale_through(rng, image, squeeze):
    conv, norm = random_conv(rng, 4, 4, 1), random_batch_norm(rng, 4)
    graph = build(lambda x: norm(Reshape(squeeze)(conv(x))), x=image)
    check_pass(fold_batch_norm_through, graph)
    assert [node.op.kind for node in graph.topological()] == ["Conv", "Reshape"]
