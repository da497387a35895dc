"""RMRep: RepVGG in which every second block reserves a part of its channels for its input, and has no other way around it.

python examples/rmrep.py

    RM(x) = ReLU(cat(x[:, :r], BN(conv3x3(x)) + BN(conv1x1(x)) + BN(x[:, r:])))

Without branches it is one 3x3 layer, as RepVGG's block is (r = 0); in training it needs less arithmetic.
Source: Meng et al., RMNet: Equivalently Removing Residual Connection from Networks, 2021, section 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mobileone import conv_bn, settle_batch_norms
from plain_form import example, made_plain, size_of
from reports import write_report
from tables import shown_deviation
from torch import Tensor, nn

DEPTHS = {21: (2, 0.25), 37: (4, 0.25), 69: (8, 0.5), 133: (16, 0.75)}
"""(pairs of blocks a stage, part of the channels that is reserved) by depth."""
WIDTHS = (64, 128, 256, 512)
"""Channels of each stage; the first one is entered with two blocks of stride 2."""


class Block(nn.Module):
    """y = ReLU(cat(x[:, :reserved], BN(conv3x3(x)) + BN(conv1x1(x)) + BN(x[:, reserved:]))), the last where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, reserved: int = 0) -> None:
        super().__init__()
        self.reserved = reserved
        self.conv3 = conv_bn(in_channels, out_channels - reserved, 3, stride, 1)
        self.conv1 = conv_bn(in_channels, out_channels - reserved, 1, stride, 1)
        self.norm = nn.BatchNorm2d(out_channels - reserved) if stride == 1 and in_channels == out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(x) + self.conv1(x)
        if self.norm is not None:
            y = y + self.norm(x[:, self.reserved :])
        return torch.relu(torch.cat((x[:, : self.reserved], y), 1) if self.reserved else y)


def blocks(pairs: int, ratio: float) -> Iterator[Block]:
    yield Block(3, WIDTHS[0], stride=2)
    channels = WIDTHS[0]
    for width in WIDTHS:
        yield Block(channels, width, stride=2)
        for _ in range(pairs):
            yield Block(width, width, reserved=int(ratio * width))
            yield Block(width, width)
        channels = width


def rmrep(depth: int, ratio: float | None = None) -> nn.Module:
    """Of that depth; `ratio` 0 makes it a RepVGG."""
    pairs, usual = DEPTHS[depth]
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1000))
    return nn.Sequential(*blocks(pairs, usual if ratio is None else ratio), *head)


def main(image: int = 224) -> None:
    for depth in DEPTHS:
        rep, rm = rmrep(depth, 0.0), rmrep(depth)
        result, report = made_plain(settle_batch_norms(rm, (1, 3, 64, 64)), image)
        print(f"depth {depth}\n  RepVGG in training {size_of(rep)}\n  RMRep in training  {size_of(rm)}")
        print(f"  RMRep compiled     {size_of(result)}")
        print(f"  deviation (the source's own): {shown_deviation(report.to_dict()['verification'])}", flush=True)
        write_report(f"rmrep_{depth}", rm, result, example(image), report)


if __name__ == "__main__":
    main()
