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


def output_padding_below(stride, dilation):
    return st.integers(0, max(stride, dilation) - 1)


@st.composite
def beside(draw, first):
    """Another transposed convolution of 4 channels to 8 whose results are of the size of those of `first`."""
    rng, kernel, dilation, padding, output_padding = draw(generators), [], [], [], []
    for k, s, d, p, e in zip(first.kernel_size, first.stride, first.dilation, first.padding, first.output_padding, strict=True):
        more = d * (k - 1) + e - sum(p)  # pixels beyond stride (n - 1) + 1
        dilation.append(draw(st.integers(1, 4)))
        least = more - max(s, dilation[-1]) + 1  # that the kernel has to reach over
        kernel.append(max(draw(st.integers(1, 4)), 1 - -least // dilation[-1]))
        extent = dilation[-1] * (kernel[-1] - 1)
        output_padding.append(max(more - extent, draw(output_padding_below(s, dilation[-1]))))
        surplus = extent + output_padding[-1] - more
        before = draw(st.integers(0, surplus))
        padding.append((before, surplus - before))
    return random_conv_transpose(
        rng,
        4,
        8,
        kernel,
        stride=first.stride,
        dilation=dilation,
        padding=tuple(padding),
        output_padding=tuple(output_padding),
        groups=draw(groups),
    )


@st.composite
def pairs(draw, axes=None):
    """Two with results of one size, and an image."""
    first, x = draw(transposed(axes))
    return first, draw(beside(first)), x


@law
@given(pairs(), st.sampled_from([(1, 1), (1, -1), (-1, 1), (-1, -1)]))
def test_sum_of_two_with_results_of_one_size_is_one(case, signs):
    first, second, x = case
    merged = add_transposed(first, second, signs)
    assert_same(apply(merged, x), signs[0] * apply(first, x) + signs[1] * apply(second, x))
    assert merged.groups == np.gcd(first.groups, second.groups)


@law
@given(pairs(axes=1))
def test_sum_is_written_with_what_runtimes_take(case):
    first, second, _ = case
    merged = add_transposed(first, second, (1, 1))
    [(before, after)], [extra], [stride], [dilation] = merged.padding, merged.output_padding, merged.stride, merged.dilation
    assert before == max(op.padding[0][0] for op in (first, second))
    assert after >= 0
    assert 0 <= extra < max(stride, dilation)
    assert extra <= max(first.output_padding[0], second.output_padding[0])


@law
@given(pairs(axes=1))
def test_sum_has_no_taps_beyond_the_coarsest_lattice_that_holds_those_of_both(case):
    ops = case[:2]
    assume(all(op.output_padding[0] < op.stride[0] for op in ops))
    merged = add_transposed(*ops, (1, 1))
    ends = [(-p[0], d * (k - 1) - p[0]) for op in ops for k, d, p in zip(op.kernel_size, op.dilation, op.padding, strict=True)]
    steps = [op.dilation[0] for op in ops if op.kernel_size[0] > 1]
    [dilation], [taps] = merged.dilation, merged.kernel_size
    assert dilation == (np.gcd.reduce([*steps, ends[1][0] - ends[0][0]]) or 1)
    assert taps == 1 + (max(last for _, last in ends) - min(first for first, _ in ends)) // dilation


@law
@given(pairs(axes=1))
def test_sum_of_two_that_torch_has_as_modules_is_a_third(case):
    first, second, x = case
    pads = [sum(op.padding[0]) for op in (first, second)]
    assume(not any(pad % 2 for pad in pads))
    first, second = (replace(op, padding=((pad // 2,) * 2,)) for op, pad in zip((first, second), pads, strict=True))
    assume(all(op.output_padding[0] < op.stride[0] for op in (first, second)))
    merged = add_transposed(first, second, (1, 1))
    [(before, after)] = merged.padding
    assert before == after
    module = torch.nn.ConvTranspose1d(
        4,
        8,
        merged.kernel_size,
        merged.stride,
        before,
        merged.output_padding,
        merged.groups,
        dilation=merged.dilation,
        dtype=torch.float64,
    )
    module.load_state_dict({"weight": torch.tensor(merged.weight), "bias": torch.tensor(merged.bias)})
    assert_same(module(torch.tensor(x)).detach().numpy(), apply(first, x) + apply(second, x))


@pytest.mark.parametrize(("step", "extended"), [(1, 0), (2, 1)])
def test_output_padding_that_the_common_lattice_does_not_allow_becomes_taps_of_zero(step, extended):
    """torch takes what is below the dilation, and that of the sum is smaller."""
    rng = np.random.default_rng(0)
    first, second = (
        random_conv_transpose(rng, 4, 8, (taps,), dilation=dilation * step, output_padding=2 * step - 1)
        for taps, dilation in ((4, 2), (3, 3))
    )
    merged = add_transposed(first, second, (1, 1))
    assert (merged.kernel_size, merged.dilation, merged.output_padding, merged.padding) == (
        (8,),
        (step,),
        (extended,),
        ((0, 0),),
    )
    x = rng.normal(size=(2, 4, 5))
    assert_same(apply(merged, x), apply(first, x) + apply(second, x))


@law
@given(transposed(), groups, generators)
def test_pointwise_merges_leave_the_geometry(case, groups, rng):
    up, _ = case
    axes = len(up.stride)
    after = pointwise_after(up, pointwise(rng, 8, 12, axes, groups))
    before = pointwise_before(pointwise(rng, 4, 4, axes, groups, bias=False), up)
    for merged in (after, before):
        for name in ("kernel_size", "stride", "padding", "output_padding", "dilation"):
            assert getattr(merged, name) == getattr(up, name)


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
