"""MobileNetV2 as MobileNetV1: without skip connections, each 1x1 projection and the 1x1 expansion behind it are one layer.

python examples/mobilenetv2_to_v1.py

Exact also where activations pass the bound of ReLU6, which the published conversion loses: in the second run the gammas before
each ReLU6 are 4 times as large (and those of the projections behind them as much smaller, that rounding does not build up).
Source: Meng et al., RMNet: Equivalently Removing Residual Connection from Networks, 2021.
"""

from __future__ import annotations

import torch
import torchvision_ops  # noqa: F401 - before torchvision
from mobileone import settle_batch_norms
from plain_form import show
from torch import nn
from torchvision import models
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation


def mobilenet_v2(gain: float) -> nn.Module:
    torch.manual_seed(0)
    network = settle_batch_norms(models.mobilenet_v2(), (1, 3, 64, 64))
    for module in network.modules():
        if isinstance(module, Conv2dNormActivation):
            module[1].weight.data *= gain
        elif isinstance(module, InvertedResidual):
            module.conv[-1].weight.data /= gain ** (len(module.conv) - 2)
    return network


def main(image: int = 224) -> None:
    for gain in (1.0, 4.0):
        show(f"MobileNetV2, gammas before ReLU6 x {gain:g}", mobilenet_v2(gain), image)


if __name__ == "__main__":
    main()
