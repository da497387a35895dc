"""Shifts along pixels that are written into zeros: padded slices, which merge as all paddings do."""

import pytest
import torch
from torch import nn
from torch_blocks import Call


def one(m, x):
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    return y


def four(m, x):
    """Each group of channels in its own direction (S2-MLP, AS-MLP, shift networks)."""
    _, channels, _, _ = x.shape
    g = channels // 4
    y = torch.zeros_like(x)
    y[:, 0 * g : 1 * g, :, :-1] = x[:, 0 * g : 1 * g, :, 1:]
    y[:, 1 * g : 2 * g, :, 1:] = x[:, 1 * g : 2 * g, :, :-1]
    y[:, 2 * g : 3 * g, :-1, :] = x[:, 2 * g : 3 * g, 1:, :]
    y[:, 3 * g :, 1:, :] = x[:, 3 * g :, :-1, :]
    return y


def some_stay(m, x):
    y = torch.zeros_like(x)
    y[:, :2, :-1, 1:] = x[:, 1:3, 1:, :-1]
    y[:, 2:] = x[:, 2:]
    return y


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("shift", [one, four, some_stay])
def test_a_shift_is_one_convolution_with_what_stands_around_it(plain, shift, example):
    block = Call(
        lambda m, x: m.point(shift(m, m.first(x))) + m.wide(m.first(x)),
        first=nn.Conv2d(4, 4, 1, bias=False), point=nn.Conv2d(4, 4, 1), wide=nn.Conv2d(4, 4, 3, padding=1),
    )  # fmt: skip
    assert plain(block, example=example) == "Conv2d"


def by_two(m, x):
    """Of one pixel, nothing is left to write: a padding would make two of it."""
    y = torch.zeros_like(x)
    y[:, :, 2:] = x[:, :, :-2]
    return y


def twice(m, x):
    y = torch.zeros_like(x)
    y[:, :3, 1:] = x[:, :3, :-1]
    y[:, 2:, :, 1:] = x[:, 2:, :, :-1]
    return y


def filled_before(m, x):
    y = torch.zeros_like(x)
    y[:, 1] += 3
    y[:, :, 1:] = x[:, :, :-1]
    return y


def ones(m, x):
    y = torch.ones_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    return y


def of_another(m, x):
    y = torch.zeros_like(x)
    y[:, :, 1:] = m.wide(x)[:, :, :1]
    return y


def itself(m, x):
    y = torch.zeros_like(x)
    y[:, :2] = x[:, :2]
    y[:, 2:, 1:] = y[:, :2, :-1]
    return y


def channels_are_copied(m, x):
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :1, :-1]
    return y


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("shift", [by_two, twice, filled_before, ones, of_another, itself, channels_are_copied])
def test_what_is_no_shift_computes_what_it_did(exactly, calls, shift, example):
    block = Call(lambda m, x: m.point(shift(m, x)), point=nn.Conv2d(4, 4, 1), wide=nn.Conv2d(4, 4, 3, padding=1))
    result, _ = exactly(block, example=example)
    assert "setitem" in calls(result)
    assert "pad" not in calls(result).split() or shift is twice


def erased(m, x):
    """The last row; and a channel that nothing is written to."""
    y = torch.zeros_like(x)
    y[:, 1:, :-1] = x[:, 1:, :-1]
    return y


@pytest.mark.parametrize("example", [True, False])
def test_rows_and_channels_that_stay_zero_do(exactly, calls, example):
    result, _ = exactly(Call(lambda m, x: m.point(erased(m, x)), point=nn.Conv2d(4, 4, 1)), example=example)
    assert "setitem" not in calls(result)


def test_by_two_pixels_of_a_known_size(plain):
    assert plain(Call(lambda m, x: m.point(by_two(m, x)), point=nn.Conv2d(4, 4, 1)), shape=(2, 4, 5, 6)).count("Conv2d") == 1
