"""MobileOne-S0 as it is trained: several branches a block, each with a batch normalisation, and nothing merged.

    y = ReLU( sum_i BN(conv_kxk(x)) + BN(conv_1x1(x)) + BN(x) )

The 1x1 branch only where k > 1, the BN-identity only where input and output have the same shape.
Source: Vasu et al., MobileOne: An Improved One Millisecond Mobile Backbone, CVPR 2023, section 3.2 and table 2.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

STAGES = ((48, 2), (128, 8), (256, 10), (1024, 1))
"""S0: (channels, blocks) of each stage behind a stem of 48 channels; the first block of a stage has stride 2."""
BRANCHES = 4
"""S0: k x k branches of a block (one in the stem)."""
IMAGE = (1, 3, 224, 224)


def conv_bn(in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class Block(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, branches: int = BRANCHES
    ) -> None:
        super().__init__()
        kernels = [kernel_size] * branches + [1] * (kernel_size > 1)
        self.branches = nn.ModuleList(conv_bn(in_channels, out_channels, k, stride, groups) for k in kernels)
        if in_channels == out_channels and stride == 1:
            self.branches.append(nn.BatchNorm2d(in_channels))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.branches[0](x)
        for branch in self.branches[1:]:
            y = y + branch(x)
        return self.activation(y)


class MobileOne(nn.Sequential):
    def __init__(self, num_classes: int = 1000) -> None:
        channels = STAGES[0][0]
        layers: list[nn.Module] = [Block(3, channels, 3, stride=2, branches=1)]
        for out_channels, blocks in STAGES:
            for index in range(blocks):
                layers.append(Block(channels, channels, 3, stride=1 if index else 2, groups=channels))
                layers.append(Block(channels, out_channels, 1))
                channels = out_channels
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


@torch.no_grad()
def settle_batch_norms(model: nn.Module, shape: Sequence[int] = IMAGE) -> nn.Module:
    """Batch norms as after training: gamma of both signs, beta far from 0, mean and var of the size of what flows in.

    A fresh batch norm is nearly the identity, and hides every mistake in folding it.  `shape`: of what the model is given.
    """
    generator = torch.Generator().manual_seed(0)

    def settle(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        power = inputs[0].square().mean().item()
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            if tensor is not None:
                tensor.normal_(0.0, 0.5, generator=generator)
        if norm.weight is not None:
            norm.weight.add_(norm.weight.sign(), alpha=0.5)
        norm.running_mean.mul_(power**0.5)
        norm.running_var.uniform_(0.5 * power, 2.0 * power, generator=generator)

    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    model.eval()(torch.randn(*shape, generator=generator))
    for hook in hooks:
        hook.remove()
    return model


def export_training_form(model: nn.Module, path: Path, shape: Sequence[int] = IMAGE) -> None:
    """Write `model` to ONNX as it stands: no batch norm folded by the exporter, a free batch axis."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns that it is not the newest one; that one always folds
        torch.onnx.export(
            model,
            (torch.randn(*shape),),
            str(path),
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    export_training_form(settle_batch_norms(MobileOne()), Path(sys.argv[1]))
