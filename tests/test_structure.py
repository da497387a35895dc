"""The plainest form of a convolution says the same: what zeros and ones a kernel has decides what it is written as."""

import numpy as np

from repcompiler.algebra import regroup
from repcompiler.ir import Value
from repcompiler.ops import Conv, Pad, Scale, Select
from repcompiler.structure import forms, grouped, selection
from repcompiler.testing import random_conv

x = Value("x", (None, 6, None, None))


def pointwise(matrix, bias=None):
    matrix = np.asarray(matrix, float)
    bias = np.zeros(len(matrix)) if bias is None else bias
    return Conv(matrix.reshape(*matrix.shape, 1, 1), bias, (1, 1), ((0, 0), (0, 0)), (1, 1), 1)


def test_block_diagonal_is_grouped():
    rng = np.random.default_rng(0)
    for groups in (2, 3, 6):
        conv = random_conv(rng, 6, 12, 3, groups=groups)
        dense = Conv(regroup(conv, 1), conv.bias, conv.stride, conv.padding, conv.dilation, 1)
        found = grouped(dense)
        assert found.groups == groups
        assert np.array_equal(found.weight, conv.weight)


def test_grouped_finds_finer_groups_within_groups():
    conv = random_conv(np.random.default_rng(0), 12, 12, 3, groups=6)
    coarse = Conv(regroup(conv, 2), conv.bias, conv.stride, conv.padding, conv.dilation, 2)
    assert grouped(coarse).groups == 6
    assert np.array_equal(grouped(coarse).weight, conv.weight)


def test_one_number_off_the_diagonal_keeps_it_dense():
    matrix = np.eye(6)
    matrix[0, 5] = 1e-30
    assert grouped(pointwise(matrix)).groups == 1


def test_a_diagonal_is_a_scale():
    assert isinstance(forms(pointwise(np.diag([1.0, 2, 3, 4, 5, 6]), np.ones(6)), x)[0].op, Scale)


def test_a_permutation_is_a_selection_and_a_nearly_one_is_not():
    order = [3, 1, 2, 0, 5, 4]
    term = forms(pointwise(np.eye(6)[order]), x)[0]
    assert term.op == Select(tuple(order))
    assert selection(pointwise(0.5 * np.eye(6)[order])) is None
    assert selection(pointwise(np.eye(6)[order], np.ones(6))) is None
    assert selection(pointwise(np.zeros((6, 6)))) is None


def test_negative_padding_is_a_crop_of_its_own():
    conv = random_conv(np.random.default_rng(0), 6, 6, 3, padding=((-1, 2), (0, 0)))
    term = forms(conv, x)[0]
    assert term.op.padding == ((0, 2), (0, 0))
    assert term.operands[0].op == Pad(((-1, 0), (0, 0)))
