"""The plainest form of a convolution says the same: what zeros and ones a kernel has decides what it is written as."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.algebra import insert_zeros, pad_axis, regroup
from repcompiler.ir import Value
from repcompiler.ops import Conv, Identity, Linear, Pad, Scale, Select
from repcompiler.refusal import Refusal
from repcompiler.structure import blocks, cropped, dilated, forms, grouped, selection
from repcompiler.testing import assert_equivalent, build, random_conv


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pointwise(matrix, bias=None):
    matrix = np.asarray(matrix, float)
    bias = np.zeros(len(matrix)) if bias is None else bias
    return Conv(matrix.reshape(*matrix.shape, 1, 1), bias, (1, 1), ((0, 0), (0, 0)), (1, 1), 1)


def fully_connected(matrix, bias=None):
    """A convolution without spatial axes."""
    matrix = np.asarray(matrix, float)
    return Conv(matrix, np.zeros(len(matrix)) if bias is None else bias, (), (), (), 1)


def images(conv):
    """A value that it can read, of any size."""
    return Value("x", (None, conv.in_channels, *(None,) * len(conv.stride)))


def dense(conv):
    return replace(conv, weight=regroup(conv, 1), groups=1)


def shuffled(conv, rng):
    """`conv`, dense, with its inputs and outputs in another order."""
    rows, columns = rng.permutation(conv.out_channels), rng.permutation(conv.in_channels)
    return replace(dense(conv), weight=regroup(conv, 1)[rows][:, columns], bias=conv.bias[rows])


def written(conv, shape=None):
    """The operations of each form, innermost first; asserts that all compute what the convolution does."""
    before = build(conv if conv.stride else Linear(conv.weight, conv.bias), x=shape or images(conv).shape)
    found = [
        build(lambda x, n=n: forms(conv, x)[n], x=before.inputs[0].shape) for n in range(len(forms(conv, before.inputs[0])))
    ]
    for graph in found:
        assert_equivalent(before, graph)
    return [[str(node.op) for node in graph.nodes] for graph in found]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_every_form_says_the_same(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    axes = data.draw(st.integers(1, 2))
    each = st.tuples(*(st.integers(1, 2) for _ in range(axes)))
    sides = st.tuples(*(st.tuples(st.integers(0, 3), st.integers(0, 3)) for _ in range(axes)))
    kernel = data.draw(st.tuples(*(st.integers(1, 4) for _ in range(axes))))
    groups = data.draw(st.sampled_from([1, 2, 4]))
    geometry = {"stride": data.draw(each), "padding": data.draw(sides), "dilation": data.draw(each)}
    conv = random_conv(rng, 4, 8, kernel, groups=groups, **geometry)
    match data.draw(st.sampled_from(["blocks", "frame", "lattice", "outer product", "repetition", "any zeros"])):
        case "blocks":
            conv = shuffled(conv, rng)
        case "frame":
            conv = replace(conv, weight=pad_axis(conv.weight, 1 + axes, *data.draw(st.sampled_from([(1, 0), (0, 2), (1, 1)]))))
        case "lattice":
            conv = replace(conv, weight=insert_zeros(conv.weight, data.draw(each)))
        case "outer product":
            along = data.draw(st.integers(2, 1 + axes))
            rest = tuple(axis for axis in range(1, 2 + axes) if axis != along)
            conv = replace(conv, weight=conv.weight.mean(along, keepdims=True) * conv.weight.mean(rest, keepdims=True))
        case "repetition":
            conv = replace(conv, weight=conv.weight[rng.integers(8, size=8)])
        case "any zeros":
            conv = replace(conv, weight=conv.weight * (rng.random(conv.weight.shape) < data.draw(st.sampled_from([0.1, 0.5]))))
    written(conv)


def test_a_block_diagonal_kernel_is_grouped_and_may_stay_dense(rng):
    for groups in (2, 3, 6):
        conv = random_conv(rng, 6, 12, 3, groups=groups)
        assert np.array_equal(grouped(dense(conv)).weight, conv.weight)
        assert written(dense(conv))[:2] == [[f"Conv 6->12 3x3 g{groups}"], ["Conv 6->12 3x3"]]


def test_grouped_finds_finer_groups_within_groups(rng):
    conv = random_conv(rng, 12, 12, 3, groups=6)
    coarse = replace(conv, weight=regroup(conv, 2), groups=2)
    assert grouped(coarse).groups == 6
    assert np.array_equal(grouped(coarse).weight, conv.weight)


def test_one_number_off_the_diagonal_keeps_it_dense():
    matrix = np.eye(6)
    matrix[0, 5] = 1e-30
    assert grouped(pointwise(matrix)).groups == 1


def test_blocks_in_any_order_are_grouped_between_selections(rng):
    conv = shuffled(random_conv(rng, 6, 12, 3, groups=3), rng)
    assert written(conv) == [["Conv 6->12 3x3"], ["Select 6 channels", "Conv 6->12 3x3 g3", "Select 12 channels"]]


def test_channels_are_connected_by_a_single_tap(rng):
    conv = shuffled(random_conv(rng, 6, 12, (1, 2), groups=3), rng)
    conv.weight[::2, :, :, 0] = 0
    conv.weight[1::2, :, :, 1] = 0
    assert ["Select 6 channels", "Conv 6->12 1x2 g3", "Select 12 channels"] in written(conv)


def test_channels_are_connected_through_others():
    chain = np.eye(3) + np.eye(3, k=1)
    conv = shuffled(pointwise(np.kron(np.eye(2), chain)), np.random.default_rng(0))
    assert written(conv) == [["Conv 6->6 1x1"], ["Select 6 channels", "Conv 6->6 1x1 g2", "Select 6 channels"]]


def test_two_blocks_may_use_half_of_the_kernel(rng):
    assert len(list(blocks(shuffled(random_conv(rng, 4, 4, 1, groups=2), rng)))) == 1


@pytest.mark.parametrize(
    "sizes", [((2, 2), (4, 4)), ((2, 3), (4, 3)), ((3, 2), (3, 4)), ((2, 3), (2, 3), (2, 0)), ((3, 2), (3, 2), (0, 2))]
)
def test_blocks_of_different_sizes_are_not_grouped(rng, sizes):
    stops = np.cumsum([(0, 0), *sizes], axis=0)
    matrix = np.zeros((6, 6))
    for (row, column), (end_row, end_column) in pairwise(stops):
        matrix[row:end_row, column:end_column] = rng.normal(size=(end_row - row, end_column - column))
    assert not list(blocks(pointwise(matrix)))


def test_what_has_no_structure_stays_the_operation_it_is(rng):
    kernels = [(4, 6, 3), (4, 1, 3), (4, 6, (3,))]
    for conv in (*(random_conv(rng, *kernel) for kernel in kernels), random_conv(rng, 4, 6, 3, groups=2)):
        conv.weight[0, 0, 0] = 0  # so that it is looked into
        assert dilated(conv) is conv
        assert cropped(conv, inside=True) is conv
        assert cropped(conv, inside=False) is conv
        assert grouped(conv) is conv
        assert [form.op for form in forms(conv, images(conv))] == [conv]


def test_live_parameters_are_not_looked_into(rng):
    kernel = np.zeros((6, 6, 5, 5))
    kernel[..., 2, 2] = np.kron(np.eye(2), np.ones((3, 3)))
    conv = Conv(kernel, np.zeros(6), (1, 1), ((2, 2), (2, 2)), (1, 1), 1)
    assert len(written(conv)) > 1
    live = replace(conv, weight=torch.tensor(kernel, requires_grad=True), bias=torch.zeros(6, requires_grad=True))
    assert [form.op for form in forms(live, images(live))] == [live]
    assert selection(live) is None


def test_a_frame_of_zeros_is_cropped_as_far_as_there_is_padding_for_it(rng):
    conv = random_conv(rng, 4, 4, 2, dilation=(1, 2))
    wide = replace(conv, weight=np.pad(conv.weight, [(0, 0), (0, 0), (2, 3), (2, 3)]))
    for padding, kept, plain in [
        (((2, 3), (4, 6)), (2, 2), ((0, 0), (0, 0))),
        (((3, 4), (5, 7)), (2, 2), ((1, 1), (1, 1))),
        (((1, 1), (1, 1)), (5, 7), ((0, 0), (1, 1))),
        (((1, 0), (3, 2)), (6, 5), ((0, 0), (1, 0))),
    ]:
        found = cropped(replace(wide, padding=padding), inside=True)
        assert (found.kernel_size, found.padding) == (kept, plain)
        assert cropped(replace(wide, padding=padding), inside=False).kernel_size == (2, 2)


def test_a_frame_that_no_padding_makes_up_for_is_a_crop_of_the_image(rng):
    conv = random_conv(rng, 4, 4, 2)
    wide = replace(conv, weight=np.pad(conv.weight, [(0, 0), (0, 0), (2, 0), (0, 3)]), padding=((1, 0), (0, 1)))
    assert written(wide) == [["Conv 4->4 3x4"], ["Pad", "Conv 4->4 2x2"]]
    crop = forms(wide, images(wide))[1].operands[0]
    assert crop.op.padding == ((-1, 0), (0, -2))


def test_a_kernel_of_zeros_has_one_tap_left(rng):
    conv = random_conv(rng, 4, 6, 3)
    zeros = cropped(replace(conv, weight=0 * conv.weight), inside=False)
    assert zeros.kernel_size == (1, 1)
    assert zeros.padding == ((0, -2), (0, -2))


def test_zeros_on_a_lattice_are_dilation(rng):
    conv = random_conv(rng, 4, 4, (3, 2), dilation=(1, 2))
    found = dilated(replace(conv, weight=insert_zeros(conv.weight, (2, 3)), dilation=(1, 2)))
    assert found.dilation == (2, 6)
    assert np.array_equal(found.weight, conv.weight)


def test_negative_padding_is_a_crop_of_its_own(rng):
    conv = random_conv(rng, 6, 6, 3, padding=((-1, 2), (0, 0)))
    term = forms(conv, images(conv))[0]
    assert term.op.padding == ((0, 2), (0, 0))
    assert term.operands[0].op == Pad(((-1, 0), (0, 0)))


@pytest.mark.parametrize(
    ("kernel", "padding"),
    [(3, ((-1, 0), (1, 2))), (1, ((-2, 0), (0, 0))), (1, ((-2, 2), (1, 0))), (2, ((-3, 3), (-1, -1)))],
    ids=str,
)
def test_a_crop_leaves_a_pixel_of_the_smallest_image_or_is_refused(rng, kernel, padding):
    """The smallest that the convolution can read, and that there is."""
    conv = random_conv(rng, 4, 4, kernel, padding=padding)
    left = [max(kernel - sum(pair), 1) + sum(min(side, 0) for side in pair) for pair in padding]
    if min(left) > 0:
        assert forms(conv, images(conv))
    else:
        with pytest.raises(Refusal, match="crop more than the smallest images have"):
            forms(conv, images(conv))


def test_a_crop_leaves_a_pixel_of_an_image_of_known_size(rng):
    conv = random_conv(rng, 4, 4, 1, padding=((-2, 3), (0, 0)))
    assert written(conv, (None, 4, 3, 5)) == [["Pad", "Conv 4->4 1x1"]]
    with pytest.raises(Refusal, match="crop more than the smallest images have"):
        forms(conv, Value("x", (None, 4, 2, 5)))
    with pytest.raises(Refusal, match="crop more than the smallest images have"):  # of an expression, no size is known
        forms(conv, Identity()(Value("x", (None, 4, 3, 5))))


def test_a_diagonal_is_a_scale():
    assert written(pointwise(np.diag([1.0, 2, 3, 4, 5, 6]), np.ones(6))) == [["Scale"]]


def test_a_permutation_is_a_selection_and_a_nearly_one_is_not():
    order = [3, 1, 2, 0, 5, 4]
    conv = pointwise(np.eye(6)[order])
    assert selection(conv) == tuple(order)
    assert [form.op for form in forms(conv, images(conv))] == [Select(tuple(order))]
    assert selection(pointwise(0.5 * np.eye(6)[order])) is None
    assert selection(pointwise(np.eye(6)[order], np.ones(6))) is None
    assert selection(pointwise(np.zeros((6, 6)))) is None


def test_a_selection_in_order_is_nothing_at_all():
    assert written(pointwise(np.eye(6))) == [["Identity"]]
    assert written(pointwise(np.eye(6)[:3])) == [["Select 3 channels"]]
    assert written(fully_connected(np.eye(6)), (None, 6)) == [["Identity"]]


def test_a_convolution_without_axes_acts_on_the_last(rng):
    assert written(fully_connected(rng.normal(size=(4, 6))), (None, 3, 6)) == [["Linear 6->4"]]
    conv = fully_connected(np.diag(rng.normal(size=6)), np.ones(6))
    assert written(conv, (None, 6)) == written(conv, (None, 3, 6)) == [["Scale"]]


@pytest.mark.parametrize(
    "geometry", [{"stride": (1, 2)}, {"padding": ((0, 0), (1, 0))}, {"padding": ((0, 2), (0, 0))}], ids=str
)
def test_one_tap_that_strides_or_pads_is_no_selection_and_no_scale(geometry):
    assert written(replace(pointwise(np.eye(6)), **geometry))[0] == ["Conv 6->6 1x1 g6"]
    assert written(replace(pointwise(np.diag([1.0, 2, 3, 4, 5, 6])), **geometry))[0] == ["Conv 6->6 1x1 g6"]


def test_one_tap_an_output_at_different_places_is_no_selection(rng):
    conv = random_conv(rng, 2, 2, 2, bias=False)
    weight = np.zeros((2, 2, 2, 2))
    weight[0, 0, 0, 0] = weight[1, 1, 1, 1] = 1
    assert written(replace(conv, weight=weight))[0] == ["Conv 2->2 2x2 g2"]


def test_a_diagonal_is_a_scale_where_the_last_axis_is_known_to_be_which(rng):
    conv = fully_connected(np.diag(rng.normal(size=6)))
    known, unknown = Value("x", (None, 3, 6)), Value("x", None)
    assert isinstance(forms(conv, known)[0].op, Scale)
    assert forms(conv, Identity()(known))[0].op.axis == 2
    assert isinstance(forms(conv, unknown)[0].op, Linear)
    assert isinstance(forms(conv, Identity()(unknown))[0].op, Linear)
