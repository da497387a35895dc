"""What the scripts about skip connections share: a network made plain and verified, and how large it is before and after."""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch
from reports import write_report
from tables import shown_deviation
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

import repcompiler


class Size(NamedTuple):
    convolutions: int
    parameters: int
    macs: int
    """Of convolutions and matrix products alone, as papers count them."""

    def __str__(self) -> str:
        return f"{self.convolutions:>3} convolutions {self.parameters / 1e6:>8.2f} M parameters {self.macs / 1e6:>10.1f} MMACs"


def size_of(model: nn.Module, image: int = 224) -> Size:
    """At one square image of three channels; nothing is computed."""
    with FlopCounterMode(display=False) as counter:
        deepcopy(model).to("meta")(torch.empty(1, 3, image, image, device="meta"))
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    return Size(convolutions, sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2)


def made_plain(network: nn.Module, image: int, objective: str = "plain") -> tuple[fx.GraphModule, repcompiler.Report]:
    """The network without skip connections, verified against the source in float64 on images of that size."""
    report = repcompiler.Report()
    return repcompiler.compile(network, example(image), objective=objective, report=report), report


def example(image: int) -> torch.Tensor:
    """One square image."""
    return torch.randn(1, 3, image, image, generator=torch.Generator().manual_seed(0))


def show(title: str, network: nn.Module, image: int) -> None:
    result, report = made_plain(network, image)
    print(f"{title}\n  before {size_of(network)}\n  after  {size_of(result)}")
    print(f"  deviation (the source's own): {shown_deviation(report.to_dict()['verification'])}", flush=True)
    write_report(title, network, result, example(image), report)
