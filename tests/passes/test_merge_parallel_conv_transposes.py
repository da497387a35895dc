from inspect import cleandoc

import pytest

from repcompiler.ops import Sum
from repcompiler.passes.merge_parallel_conv_transposes import merge_parallel_conv_transposes
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv_transpose, relu

IMAGE = (None, 8, None, None)


def test_two_branches_become_one_conv_transpose(rng):
    dense = random_conv_transpose(rng, 8, 4, 3, stride=2, padding=1, output_padding=1)
    grouped = random_conv_transpose(rng, 8, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
    graph = build(lambda x: Sum((1, -1))(dense(x), grouped(x)), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %convtranspose1 = ConvTranspose(%x) 8->4 3x3 stride=2 padding=1 output_padding=1 bias : [?, 4, ?, ?]
          %convtranspose2 = ConvTranspose(%x) 8->4 3x3 stride=2 padding=1 output_padding=1 groups=2 bias : [?, 4, ?, ?]
          %y = Sub(%convtranspose1, %convtranspose2) : [?, 4, ?, ?]
          return %y
    """)
    check_pass(merge_parallel_conv_transposes, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %y = ConvTranspose(%x) 8->4 3x3 stride=2 padding=1 output_padding=1 bias : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (-1, -1)])
def test_signs_go_into_the_kernels_in_one_and_three_dimensions(rng, signs):
    for kernel in ((4,), (2, 3, 2)):
        first, second = (random_conv_transpose(rng, 8, 4, kernel, stride=2, groups=4) for _ in range(2))
        graph = build(lambda x: Sum(signs)(first(x), second(x)), x=(None, 8, *(None,) * len(kernel)))  # noqa: B023
        assert len(check_pass(merge_parallel_conv_transposes, graph).steps) == 1


def test_kernels_of_other_sizes_that_both_double_the_image_become_one(rng):
    wide, narrow = random_conv_transpose(rng, 8, 4, 4, stride=2, padding=1), random_conv_transpose(rng, 8, 4, 2, stride=2)
    graph = build(lambda x: Sum((1, 1))(wide(x), narrow(x)), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %convtranspose1 = ConvTranspose(%x) 8->4 4x4 stride=2 padding=1 bias : [?, 4, ?, ?]
          %convtranspose2 = ConvTranspose(%x) 8->4 2x2 stride=2 bias : [?, 4, ?, ?]
          %y = Add(%convtranspose1, %convtranspose2) : [?, 4, ?, ?]
          return %y
    """)
    check_pass(merge_parallel_conv_transposes, graph, "latency")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %y = ConvTranspose(%x) 8->4 4x4 stride=2 padding=1 bias : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize(
    ("other", "merged"),
    [
        ({"kernel_size": 5, "padding": 2, "output_padding": 1}, "5x5 stride=2 padding=2 output_padding=1"),
        ({"kernel_size": 2}, "3x3 stride=2 padding=1 output_padding=1"),
        ({"kernel_size": 6, "padding": 2}, "6x6 stride=2 padding=2"),
        ({"kernel_size": 3, "padding": 2, "dilation": 2, "output_padding": 1}, "5x5 stride=2 padding=2 output_padding=1"),
        ({"kernel_size": 3, "padding": ((2, 0), (1, 1)), "output_padding": 1}, "4x3 stride=2 padding=2:0x1 output_padding=0x1"),
        ({"kernel_size": 3, "padding": ((0, 1), (1, 0))}, "4x3 stride=2 padding=1 output_padding=0x1"),
        ({"kernel_size": (1, 4), "padding": (0, 1), "output_padding": (1, 0)}, "3x4 stride=2 padding=1 output_padding=1x0"),
    ],
)
def test_any_geometry_with_results_of_the_same_size_merges(rng, other, merged):
    first = random_conv_transpose(rng, 8, 4, 3, stride=2, padding=1, output_padding=1)
    second = random_conv_transpose(rng, 8, 4, stride=2, **other)
    graph = build(lambda x: Sum((1, 1))(first(x), second(x)), x=IMAGE)
    assert len(check_pass(merge_parallel_conv_transposes, graph).steps) == 1
    assert f"ConvTranspose(%x) 8->4 {merged} bias" in render(graph)


def test_results_of_other_size_that_are_broadcast_are_refused(rng):
    first, second = random_conv_transpose(rng, 8, 4, 3, stride=2), random_conv_transpose(rng, 8, 4, 1, stride=2)
    graph = build(lambda x: Sum((1, 1))(first(x), second(x)), x=(None, 8, 1, 1))
    log = check_pass(merge_parallel_conv_transposes, graph)
    assert not log.steps
    assert log.declined[0].reason == "the branches' outputs differ in size"


def test_strides_that_make_the_same_size_of_one_pixel_are_refused(rng):
    first, second = random_conv_transpose(rng, 8, 4, 3, stride=2), random_conv_transpose(rng, 8, 4, 3, stride=(2, 1))
    graph = build(lambda x: Sum((1, 1))(first(x), second(x)), x=(None, 8, 1, 1))
    log = check_pass(merge_parallel_conv_transposes, graph)
    assert not log.steps
    assert log.declined[0].reason == "the branches have strides (2, 2) and (2, 1)"


def test_taps_that_would_not_pay_are_refused(rng):
    """Two taps far apart on no common lattice but that of single pixels."""
    first, second = (random_conv_transpose(rng, 8, 4, 2, stride=2, dilation=d, padding=p) for d, p in ((7, 3), (13, 6)))
    log = check_pass(merge_parallel_conv_transposes, build(lambda x: Sum((1, 1))(first(x), second(x)), x=IMAGE), "latency")
    assert not log.steps
    assert log.declined[0].ground == "cost"


def test_branch_of_one_channel_that_is_broadcast_is_refused(rng):
    first, second = random_conv_transpose(rng, 8, 4, 3), random_conv_transpose(rng, 8, 1, 3)
    log = check_pass(merge_parallel_conv_transposes, build(lambda x: Sum((1, 1))(first(x), second(x)), x=IMAGE))
    assert not log.steps
    assert log.declined[0].reason == "the branches have different channel counts"


def test_branches_of_two_inputs_are_no_match(rng):
    first, second = (random_conv_transpose(rng, 8, 4, 3) for _ in range(2))
    graph = build(lambda x, z: Sum((1, 1))(first(x), second(relu(z))), x=IMAGE, z=IMAGE)
    log = check_pass(merge_parallel_conv_transposes, graph)
    assert not log.steps
    assert not log.declined
