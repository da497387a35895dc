"""ResNets as VGG-style networks: every skip connection removed, the function unchanged.

python examples/resnet_to_vgg.py

Random weights and batch norm statistics; the result is verified against the source in float64.
Source of the reference figures: Meng et al., RMNet: Equivalently Removing Residual Connection from Networks, 2021.
"""

from __future__ import annotations

import torch
import torchvision_ops  # noqa: F401 - before torchvision
from mobileone import settle_batch_norms
from plain_form import show
from torch import nn
from torchvision import models


def resnet(depth: int) -> nn.Module:
    torch.manual_seed(0)
    return settle_batch_norms(models.get_model(f"resnet{depth}"), (1, 3, 64, 64))


def main(image: int = 224) -> None:
    for depth in (18, 34, 50):
        show(f"ResNet-{depth}", resnet(depth), image)


if __name__ == "__main__":
    main()
