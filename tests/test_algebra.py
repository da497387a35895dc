"""The equations of `repcompiler.algebra` as laws, on random operations, against torch in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from repcompiler import algebra
from repcompiler.interpreter import evaluate
from repcompiler.ir import Expr, Value
from repcompiler.ops import BatchNorm, Conv, Scale
from repcompiler.refusal import Refusal
from repcompiler.structure import forms
from repcompiler.testing import build, random_batch_norm, random_conv, random_conv_transpose, random_linear, random_scale

torch.set_num_threads(1)  # tensors here are too small to share

law = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def torch_conv(op, x):
    axes = len(op.stride)
    x, weight, bias = (torch.as_tensor(array) for array in (x, op.weight, op.bias))
    x = F.pad(x, [amount for pair in reversed(op.padding) for amount in pair])
    function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    return function(x, weight, bias, op.stride, 0, op.dilation, op.groups).numpy()


def torch_conv_transpose(op, x):
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(op.stride) - 1]
    x, weight, bias = (torch.as_tensor(array) for array in (x, op.weight, op.bias))
    padding = [before for before, _ in op.padding]
    return function(x, weight, bias, op.stride, padding, op.output_padding, op.groups, op.dilation).numpy()


def torch_meaning(op, x):
    if isinstance(op, Conv):
        return torch_conv(op, x)
    if hasattr(op, "output_padding"):
        return torch_conv_transpose(op, x)
    return F.linear(*(torch.as_tensor(array) for array in (x, op.weight, op.bias))).numpy()


def assert_same(actual, expected):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max(initial=0) <= 1e-12 * max(1, np.abs(expected).max(initial=0))


def extent_after(op, extents):
    shape = op.infer_shape([(1, op.in_channels, *extents)])
    return shape[2:]


generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def convs(draw, in_channels=None, axes=None, stride=None, out_channels=None, least_padding=-1, most_padding=3):
    """A random convolution; channels are small multiples of the groups, padding may be negative."""
    axes = axes or draw(st.integers(1, 2))
    if in_channels is None:
        in_channels = draw(st.sampled_from([1, 2, 4, 6]))
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 4, 6) if in_channels % g == 0 and (out_channels or g) % g == 0]))
    per_axis = st.tuples(*(st.integers(1, 3) for _ in range(axes)))
    side = st.integers(least_padding, most_padding)
    return random_conv(
        draw(generators),
        in_channels,
        out_channels or groups * draw(st.integers(1, 2)),
        draw(per_axis),
        stride=stride or draw(per_axis),
        padding=draw(st.tuples(*(st.tuples(side, side) for _ in range(axes)))),
        dilation=draw(per_axis),
        groups=groups,
        bias=draw(st.booleans()),
    )


@st.composite
def images(draw, channels, axes):
    extents = draw(st.tuples(*(st.integers(5, 12) for _ in range(axes))))  # more than two crops of strides 3 take away
    return draw(generators).normal(size=(2, channels, *extents))


def takes(op, extents):
    """Whether `op` makes at least one pixel of an image of these extents, and torch lets it crop that much."""
    kept = all(n + min(before, 0) + min(after, 0) > 0 for n, (before, after) in zip(extents, op.padding, strict=True))
    return kept and min(extent_after(op, extents)) > 0


@st.composite
def sequences(draw):
    """(first, second, image): the second pads seldom, so that most of them compose."""
    first = draw(convs(axes=draw(st.integers(1, 3)) if draw(st.booleans()) else None))
    pads = draw(st.sampled_from([0, 0, 0, 2]))
    second = draw(convs(first.out_channels, len(first.stride), least_padding=-1, most_padding=pads))
    x = draw(images(first.in_channels, len(first.stride)))
    assume(takes(first, x.shape[2:]) and takes(second, extent_after(first, x.shape[2:])))
    return first, second, x


@law
@given(sequences())
def test_composed_kernel_is_one_conv_after_the_other(case):
    first, second, x = case
    try:
        merged = algebra.compose(first, second)
    except Refusal:
        reject()
    assert_same(torch_conv(merged, x), torch_conv(second, torch_conv(first, x)))


@law
@given(sequences())
def test_composition_has_the_fewest_taps_and_the_groups_both_share(case):
    first, second, _ = case
    bare = [replace(op, padding=((0, 0),) * len(op.stride)) for op in (first, second)]
    merged = algebra.compose(*bare)
    reach = [e1 + (e2 - 1) * s for e1, e2, s in zip(first.extent, second.extent, first.stride, strict=True)]
    assert list(merged.extent) == reach
    assert all(d == 1 for d, k in zip(merged.dilation, merged.kernel_size, strict=True) if k == 1)
    if not algebra.is_diagonal(first) and not algebra.is_diagonal(second):
        assert merged.groups == np.gcd(first.groups, second.groups)
    else:
        assert merged.groups in (first.groups, second.groups)


@st.composite
def branches(draw):
    """(first, second, image) with one stride, and the second's padding chosen so that the outputs often agree in size."""
    first = draw(convs())
    axes = len(first.stride)
    second = draw(convs(first.in_channels, axes, first.stride, first.out_channels))
    padding = []
    for (p1, q1), e1, e2 in zip(first.padding, first.extent, second.extent, strict=True):
        before = draw(st.integers(-2, 3))
        padding.append((before, p1 + q1 - e1 + e2 - before + draw(st.sampled_from([0, 0, 0, -1, 1]))))
    second = replace(second, padding=tuple(padding))
    x = draw(images(first.in_channels, axes))
    assume(takes(first, x.shape[2:]) and takes(second, x.shape[2:]))
    return first, second, x


