"""A widened layer computes what its two parts do, each on its own channels, whatever the order of these."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.algebra import is_diagonal
from repcompiler.meaning import meaning
from repcompiler.testing import random_conv
from repcompiler.widening import chosen, interleaved, live, recoded, widened


def as_torch(op):
    return type(op)(torch.tensor(op.weight), torch.tensor(op.bias), op.stride, op.padding, op.dilation, op.groups)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_both_parts_are_computed_side_by_side(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    first, last = data.draw(st.sampled_from([(True, False), (False, False), (False, True)]))
    orders = data.draw(st.sampled_from([(1, 1), (4, 4), (1, 4), (4, 1)]))
    inputs, outputs, groups, others = data.draw(st.sampled_from([(4, 4, 4, 4), (4, 8, 4, 4), (8, 4, 1, 2), (8, 8, 8, 8)]))
    reserved = (inputs if first else 8, outputs if last else 8)
    conv = random_conv(rng, inputs, outputs, 3, padding=1, groups=groups)
    other = random_conv(rng, *reserved, 1, groups=others)
    x = rng.normal(size=(2, inputs + (0 if first else 8), 5, 4))
    own, rest = (x, x) if first else (x[:, :inputs], x[:, inputs:])
    parts = meaning(conv, own), meaning(other, rest)
    expected = parts[0] + parts[1] if last else np.concatenate(parts, 1)[:, interleaved(outputs, 8, orders[1])]
    layer = widened(conv, other, orders, first, last)
    wide = layer.conv()
    assert (wide.weight.shape, wide.bias.shape, wide.groups) == (
        layer.outline.weight.shape,
        layer.outline.bias.shape,
        layer.outline.groups,
    )
    given = x if first else x[:, interleaved(inputs, 8, orders[0])]
    np.testing.assert_allclose(meaning(wide, given), expected, atol=1e-12)
    live_weight = widened(as_torch(conv), as_torch(other), orders, first, last).conv().weight
    np.testing.assert_array_equal(np.asarray(live_weight), wide.weight)


def test_a_depthwise_layer_makes_two_channels_of_each_or_one_of_two(rng):
    depthwise, identity = random_conv(rng, 6, 6, 3, padding=1, groups=6), random_conv(rng, 6, 6, 1, groups=6)
    assert is_diagonal(identity)
    assert widened(depthwise, identity, (1, 6), first=True).outline.weight.shape == (12, 1, 3, 3)
    assert widened(depthwise, identity, (6, 1), last=True).outline.weight.shape == (6, 2, 3, 3)
    assert widened(depthwise, identity, (6, 6)).outline.weight.shape == (12, 1, 3, 3)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_signs_are_neighbours_and_groups_stay(rng, groups):
    op = random_conv(rng, 4, 8, 3, groups=groups)
    x = rng.normal(size=(2, 4, 5, 6))
    signs = np.array([1.0, -1.0])
    pairs = (np.repeat(x, 2, axis=1).reshape(2, 4, 2, 5, 6) * (signs[:, None, None] * 0.5 + 3.0)).reshape(2, 8, 5, 6)
    y = meaning(op, x)
    assert recoded(op, 1.0, True).groups == groups
    np.testing.assert_allclose(meaning(recoded(op, 0.0, True), x)[:, 0::2], y)
    np.testing.assert_allclose(meaning(recoded(op, 0.0, True), x)[:, 1::2], -y)
    np.testing.assert_allclose(meaning(recoded(op, 1.0, False), pairs), y)


def test_what_is_zero_is_left_out(rng):
    op = random_conv(rng, 4, 6, 3)
    op.weight[[0, 2]] = op.weight[:, 3] = 0.0
    op.bias[2] = 0.0
    rows, columns = live(op, 0), live(op, 1)
    assert (rows, columns) == ([0, 1, 3, 4, 5], [0, 1, 2])
    x = rng.normal(size=(1, 4, 5, 6))
    np.testing.assert_allclose(meaning(chosen(op, rows, columns), x[:, :3]), meaning(op, x)[:, rows])
    assert live(as_torch(op), 0) is None


@pytest.fixture
def rng():
    return np.random.default_rng(0)
