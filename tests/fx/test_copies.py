"""Copies of channels along a new axis that is flattened into them: choices of channels."""

import pytest
import torch
from torch import nn
from torch_blocks import Call


def pixels(y):
    return y.shape[-2:]


COPIES = {
    "expand behind": lambda y: y.unsqueeze(2).expand(y.shape[0], 4, 3, *pixels(y)).flatten(1, 2),
    "expand before": lambda y: y.unsqueeze(1).expand(-1, 3, -1, -1, -1).reshape(y.size(0), 12, y.size(2), y.size(3)),
    "by an index": lambda y: y[:, :, None].expand(-1, -1, 3, -1, -1).contiguous().view(y.size(0), -1, *pixels(y)),
    "repeat behind": lambda y: y.unsqueeze(2).repeat(1, 1, 3, 1, 1).flatten(1, 2),
    "repeat before": lambda y: y[:, None].repeat(1, 3, 1, 1, 1).flatten(1, 2),
    "repeat of the channels": lambda y: y.repeat(1, 3, 1, 1),
}


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("name", COPIES)
def test_copies_along_a_new_axis_are_copies_of_channels(plain, name, example):
    block = Call(lambda m, x: m.last(COPIES[name](m.first(x))), first=nn.Conv2d(4, 4, 3), last=nn.Conv2d(12, 4, 1))
    assert plain(block, example=example).split()[-1] == "Conv2d"
    assert plain(block, example=example).count("Conv2d") == 1


OTHERS = {
    "along a new axis behind the image": lambda y: y.unsqueeze(4).expand(-1, -1, -1, -1, 3).flatten(3, 4),
    "along a new axis before the batch": lambda y: y.unsqueeze(0).expand(3, -1, -1, -1, -1).flatten(0, 1),
    "along two axes": lambda y: y.unsqueeze(2).repeat(1, 2, 3, 1, 1).flatten(1, 2)[:, :4],
    "of an axis they had": lambda y: y.view(y.size(0), 2, 2, *pixels(y)).repeat(1, 1, 2, 1, 1).flatten(1, 2)[:, :4],
    "written to after": lambda y: (u := y.unsqueeze(2), y.mul_(2), u.repeat(1, 1, 3, 1, 1).flatten(1, 2)[:, 2:6])[-1],
    "kept apart": lambda y: y.unsqueeze(2).expand(-1, -1, 3, -1, -1).exp().sum(2),
}


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("name", OTHERS)
def test_other_copies_are_what_they_were(exactly, name, example):
    block = Call(lambda m, x: m.last(OTHERS[name](m.first(x))), first=nn.Conv2d(4, 4, 3, padding=1), last=nn.Conv2d(4, 4, 1))
    exactly(block, example=example)


def test_a_tensor_is_flattened_back_only_where_it_was_copied(exactly):
    exactly(Call(lambda m, x: m.last(torch.cat([x[:, None]] * 2, 1).flatten(1, 2)), last=nn.Conv2d(8, 4, 1)))