@law
@given(branches())
def test_added_kernel_is_the_sum_of_both_convs(case):
    first, second, x = case
    try:
        merged = algebra.add(first, second, x.shape[2:])
    except Refusal:
        assert extent_after(first, x.shape[2:]) != extent_after(second, x.shape[2:])
        return
    assert_same(torch_conv(merged, x), torch_conv(first, x) + torch_conv(second, x))


@law
@given(branches())
def test_sum_of_kernels_does_not_depend_on_their_order(case):
    first, second, x = case
    assume(extent_after(first, x.shape[2:]) == extent_after(second, x.shape[2:]))
    one, other = algebra.add(first, second, x.shape[2:]), algebra.add(second, first, x.shape[2:])
    assert np.array_equal(one.weight, other.weight)
    assert (one.padding, one.dilation, one.groups) == (other.padding, other.dilation, other.groups)


@law
@given(convs(least_padding=0), generators, st.data())
def test_kernels_with_fewer_groups_or_without_dilation_mean_the_same(conv, rng, data):
    x = rng.normal(size=(2, conv.in_channels, *(9,) * len(conv.stride)))
    assume(takes(conv, x.shape[2:]))
    groups = data.draw(st.sampled_from([g for g in range(1, conv.groups + 1) if conv.groups % g == 0]))
    wider = replace(conv, weight=algebra.regroup(conv, groups), groups=groups)
    assert wider.in_channels == conv.in_channels
    dense = replace(wider, weight=algebra.insert_zeros(wider.weight, wider.dilation), dilation=(1,) * len(conv.stride))
    assert dense.kernel_size == conv.extent
    for other in (wider, dense):
        assert_same(torch_conv(other, x), torch_conv(conv, x))


CONVS = {
    "conv": lambda rng: random_conv(rng, 4, 8, (3, 2), stride=2, padding=1, dilation=(1, 2)),
    "grouped conv": lambda rng: random_conv(rng, 4, 8, (3, 2), groups=2),
    "depthwise conv": lambda rng: random_conv(rng, 4, 8, (3,), padding=((2, 0),), groups=4),
    "3-D conv": lambda rng: random_conv(rng, 4, 8, (1, 2, 3)),
}
TRANSPOSED = {
    "transposed conv": lambda rng: random_conv_transpose(rng, 4, 8, (3, 2), stride=2, padding=1, output_padding=1),
    "grouped transposed conv": lambda rng: random_conv_transpose(rng, 4, 8, (3, 2), stride=2, dilation=(2, 1), groups=2),
    "depthwise transposed conv": lambda rng: random_conv_transpose(rng, 4, 8, (3,), groups=4),
}
LINEAR = {"linear": lambda rng: random_linear(rng, 4, 8)}


