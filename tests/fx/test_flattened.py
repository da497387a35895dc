"""What is flattened on its way: the tokens of a norm, an image before a layer."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class LinearNorm(nn.Module):
    """A layer on tokens, and its norm on the flattened ones, as LeViT has it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear, self.bn = nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)

    def forward(self, x):
        x = self.linear(x)
        return self.bn(x.flatten(0, 1)).reshape_as(x)


class Block(nn.Module):
    """Attention on 35 tokens, and a perceptron, each with a shortcut."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(2, 35, 35))
        self.qkv, self.proj = LinearNorm(6, 18), LinearNorm(6, 6)
        self.mlp = nn.Sequential(LinearNorm(6, 8), nn.Hardswish(), LinearNorm(8, 6))

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 2, -1).split([3, 3, 3], dim=3)
        q, k, v = q.permute(0, 2, 1, 3), k.permute(0, 2, 3, 1), v.permute(0, 2, 1, 3)
        x = x + self.proj(((q @ k * 0.25 + self.bias).softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))
        return x + self.mlp(x)


def test_a_norm_of_flattened_tokens_folds_into_the_layer_and_is_flattened_for_no_more(plain):
    net = nn.Sequential(nn.Conv2d(4, 6, 1), nn.Flatten(2), Transposed(), Block(), Block())
    left = plain(net, shape=(2, 4, 5, 7)).split()
    assert left.count("Linear") == 8
    assert not {"BatchNorm1d", "reshape_as", "flatten"} & set(left[2:])


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


@pytest.mark.parametrize(
    "flat",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.reshape(x.shape[0], -1),
        lambda x: torch.flatten(x, 1),
        lambda x: x.view(x.size(0), x.size(1) * x.size(2) * x.size(3)),
    ],
)
def test_what_comes_before_a_flatten_folds_however_its_size_is_read(plain, flat):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.BatchNorm2d(6)
            self.layer = nn.Linear(90, 5)

        def forward(self, x):
            x = F.gelu(self.norm(self.conv(x)))
            return self.layer(flat(self.out(x)))

    assert plain(Head(), shape=(2, 4, 5, 7)).split() == ["Conv2d", "gelu", "flatten", "Linear"]
