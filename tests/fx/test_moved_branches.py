"""Branches of networks for super-resolution that each end in a pixel shuffle, and others whose numbers are moved alike."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_blocks import Call, pair

BRANCHES = {"wide": nn.Sequential(*pair(8, 3), nn.PixelShuffle(2)), "narrow": nn.Sequential(*pair(8, 1), nn.PixelShuffle(2))}


@pytest.mark.parametrize("example", [True, False])
def test_shuffled_branches_are_one(plain, example):
    block = Call(lambda m, x: m.wide(x) - m.narrow(x), **BRANCHES)
    assert plain(block, channels=8, example=example) == "Conv2d pixel_shuffle"


def test_with_a_skip_that_is_shuffled_itself(plain):
    block = Call(lambda m, x: m.wide(x) + F.pixel_shuffle(x, 2) + m.narrow(x), **BRANCHES)
    assert plain(block, channels=8) == "Conv2d pixel_shuffle"


@pytest.mark.parametrize(
    ("move", "becomes"),
    [
        (lambda x: x.permute(0, 2, 3, 1), "Conv2d permute ReLU"),
        (lambda x: x[:, 2:5], "Conv2d ReLU"),
    ],
)
def test_branches_that_are_moved_alike_are_one(plain, move, becomes):
    block = Call(lambda m, x: m.act(move(m.one(x)) + move(m.other(x))), one=pair(k=3), other=pair(k=1), act=nn.ReLU())
    assert plain(block) == becomes


def test_extents_that_are_free_may_differ(plain):
    block = Call(lambda m, x: m.one(x).flatten(2) + m.other(x).flatten(2), one=pair(k=3), other=pair(k=1))
    assert plain(block) == "Conv2d flatten Conv2d flatten add"


def test_what_is_flattened_from_images_of_other_extents_is_added_behind(plain):
    def forward(m, x):
        return m.one(x).flatten(1) + m.other(x).flatten(1)

    block = Call(forward, one=nn.Conv2d(4, 2, 1), other=nn.Conv2d(4, 8, 2, stride=2))
    assert plain(block, shape=(2, 4, 6, 8)).count("flatten") == 2


def test_one_that_is_read_elsewhere_stays(plain):
    block = Call(lambda m, x: ((y := m.wide(x)) + m.narrow(x), torch.sigmoid(y)), **BRANCHES)
    assert plain(block, channels=8).count("PixelShuffle") == 2
