"""Channels in another order, and axes put elsewhere."""

import pytest
import torch
from torch import nn
from torch_blocks import Call


def between(function):
    """A function of what a convolution and its norm make, before another convolution."""
    before, after = nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6)), nn.Conv2d(6, 4, 1)
    return Call(lambda m, x: m.after(function(m.before(x))), before=before, after=after)


CHOICES = {
    "flip": lambda x: x.flip(1),
    "torch.flip": lambda x: torch.flip(x, dims=[-3]),
    "a list": lambda x: x[:, [2, 0, -1, 1, 4, 3]],
    "a list, and all pixels": lambda x: x[:, [2, 0, -1, 1, 4, 3], :, :],
    "a list before an ellipsis": lambda x: x[:, [2, 0, -1, 1, 4, 3], ...],
    "a vector": lambda x: x[:, torch.tensor([2, 0, -1, 1, 4, 3])],
    "index_select": lambda x: x.index_select(1, torch.tensor([2, 0, 5, 1, 4, 3])),
    "hsplit": lambda x: torch.cat(torch.hsplit(x, 3)[::-1], 1),
    "hsplit at places": lambda x: torch.cat([*x.hsplit([2, 3])][::-1], 1),
}


@pytest.mark.parametrize("name", CHOICES)
def test_channels_in_another_order_disappear_between_convolutions(plain, name):
    assert plain(between(CHOICES[name])) == "Conv2d"


@pytest.mark.parametrize(
    "function", [lambda x: x.flip(2), lambda x: x.flip(1, 3), lambda x: x.flip((1, 2)), lambda x: x.flip([])]
)
def test_a_flip_of_more_than_channels_is_left(plain, function):
    assert "flip" in plain(between(function)).split()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, torch.tensor([True, False, True, False, True, True])],
        lambda x: x[:, torch.tensor([[2, 0], [1, 3]])],
        lambda x: x[:, [0, 1], [0, 0]],
        lambda x: x[[0, 0]],
        lambda x: x.index_select(3, torch.tensor([0])),
    ],
)
def test_other_indices_compute_what_they_did(exactly, function):
    model = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6))
    exactly(Call(lambda m, x: function(m.before(x)), before=model))


COPIES = {
    "repeat": (4, lambda x: x.repeat(1, 2, 1, 1)),
    "repeat, a list": (4, lambda x: x.repeat([1, 2, 1, 1])),
    "tile": (4, lambda x: torch.tile(x, (2, 1, 1))),
    "repeat_interleave": (4, lambda x: torch.repeat_interleave(x, 2, dim=1)),
    "repeat_interleave from behind": (4, lambda x: x.repeat_interleave(repeats=2, dim=-3)),
    "expand": (1, lambda x: x.expand(-1, 8, -1, -1)),
    "expand to a size": (1, lambda x: x.expand(torch.Size([-1, 8, -1, -1]))),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_channels_merge_with_what_they_are_added_to(plain, name):
    """Du et al., ABPN, CVPRW 2021: what is enlarged by a pixel shuffle is added to copies of the image."""
    channels, function = COPIES[name]
    model = Call(lambda m, x: m.conv(x) + function(x), conv=nn.Conv2d(channels, 8, 3, padding=1))
    assert plain(model, channels=channels) == "Conv2d"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.repeat(1, 1, 2, 1),
        lambda x: x.repeat(2, 1, 1, 1, 1),
        lambda x: torch.repeat_interleave(x, 2, dim=3),
        lambda x: torch.repeat_interleave(x, 2),
        lambda x: torch.repeat_interleave(x, torch.tensor([1, 2, 1, 0, 1, 1]), dim=1),
        lambda x: x[:, :1].expand(2, -1, 6, -1, -1),
    ],
)
def test_copies_of_anything_else_compute_what_they_did(exactly, function):
    model = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6))
    exactly(Call(lambda m, x: function(m.before(x)), before=model))


MOVES = {
    "to the end": lambda x, f: f(x.movedim(1, -1)).movedim(-1, 1),
    "moveaxis": lambda x, f: torch.moveaxis(f(torch.moveaxis(x, source=1, destination=3)), 3, 1),
    "several": lambda x, f: f(x.movedim((1, 2), (3, 1))).movedim((1, 3), (2, 1)),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_layer_between_moved_axes_is_a_pointwise_convolution(plain, name):
    class Moved(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)

        def forward(self, x):
            return self.conv(x) + MOVES[name](x, self.linear)

    assert plain(Moved()) == "Conv2d"
