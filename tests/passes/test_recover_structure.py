from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repcompiler.algebra import float64, insert_zeros, pad_axis, regroup
from repcompiler.passes import PASSES
from repcompiler.passes.recover_structure import recover_structure
from repcompiler.testing import build, check_pass, random_conv

IMAGE = (None, 8, None, None)


def after(conv, objective="macs", passes=recover_structure):
    graph = build(lambda x: conv(x), x=(None, conv.in_channels, *(None,) * len(conv.stride)))
    check_pass(passes, graph, objective)
    return graph


def shown(graph):
    return [str(node.op) for node in graph.nodes]


def convs(graph):
    return [node.op for node in graph.nodes if hasattr(node.op, "dilation")]


def test_a_block_diagonal_kernel_is_grouped(rng):
    grouped = random_conv(rng, 8, 16, 3, padding=1, groups=4)
    graph = after(replace(grouped, weight=regroup(grouped, 1), groups=1))
    assert shown(graph) == ["Conv 8->16 3x3 g4"]


def test_blocks_in_another_order_of_channels_are_grouped_between_selections(rng):
    grouped = random_conv(rng, 32, 64, 3, padding=1, groups=4)
    rows, columns = rng.permutation(64), rng.permutation(32)
    shuffled = replace(grouped, weight=regroup(grouped, 1)[rows][:, columns], bias=grouped.bias[rows], groups=1)
    assert shown(after(shuffled)) == ["Select 32 channels", "Conv 32->64 3x3 g4", "Select 64 channels"]


@pytest.mark.parametrize(("padding", "plain"), [(3, 1), (2, 0)])
def test_a_frame_of_zeros_is_cropped_and_the_padding_with_it(rng, padding, plain):
    conv = random_conv(rng, 8, 8, 3, padding=plain, stride=2)
    weight = pad_axis(pad_axis(conv.weight, 2, 2, 2), 3, 2, 2)
    (found,) = convs(after(replace(conv, weight=weight, padding=((padding, padding),) * 2)))
    assert found.kernel_size == (3, 3)
    assert found.padding == ((plain, plain),) * 2


def test_a_frame_that_no_padding_makes_up_for_is_a_crop_of_the_image(rng):
    conv = random_conv(rng, 8, 8, 1)
    weight = pad_axis(pad_axis(conv.weight, 2, 2, 2), 3, 2, 2)
    assert shown(after(replace(conv, weight=weight))) == ["Pad", "Conv 8->8 1x1"]


def test_zeros_on_a_lattice_are_dilation(rng):
    conv = random_conv(rng, 8, 8, 3, padding=2)
    (found,) = convs(after(replace(conv, weight=insert_zeros(float64(conv.weight), (2, 1)))))
    assert found.kernel_size == (3, 3)
    assert found.dilation == (2, 1)


def test_an_outer_product_is_two_thin_kernels(rng):
    column, row = rng.normal(size=(8, 8, 7, 1)), rng.normal(size=(8, 1, 1, 7))
    conv = replace(random_conv(rng, 8, 8, 7, padding=3, stride=2), weight=column * row)
    graph = after(conv)
    assert sorted(found.kernel_size for found in convs(graph)) == [(1, 7), (7, 1)]
    assert [found.groups for found in convs(graph)] == [1, 8]


def test_one_kernel_for_all_inputs_is_pointwise_then_depthwise(rng):
    conv = replace(random_conv(rng, 16, 8, 3, padding=1), weight=rng.normal(size=(8, 16, 1, 1)) * rng.normal(size=(8, 1, 3, 3)))
    assert shown(after(conv)) == ["Conv 16->8 1x1", "Conv 8->8 3x3 g8"]


def test_a_kernel_that_is_nearly_an_outer_product_stays(rng):
    weight = rng.normal(size=(8, 8, 3, 1)) * rng.normal(size=(8, 1, 1, 3))
    weight[5, 2, 0, 0] *= 1 + 1e-12
    assert shown(after(replace(random_conv(rng, 8, 8, 3), weight=weight))) == ["Conv 8->8 3x3"]


def test_equal_output_channels_are_computed_once(rng):
    conv = random_conv(rng, 8, 4, 3, padding=1)
    index = [0, 1, 2, 3, 3, 2, 1, 0, 0, 0, 0, 0]
    repeated = replace(conv, weight=conv.weight[index], bias=conv.bias[index])
    assert shown(after(repeated)) == ["Conv 8->4 3x3", "Select 12 channels"]
    other = replace(repeated, bias=np.arange(12.0))
    assert shown(after(other)) == ["Conv 8->12 3x3"]


def test_what_another_pass_widened_comes_out_as_it_was(rng):
    conv = random_conv(rng, 8, 8, 3, padding=1, groups=8)
    wide = replace(conv, weight=pad_axis(pad_axis(regroup(conv, 1), 2, 1, 1), 3, 1, 1), groups=1, padding=((2, 2), (2, 2)))
    for objective in ("latency", "macs", "params", "plain"):
        (found,) = convs(after(wide, objective, PASSES))
        assert (found.groups, found.kernel_size, found.padding) == (8, (3, 3), conv.padding)


def test_a_kernel_without_structure_stays_as_it_is(rng):
    for conv in (random_conv(rng, 8, 8, 3, padding=1), random_conv(rng, 8, 8, 3, groups=8), random_conv(rng, 8, 4, 1)):
        assert convs(after(conv)) == [conv]


def test_a_kernel_of_zeros_stays_exact(rng):
    conv = random_conv(rng, 8, 8, 3, padding=1)
    after(replace(conv, weight=0 * conv.weight), "macs")
    after(replace(conv, weight=0 * conv.weight), "plain", PASSES)


@given(st.data())
def test_any_zeros_and_repetitions_are_taken_exactly(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    axes = data.draw(st.integers(1, 3))
    each = st.tuples(*(st.integers(1, 3) for _ in range(axes)))
    kernel, dilation = data.draw(st.tuples(*(st.sampled_from([1, 3, 4, 5]) for _ in range(axes)))), data.draw(each)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]  # padded at least so much: no image is too small
    before = [data.draw(st.integers(0, pixels)) for pixels in reach]
    after_ = [pixels - b + data.draw(st.integers(0, 2)) for pixels, b in zip(reach, before, strict=True)]
    conv = random_conv(
        rng,
        4,
        data.draw(st.sampled_from([4, 6, 8])),
        kernel,
        stride=data.draw(each),
        padding=tuple(zip(before, after_, strict=True)),
        dilation=dilation,
        groups=data.draw(st.sampled_from([1, 2])),
    )
    weight = conv.weight.copy()
    for axis in range(weight.ndim):
        kept = data.draw(st.sets(st.integers(0, weight.shape[axis] - 1), min_size=1))
        if data.draw(st.booleans()):
            gone = [index for index in range(weight.shape[axis]) if index not in kept]
            weight[(slice(None),) * axis + (gone,)] = 0
    rows = data.draw(st.lists(st.integers(0, conv.out_channels - 1), min_size=conv.out_channels, max_size=conv.out_channels))
    if conv.groups == 1:
        weight = weight[rows]
    after(replace(conv, weight=weight), data.draw(st.sampled_from(["macs", "params", "latency", "plain"])))
