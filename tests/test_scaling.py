"""`repcompiler.scaling` as laws on random trees: absorbing and releasing a scale changes nothing but where it is."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.cost import shape_of
from repcompiler.ops import (
    AvgPool,
    Concat,
    Conv,
    DepthToSpace,
    GlobalAvgPool,
    Identity,
    Linear,
    MaxPool,
    Pad,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Scale,
    Select,
    Sigmoid,
    SpaceToDepth,
    Subsample,
    Sum,
    Transpose,
)
from repcompiler.refusal import Refusal
from repcompiler.scaling import passes
from repcompiler.scaling_absorb import absorb
from repcompiler.scaling_release import release
from repcompiler.testing import (
    assert_equivalent,
    build,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
    random_scale,
)

law = settings(max_examples=150, deadline=None, derandomize=True, database=None)
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def passing(draw, shape):
    """An operation on one value of this shape that keeps rank, batch and channels."""
    axes, rng = len(shape) - 2, draw(generators)
    stride = draw(st.tuples(*(st.integers(1, 2) for _ in range(axes))))
    pad = tuple((int(a), int(b)) for a, b in rng.integers(0, 2, size=(axes, 2)))
    kernel = (2,) * axes
    return draw(
        st.sampled_from(
            [
                Identity(),
                Relu(),
                PRelu(rng.normal(size=shape[1])),
                PRelu(rng.normal(size=1)),
                MaxPool(kernel, stride, pad, (1,) * axes),
                AvgPool(kernel, stride, pad, draw(st.sampled_from([2**axes, 3]))),
                AvgPool(kernel, stride, ((0, 0),) * axes, 2**axes),
                GlobalAvgPool(),
                Resize("linear", "half_pixel", "floor", scales=(1.5,) * axes),
                Resize("nearest", "align_corners", "round_prefer_ceil", sizes=(5,) * axes),
                Subsample(stride),
                Pad(tuple((0, -int(side)) for side in rng.integers(0, 2, size=axes))),
                Pad(pad),
                Select(tuple(map(int, rng.permutation(shape[1])))),
            ]
        )
    )


@st.composite
def trees(draw, leaf):
    """A tree of operations that let a scale through, over a `leaf`."""
    term = leaf(draw(generators))
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["one", "one", "one", "sum", "concat"]))
        current = shape_of(term)
        if min(current[2:]) < 3 or current[1] > 12:
            break
        if kind == "one":
            term = draw(passing(current))(term)
        elif kind == "sum":
            term = Sum((1, draw(st.sampled_from([1, -1]))))(term, Identity()(term))
        else:
            term = Concat()(term, Identity()(term))
    return term


@st.composite
def scales(draw, channels):
    """Positive, of either sign, with zeros; shifted or not; by channel or uniform."""
    rng, size = draw(generators), draw(st.sampled_from([channels, 1]))
    t = draw(st.sampled_from([rng.normal(size=size), rng.uniform(0.1, 2.0, size=size), np.abs(rng.normal(size=size)).round()]))
    return Scale(t, draw(st.sampled_from([np.zeros(size), rng.normal(size=size)])))


def leaf_of(x, spatial):
    """A linear operation of `x`, or a batch norm of it."""

    def leaf(rng):
        choice = rng.integers(4)
        if choice == 0:
            return random_conv(rng, 4, 6, (3,) * spatial, padding=1, stride=int(rng.integers(1, 3)), groups=2)(x)
        if choice == 1:
            return random_conv_transpose(rng, 4, 4, (2,) * spatial, stride=2, groups=2)(x)
        if choice == 2:
            return random_batch_norm(rng, 4)(x)
        return random_conv(rng, 4, 5, (1,) * spatial)(x)

    return leaf


def attempt(function):
    try:
        return function()
    except Refusal:
        return None


@law
@given(st.data(), st.integers(1, 2))
def test_a_scaled_tree_is_what_it_says_wherever_the_scale_is_taken_in(data, spatial):
    shape = (2, 4, *(9, 7)[:spatial])
    drawn = {}

    def scaled(x):
        drawn["term"] = data.draw(trees(leaf_of(x, spatial)))
        drawn["scale"] = data.draw(scales(shape_of(drawn["term"])[1]))
        return drawn["scale"](drawn["term"])

    before = build(scaled, x=shape)
    absorbed = attempt(lambda: absorb(drawn["term"], drawn["scale"]))
    if absorbed is not None:
        after = build(lambda x: _onto(absorbed, before.inputs[0], x), x=shape)
        assert_equivalent(before, after)
        assert all(node.inputs == tuple(after.inputs) for node in after.nodes if isinstance(node.op, Scale))


@law
@given(st.data(), st.integers(1, 2))
def test_what_is_released_times_its_scale_is_what_it_was(data, spatial):
    shape = (2, 4, *(9, 7)[:spatial])
    drawn = {}

    def tree(x):
        inner = data.draw(scales(4))
        term = inner(x)
        for _ in range(data.draw(st.integers(1, 3))):
            current = shape_of(term)
            if min(current[2:]) >= 3:
                term = data.draw(passing(current))(term)
        drawn["term"] = Concat()(term, Relu()(inner(term))) if data.draw(st.booleans()) else term
        return Identity()(drawn["term"])

    before = build(tree, x=shape)
    released = attempt(lambda: release(drawn["term"]))
    if released is not None:
        rest, scale = released
        assert_equivalent(before, build(lambda x: scale(_onto(rest, before.inputs[0], x)), x=shape))


@pytest.mark.parametrize("seed", range(20))
def test_tokens_and_images_of_a_scaled_linear_map(seed):
    rng = np.random.default_rng(seed)
    conv, linear = random_conv(rng, 3, 4, 2, stride=2), random_linear(rng, 5, 4)
    by_last = Scale(rng.normal(size=4), rng.normal(size=4), axis=2)

    def tokens(x):
        return Transpose((0, 2, 1))(Reshape((0, 4, -1))(conv(x)))

    for make, shape in ((tokens, (2, 3, 6, 4)), (lambda x: Transpose((0, 2, 1))(Transpose((0, 2, 1))(linear(x))), (2, 3, 5))):
        before = build(lambda x, make=make: by_last(make(x)), x=shape)
        term = make(before.inputs[0])
        after = build(lambda x, term=term: _onto(absorb(term, by_last), before.inputs[0], x), x=shape)  # noqa: B023
        assert_equivalent(before, after)
        assert {type(node.op) for node in after.nodes} <= {Conv, Linear, Reshape, Transpose}


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
@pytest.mark.parametrize("spatial", [1, 2])
def test_a_scale_of_channels_is_one_of_their_pixels_as_channels(mode, spatial):
    rng = np.random.default_rng(0)
    area, extents = 2**spatial, (6, 4)[:spatial]
    conv, scale, apart = random_conv(rng, 5, 3 * area, (1,) * spatial), random_scale(rng, 3), random_scale(rng, 3 * area)
    blocks, pixels = SpaceToDepth(2, mode), DepthToSpace(2, mode)
    before = build(lambda x: scale(pixels(conv(x))), x=(2, 5, *extents))
    (x,) = before.inputs
    after = build(lambda y: _onto(absorb(pixels(conv(x)), scale), x, y), x=(2, 5, *extents))
    assert_equivalent(before, after)
    assert [type(node.op) for node in after.topological()] == [Conv, DepthToSpace]
    with pytest.raises(Refusal, match="the pixels of one channel are scaled differently"):
        release(pixels(apart(conv(x))))
    forth = build(lambda x: blocks(scale(x)), x=(2, 3, *extents))
    (x,) = forth.inputs
    rest, moved = release(blocks(scale(x)))
    assert_equivalent(forth, build(lambda y: moved(_onto(rest, x, y)), x=(2, 3, *extents)))
    with pytest.raises(Refusal, match="the pixels of one channel are scaled differently"):
        absorb(blocks(scale(x)), apart)
    back = build(lambda y: moved(blocks(scale(y))), x=(2, 3, *extents))
    assert_equivalent(back, build(lambda y: _onto(absorb(blocks(scale(x)), moved), x, y), x=(2, 3, *extents)))


@st.composite
def groupings(draw, factors):
    """A shape behind the batch: the product of each run of neighbouring factors."""
    cuts = sorted(draw(st.sets(st.integers(1, len(factors) - 1))))
    return tuple(prod(factors[start:stop]) for start, stop in zip([0, *cuts], [*cuts, len(factors)], strict=True))


def test_what_is_not_known_to_pass_a_scale_does_not():
    with pytest.raises(Refusal, match="a scale does not pass Sigmoid"):
        passes(Sigmoid(), Scale(np.ones(4), np.zeros(4)), 1)


@law
@given(st.data(), st.lists(st.integers(1, 4), min_size=2, max_size=4), generators)
def test_scale_of_any_axis_passes_a_reshape_unless_that_splits_it(data, factors, rng):
    shape, target = data.draw(groupings(factors)), data.draw(groupings(factors))
    axis = data.draw(st.integers(1, len(shape)))
    scale, uniform, reshape = random_scale(rng, shape[axis - 1], axis), random_scale(rng, 1), Reshape((0, *target))
    step, extent = prod(shape[axis:]), shape[axis - 1]
    whole = any(step % prod(target[n:]) == 0 == prod(target[n - 1 :]) % (step * extent) for n in range(1, len(target) + 1))
    forth = build(lambda x: reshape(scale(x)), x=(None, *shape))
    released = attempt(lambda: release(reshape(scale(forth.inputs[0]))))
    assert (released is not None) == (whole or extent == 1)
    if released is not None:
        rest, moved = released
        assert_equivalent(forth, build(lambda x: moved(_onto(rest, forth.inputs[0], x)), x=(None, *shape)))
    back = build(lambda x: scale(Reshape((0, *shape))(uniform(x))), x=(None, *target))
    absorbed = attempt(lambda: absorb(Reshape((0, *shape))(uniform(back.inputs[0])), scale))
    assert (absorbed is not None) == (whole or extent == 1)
    if absorbed is not None:
        assert_equivalent(back, build(lambda x: _onto(absorbed, back.inputs[0], x), x=(None, *target)))


def _onto(term, old, new):
    """The same expression of another value."""
    if term is old:
        return new
    return term.op(*(_onto(operand, old, new) for operand in term.operands))


@pytest.mark.parametrize("blocks", [SpaceToDepth(2, "CRD"), DepthToSpace(2, "DCR")], ids=lambda op: op.kind)
def test_a_scale_of_columns_does_not_pass_blocks_of_pixels(blocks):
    rng = np.random.default_rng(0)
    [x] = build(lambda x: x, x=(None, 4, 6, 8)).inputs
    term = blocks(random_scale(rng, 8, axis=3)(x))
    reason = f"a scale of another axis than the channels does not pass {blocks.kind}"
    with pytest.raises(Refusal, match=reason):
        absorb(term, random_scale(rng, shape_of(term)[3], axis=3))
    with pytest.raises(Refusal, match=reason):
        release(term)
