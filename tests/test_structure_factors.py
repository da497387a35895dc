"""Kernels that are outer products, and those with equal rows: two thin ones, and one of each row."""

from dataclasses import replace

import numpy as np
import pytest

from repcompiler.structure import distinct, factors
from repcompiler.testing import assert_equivalent, build, random_conv

EPS = np.finfo(np.float64).eps


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def factored(conv, into=factors):
    """The pairs of operations it is found to be; asserts that each pair computes what the convolution does."""
    shape = (None, conv.in_channels, *(None,) * len(conv.stride))
    pairs = list(into(conv))
    for first, second in pairs:
        assert_equivalent(build(conv, x=shape), build(lambda x, first=first, second=second: second(first(x)), x=shape))
    return [(str(first), str(second)) for first, second in pairs]


def test_an_outer_product_is_a_thin_kernel_and_a_depthwise_one(rng):
    conv = random_conv(rng, 6, 6, (3, 2), stride=(1, 2), padding=((2, 0), (1, 1)), dilation=(2, 1))
    column, row = rng.normal(size=(6, 6, 3, 1)), rng.normal(size=(6, 1, 1, 2))
    conv = replace(conv, weight=column * row)
    assert factored(conv) == [("Conv 6->6 3x1", "Conv 6->6 1x2 g6")]
    [(thin, depthwise)] = factors(conv)  # each has the geometry of its own axes
    assert (thin.stride, thin.padding, thin.dilation) == ((1, 1), ((2, 0), (0, 0)), (2, 1))
    assert (depthwise.stride, depthwise.padding, depthwise.dilation) == ((1, 2), ((0, 0), (1, 1)), (1, 1))


def test_one_kernel_for_all_inputs_is_pointwise_then_depthwise(rng):
    conv = replace(random_conv(rng, 6, 4, 3, padding=1), weight=rng.normal(size=(4, 6, 1, 1)) * rng.normal(size=(4, 1, 3, 3)))
    assert factored(conv) == [("Conv 6->4 1x1", "Conv 4->4 3x3 g4")]


def test_a_depthwise_outer_product_is_thin_either_way_first(rng):
    conv = random_conv(rng, 6, 6, 3, padding=1, groups=6)
    assert not list(factors(conv))
    conv = replace(conv, weight=rng.normal(size=(6, 1, 3, 1)) * rng.normal(size=(6, 1, 1, 3)))
    assert factored(conv) == [
        ("Conv 6->6 1x3 g6", "Conv 6->6 3x1 g6"),
        ("Conv 6->6 3x1 g6", "Conv 6->6 1x3 g6"),
    ]


def test_one_output_of_many_inputs_is_no_depthwise_kernel(rng):
    conv = random_conv(rng, 6, 1, 3, padding=1)
    conv = replace(conv, weight=rng.normal(size=(1, 6, 1, 1)) * rng.normal(size=(1, 1, 3, 3)))
    assert factored(conv) == [("Conv 6->1 1x1", "Conv 1->1 3x3")]


def test_an_output_that_reads_nothing_is_an_outer_product_too(rng):
    weight = rng.normal(size=(4, 6, 3, 1)) * rng.normal(size=(4, 1, 1, 3))
    weight[2] = 0
    conv = replace(random_conv(rng, 6, 4, 3, padding=1), weight=weight)
    assert factored(conv) == [("Conv 6->4 3x1", "Conv 4->4 1x3 g4")]


@pytest.mark.parametrize("scale", [1.0, -8.0])
def test_an_outer_product_may_be_off_by_4_eps_of_its_largest_number(rng, scale):
    def product(off):
        weight = np.ones((2, 1, 2, 2))
        weight[1, 0, 1, 1] -= off * EPS
        return replace(random_conv(rng, 2, 2, 2, groups=2), weight=scale * weight)

    assert len(list(factors(product(4)))) == 2
    assert not list(factors(product(4.5)))


def test_outer_products_in_three_dimensions_are_found_along_any_axes(rng):
    conv = random_conv(rng, 4, 4, (2, 3, 2), padding=1)
    conv = replace(conv, weight=rng.normal(size=(4, 4, 2, 1, 2)) * rng.normal(size=(4, 1, 1, 3, 1)))
    assert factored(conv) == [("Conv 4->4 2x1x2", "Conv 4->4 1x3x1 g4")]


def test_equal_outputs_are_computed_once(rng):
    conv = random_conv(rng, 6, 3, 3)
    index = [0, 1, 0, 2, 1]
    conv = replace(conv, weight=conv.weight[index], bias=conv.bias[index])
    assert factored(conv, distinct) == [("Conv 6->3 3x3", "Select 5 channels")]
    [(kept, select)] = distinct(conv)
    assert select.index == (0, 1, 0, 2, 1)
    assert np.array_equal(kept.weight[list(select.index)], conv.weight)


def test_equal_outputs_of_one_number_are_computed_once(rng):
    conv = random_conv(rng, 1, 2, 1)
    conv = replace(conv, weight=conv.weight[[0, 1, 1]], bias=conv.bias[[0, 1, 1]])
    assert factored(conv, distinct) == [("Conv 1->2 1x1", "Select 3 channels")]


def test_outputs_that_differ_in_the_bias_or_in_one_number_are_not_equal(rng):
    conv = random_conv(rng, 6, 2, 3)
    conv = replace(conv, weight=conv.weight[[0, 0]])
    assert not list(distinct(conv))
    conv = replace(conv, bias=conv.bias[[0, 0]])
    assert list(distinct(conv))
    conv.weight[1, -1, -1, -1] += 1
    assert not list(distinct(conv))
