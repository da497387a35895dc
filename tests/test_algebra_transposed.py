"""The equations of `repcompiler.algebra_transposed` as laws, on random operations, against the interpreter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repcompiler.algebra_transposed import add_transposed, adjoint, as_linear, pointwise_after, pointwise_before, pull_back
from repcompiler.interpreter import evaluate
from repcompiler.refusal import Refusal
from repcompiler.testing import random_conv, random_conv_transpose

law = settings(max_examples=150, deadline=None, derandomize=True, database=None)
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
groups = st.sampled_from([1, 2, 4])


def apply(op, x):
    return evaluate(op, [x])[0]


def assert_same(actual, expected):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max(initial=0) <= 1e-12 * max(1, np.abs(expected).max(initial=0))


@st.composite
def transposed(draw, axes=None):
    """A transposed convolution of 4 channels to 8, and an image that it makes at least one pixel of."""
    axes, rng = axes or draw(st.integers(1, 3)), draw(generators)
    kernel, stride, dilation, extents = (tuple(map(int, rng.integers(1, 4, axes))) for _ in range(4))
    op = random_conv_transpose(
        rng,
        4,
        8,
        kernel,
        stride=stride,
        dilation=dilation,
        padding=tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (axes, 2))),
        output_padding=tuple(int(rng.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True)),
        groups=draw(groups),
    )
    assume(min(op.infer_shape([(1, 4, *extents)])[2:]) > 0)
    return op, rng.normal(size=(2, 4, *extents))


def pointwise(rng, in_channels, out_channels, axes, groups, bias=True):
    return random_conv(rng, in_channels, out_channels, (1,) * axes, groups=groups, bias=bias)


@law
@given(transposed(), groups, generators)
def test_pointwise_after_is_one_conv_transpose(case, groups, rng):
    up, x = case
    mix = pointwise(rng, 8, 12, len(up.stride), groups)
    assert_same(apply(pointwise_after(up, mix), x), apply(mix, apply(up, x)))


@law
@given(transposed(), groups, generators)
def test_pointwise_before_is_one_conv_transpose_without_a_bias(case, groups, rng):
    up, x = case
    mix = pointwise(rng, 4, 4, len(up.stride), groups, bias=False)
    assert_same(apply(pointwise_before(mix, up), x), apply(up, apply(mix, x)))


@law
@given(transposed(), groups, generators)
def test_bias_before_is_taken_in_exactly_where_its_response_is_uniform(case, groups, rng):
    up, _ = case
    extents = [(k - 1) * d + sum(p) + 2 for k, d, p in zip(up.kernel_size, up.dilation, up.padding, strict=True)]
    mix = pointwise(rng, 4, 4, len(up.stride), groups)
    response = apply(
        replace(up, bias=np.zeros(8)), np.broadcast_to(mix.bias.reshape(-1, *(1,) * len(extents)), (1, 4, *extents))
    )
    uniform = np.ptp(response.reshape(8, -1), axis=1).max() < 1e-12
    try:
        merged = pointwise_before(mix, up)
    except Refusal:
        assert not uniform
    else:
        assert uniform
        x = rng.normal(size=(2, 4, *extents))
        assert_same(apply(merged, x), apply(up, apply(mix, x)))


def test_valid_conv_in_the_guise_of_a_conv_transpose_takes_the_bias_before():
    rng = np.random.default_rng(0)
    up = random_conv_transpose(rng, 4, 8, (3, 2), dilation=(1, 2), padding=(2, (3, 2)), groups=2)
    mix, x = pointwise(rng, 6, 4, 2, 2), rng.normal(size=(2, 6, 5, 7))
    assert_same(apply(pointwise_before(mix, up), x), apply(up, apply(mix, x)))
    for padding, extended in ((((2, 1), (3, 2)), (0, 0)), (up.padding, (0, 1))):
        with pytest.raises(Refusal, match="fewer taps at the border"):
            pointwise_before(mix, replace(up, padding=padding, output_padding=extended))


@law
@given(transposed(), groups, generators, st.sampled_from([(1, 1), (1, -1), (-1, 1), (-1, -1)]))
def test_sum_of_two_of_one_geometry_is_one(case, groups, rng, signs):
    first, x = case
    weight = rng.normal(size=(4, 8 // groups, *first.kernel_size))
    second = replace(first, weight=weight, bias=rng.normal(size=8), groups=groups)
    merged = add_transposed(first, second, signs)
    assert merged.groups == np.gcd(first.groups, groups)
    assert_same(apply(merged, x), signs[0] * apply(first, x) + signs[1] * apply(second, x))


@law
@given(transposed(axes=2), generators)
def test_adjoint_meets_the_definition(case, rng):
    up, _ = case
    bare = replace(up, stride=(1, 1), padding=((0, 0),) * 2, output_padding=(0, 0), bias=np.zeros(8))
    x = rng.normal(size=(1, 4, 3, 2))
    g = rng.normal(size=apply(bare, x).shape)
    assert np.isclose(np.vdot(g, apply(bare, x)), np.vdot(apply(adjoint(up), g), x))


@law
@given(st.data(), generators)
def test_functionals_of_a_result_are_pulled_back_to_the_image(data, rng):
    axes = data.draw(st.integers(1, 3))
    kernel, stride, dilation, size = (tuple(map(int, rng.integers(1, top, axes))) for top in (4, 4, 3, 8))
    padding = tuple((int(a), int(b)) for a, b in rng.integers(-1, 4, (axes, 2)))
    conv = random_conv(
        rng, 4, 8, kernel, stride=stride, dilation=dilation, padding=padding, groups=data.draw(groups), bias=False
    )
    assume(all(n + min(a, 0) + min(b, 0) > 0 for n, (a, b) in zip(size, padding, strict=True)))
    extents = conv.infer_shape([(1, 4, *size)])[2:]
    assume(min(extents) > 0)
    functionals, x = rng.normal(size=(3, 8, *extents)), rng.normal(size=(2, 4, *size))
    back = pull_back(functionals, conv, size)
    assert_same(x.reshape(2, -1) @ back.reshape(3, -1).T, apply(conv, x).reshape(2, -1) @ functionals.reshape(3, -1).T)
    biased = replace(conv, bias=rng.normal(size=8))
    assert_same(apply(as_linear(biased, size), x.reshape(2, -1)), apply(biased, x).reshape(2, -1))


def test_torch_tensors_give_the_same_kernels_with_gradients():
    rng = np.random.default_rng(0)

    def live(op):
        return replace(op, weight=torch.tensor(op.weight, requires_grad=True), bias=torch.tensor(op.bias, requires_grad=True))

    up = random_conv_transpose(rng, 4, 8, 3, stride=2, groups=2)
    mix, before = pointwise(rng, 8, 4, 2, 2), pointwise(rng, 6, 4, 2, 1)
    flat = replace(up, stride=(1, 1), padding=((2, 2), (2, 2)))
    conv = random_conv(rng, 4, 8, 3, stride=2, padding=1, groups=2)
    rows = rng.normal(size=(3, 8, 4, 3))
    pairs = [
        (pointwise_after(up, mix), pointwise_after(live(up), live(mix))),
        (pointwise_before(before, flat), pointwise_before(live(before), live(flat))),
        (add_transposed(up, up, (1, -1)), add_transposed(live(up), live(up), (1, -1))),
    ]
    for expected, actual in pairs:
        for name in ("weight", "bias"):
            assert_same(getattr(actual, name).detach().numpy(), getattr(expected, name))
            assert getattr(actual, name).requires_grad
    back = pull_back(torch.tensor(rows), live(conv), (7, 6))
    assert back.requires_grad
    assert_same(back.detach().numpy(), pull_back(rows, conv, (7, 6)))
