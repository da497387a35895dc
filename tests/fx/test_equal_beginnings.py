"""What a forward computes twice is computed once, so that branches that begin with an activation of their own merge."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_blocks import pair


class Cell(nn.Module):
    """Operations of a searched cell on one state, each with the activation before its convolution."""

    def __init__(self, before, mirrored):
        super().__init__()
        self.wide, self.narrow, self.before, self.mirrored = pair(k=3), pair(k=1), before, mirrored

    def forward(self, x):
        return self.wide(self.before(x)) + self.narrow(self.mirrored(x))


@pytest.mark.parametrize(
    ("before", "becomes"),
    [
        (F.relu, "relu Conv2d"),
        (nn.ReLU(), "ReLU Conv2d"),
        (torch.sigmoid, "sigmoid Conv2d"),
        (lambda x: F.max_pool2d(x, 3, 1, 1), "max_pool2d Conv2d"),
        (lambda x: x.transpose(2, 3), "transpose Conv2d"),
    ],
    ids=["function", "module", "sigmoid", "pooling", "transposition"],
)
def test_branches_that_begin_with_the_same_operation_merge(plain, before, becomes):
    assert plain(Cell(before, before)) == becomes


def test_operations_that_differ_stay(plain):
    assert plain(Cell(F.relu, torch.sigmoid)) == "relu Conv2d sigmoid Conv2d add"


def test_an_operation_that_may_answer_differently_each_time_is_not_shared(plain):
    def noisy(x):
        return F.dropout(x, 0.5, training=True)

    class Noise(Cell):
        def forward(self, x):
            return super().forward(x) * 0 + self.wide(x)

    assert plain(Noise(noisy, noisy)).count("dropout") == 2
