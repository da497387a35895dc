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
}


@pytest.mark.parametrize("name", CHOICES)
def test_channels_in_another_order_disappear_between_convolutions(plain, name):
    assert plain(between(CHOICES[name])) == "Conv2d"


@pytest.mark.parametrize(
    "function", [lambda x: x.flip(2), lambda x: x.flip(1, 3), lambda x: x.flip((1, 2)), lambda x: x.flip([])]
)
def test_a_flip_of_more_than_channels_is_left(plain, function):
    assert "flip" in plain(between(function)).split()


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
