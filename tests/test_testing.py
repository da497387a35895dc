"""The module that tests passes: what it must not miss, and what it says."""

from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.algebra import compose
from repcompiler.ops import BatchNorm, Conv, Pad, Scale, Sum
from repcompiler.printer import render
from repcompiler.rewriter import rewrite
from repcompiler.testing import (
    assert_equivalent,
    build,
    check_pass,
    deviations,
    opaque,
    random_batch_norm,
    random_conv,
    random_feeds,
    random_scale,
    relu,
)

IMAGE = (None, 4, None, None)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def naive_merge(rng):
    """(two convs in sequence, the second padding a bias; one conv that is right inside the image only)"""
    first, second = random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 3, padding=1)
    merged = replace(compose(first, replace(second, padding=((0, 0),) * 2)), padding=second.padding)
    return build(lambda x: second(first(x)), x=IMAGE), build(lambda x: merged(x), x=IMAGE)


def test_expression_object_that_occurs_twice_becomes_one_node():
    def network(image, mask):
        shared = relu(image)
        return {"sum": Sum((1, -1))(shared, Sum((1, 1))(mask, shared)), "shared": shared}

    assert render(build(network, image=IMAGE, mask=(None, 4, 1, 1))) == cleandoc("""
        graph(%image: [?, 4, ?, ?], %mask: [?, 4, 1, 1])
          %shared = Relu(%image) : [...]
          %sum1 = Add(%mask, %shared) : [...]
          %sum = Sub(%shared, %sum1) : [...]
          return %sum, %shared
    """)


def test_random_batch_norm_is_far_from_a_fresh_one(rng):
    norm = random_batch_norm(rng, 16)
    assert norm.gamma.min() < -0.1
    assert norm.gamma.max() > 0.1
    assert all(np.abs(array).mean() > 0.3 for array in (norm.mean, norm.beta, norm.var - 1))
    assert norm.var.min() > 0


def test_every_random_operation_has_weights_of_its_own(rng):
    one, other = random_conv(rng, 4, 4, 3), random_conv(rng, 4, 4, 3)
    assert not np.allclose(one.weight, other.weight)
    again = random_conv(np.random.default_rng(0), 4, 4, 3)
    assert np.array_equal(one.weight, again.weight)


def test_error_at_the_border_alone_is_told_from_one_inside(rng):
    [deviation] = deviations(*naive_merge(rng))
    assert deviation.border > 0.1
    assert deviation.interior < 1e-12
    assert deviation.worst == deviation.border
    assert len(deviation.by_depth) == 7  # of 13 x 18 pixels
    with pytest.raises(AssertionError, match=r"%x of shape \(2, 4, 13, 18\): %y differs within 1 px of the border, not inside"):
        assert_equivalent(*naive_merge(rng))


def test_error_everywhere_is_said_to_be(rng):
    conv = random_conv(rng, 4, 4, 3)
    other = replace(conv, weight=np.flip(conv.weight, 2))
    with pytest.raises(AssertionError, match=r"%y differs by .* everywhere"):
        assert_equivalent(build(lambda x: conv(x), x=IMAGE), build(lambda x: other(x), x=IMAGE))


def test_error_on_tiny_images_alone_is_found():
    """Right unless a row is a single pixel."""
    right, wrong = opaque("Right", lambda x: x), opaque("Wrong", lambda x: x + (x.shape[2] == 1))
    with pytest.raises(AssertionError, match=r"of shape \(2, 4, 1, 2\)"):
        assert_equivalent(build(lambda x: right(x), x=IMAGE), build(lambda x: wrong(x), x=IMAGE))


def with_nan_inside(x):
    """NaN in the middle of each image larger than a few pixels."""
    x = x.copy()
    x[:, :, 3:-3, 3:-3] = np.nan
    return x


@pytest.mark.parametrize("change", [lambda x: x + 1e-9, lambda x: np.where(x > 2, np.inf, x), with_nan_inside])
def test_small_errors_and_numbers_that_are_none_are_errors(change):
    same, other = build(lambda x: relu(x), x=IMAGE), build(lambda x: opaque("Other", change)(relu(x)), x=IMAGE)
    assert_equivalent(same, same)
    with pytest.raises(AssertionError, match="%y differs"):
        assert_equivalent(same, other)


def test_outputs_are_compared_by_name_and_shape():
    graph = build(lambda x: relu(x), x=IMAGE)
    with pytest.raises(AssertionError, match=r"the outputs are \['z'\], not \['y'\]"):
        assert_equivalent(graph, build(lambda x: {"z": relu(x)}, x=IMAGE))
    with pytest.raises(AssertionError, match=r"the shape is \(2, 4, 13, 17\), not \(2, 4, 13, 18\)"):
        assert_equivalent(graph, build(lambda x: relu(Pad(((0, 0), (0, -1)))(x)), x=IMAGE))


def test_graphs_are_run_on_inputs_they_can_take(rng):
    large = random_conv(rng, 4, 4, 7)
    graph = build(lambda x: large(x), x=IMAGE)
    assert_equivalent(graph, graph)
    with pytest.raises(ValueError, match=r"a window of \(7, 7\) is larger than the image"):
        assert_equivalent(*[build(lambda x: large(x), x=(None, 4, 3, 3))] * 2)


def test_wrong_pass_is_caught(rng):
    @rewrite(BatchNorm.of(Conv.of("x", name="conv"), name="norm"))
    def forget_the_shift(x, conv, norm):
        return replace(conv, weight=conv.weight * norm.gamma[:, None, None, None])(x)

    graph = build(lambda x: random_batch_norm(rng, 4)(random_conv(rng, 4, 4, 3)(x)), x=IMAGE)
    with pytest.raises(AssertionError, match=r"%y differs by .* everywhere"):
        check_pass(forget_the_shift, graph)


def test_pass_that_states_a_wrong_shape_is_caught(rng):
    class Shrinking(Scale):
        def infer_shape(self, shapes):
            return (*shapes[0][:-1], 1)

    @rewrite(Scale.of(Scale.of(Scale.of("x", name="a"), name="b"), name="c"))
    def misstate(x, a, b, c):
        return c(Shrinking(b.scale * a.scale, b.scale * a.shift + b.shift)(x))

    graph = build(lambda x: random_scale(rng, 4)(random_scale(rng, 4)(random_scale(rng, 4)(x))), x=IMAGE)
    with pytest.raises(AssertionError, match=r"%y/1 is stated to be \(None, 4, None, 1\) and is \(2, 4, 13, 18\)"):
        check_pass(misstate, graph)


def test_inputs_need_a_shape_and_keep_what_it_states(rng):
    graph = build(lambda x: relu(x), x=("batch", 3, "height", 5))
    [feed] = random_feeds(graph, (7, 8, 9)).values()
    assert feed.shape == (2, 3, 7, 5)
    graph.inputs[0].shape = None
    with pytest.raises(ValueError, match="%x needs a shape"):
        random_feeds(graph)