def each(operations):
    """Parametrise with (operation, input)."""

    def case(make):
        rng = np.random.default_rng(0)
        op = make(rng)
        return op, rng.normal(size=(2, 4, *(7, 8, 9)[: len(op.stride) if hasattr(op, "stride") else 0]))

    return pytest.mark.parametrize(("op", "x"), [case(make) for make in operations.values()], ids=operations)


def along_channels(vector, array):
    return vector.reshape(-1, *(1,) * (array.ndim - 2))


@each(CONVS | TRANSPOSED | LINEAR)
def test_scaled_outputs_are_scaled_results(op, x):
    t, s = np.random.default_rng(1).normal(size=(2, 8))
    y = torch_meaning(op, x)
    assert_same(torch_meaning(algebra.scale_outputs(op, t, s), x), along_channels(t, y) * y + along_channels(s, y))


@each(CONVS | TRANSPOSED | LINEAR)
def test_scaled_inputs_are_taken_into_the_weight(op, x):
    t = np.random.default_rng(1).normal(size=4)
    assert_same(torch_meaning(algebra.scale_inputs(op, t), x), torch_meaning(op, along_channels(t, x) * x))


@each(CONVS | LINEAR)
def test_constant_response_is_the_result_on_a_constant_away_from_padding(op, x):
    s = np.random.default_rng(1).normal(size=4)
    op = replace(op, bias=np.zeros(8))
    if isinstance(op, Conv):
        op = replace(op, padding=((0, 0),) * len(op.stride))
    y = torch_meaning(op, np.ones_like(x) * along_channels(s, x))
    assert_same(np.ones_like(y) * along_channels(algebra.constant_response(op, s), y), y)


@each(CONVS)
def test_negated_conv_is_the_negative(op, x):
    assert_same(torch_meaning(algebra.negate(op), x), -torch_meaning(op, x))


def test_affine_of_a_batch_norm_and_of_a_scale():
    rng = np.random.default_rng(0)
    norm, scale, whole = random_batch_norm(rng, 4, eps=1e-3), random_scale(rng, 4), random_scale(rng, 1)
    x = rng.normal(size=(2, 4))
    expected = F.batch_norm(*map(torch.tensor, (x, norm.mean, norm.var, norm.gamma, norm.beta)), eps=1e-3).numpy()
    for op, result in ((norm, expected), (scale, x * scale.scale + scale.shift), (whole, x * whole.scale + whole.shift)):
        t, s = algebra.affine(op, 4)
        assert t.shape == s.shape == (4,)
        assert_same(x * t + s, result)


@law
@given(convs(least_padding=-2), generators)
def test_plainest_expression_means_the_same_and_crops_nothing_in_a_conv(conv, rng):
    x = rng.normal(size=(2, conv.in_channels, *(8, 9)[: len(conv.stride)]))
    assume(takes(conv, x.shape[2:]))
    for form in forms(conv, Value("x", x.shape)):
        graph = build(lambda value, form=form: _on(form, value), value=x.shape)
        array = x
        for node in graph.topological():
            [array] = evaluate(node.op, [array])
        assert_same(array, torch_conv(conv, x))
        for node in graph.nodes:
            assert not isinstance(node.op, Conv) or min(map(min, node.op.padding)) >= 0


def _on(form, value):
    (operand,) = form.operands
    return form.op(_on(operand, value) if isinstance(operand, Expr) else value)


def test_depthwise_kernel_of_one_tap_is_a_scale():
    rng = np.random.default_rng(0)
    graph = build(lambda x: forms(random_conv(rng, 4, 4, 1, groups=4), x)[0], x=(None, 4, None, None))
    assert [type(node.op) for node in graph.nodes] == [Scale]
    for arguments in ({"stride": 2}, {"padding": 1}, {"padding": ((0, 0), (0, 1))}):
        strided = random_conv(rng, 4, 4, 1, groups=4, **arguments)
        graph = build(lambda x, strided=strided: forms(strided, x)[0], x=(None, 4, None, None))
        assert [type(node.op) for node in graph.nodes] == [Conv]


def test_batch_norm_without_spread_stays_finite():
    norm = BatchNorm(np.ones(1), np.zeros(1), np.zeros(1), np.zeros(1), 1e-5)
    t, s = algebra.affine(norm, 1)
    assert np.isclose(t[0], 1e5**0.5, rtol=1e-12, atol=0)
    assert s[0] == 0
