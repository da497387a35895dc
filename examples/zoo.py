"""timm's networks as they are trained, with random weights and batch norm statistics, exported with every branch.

python examples/zoo.py repvgg_a0 repvgg_a0.onnx                      as trained
python examples/zoo.py repvgg_a0 repvgg_a0.onnx --reparameterized    after the conversion that timm has for this model
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torchvision_ops  # noqa: F401 - before timm
from mobileone import export_training_form, settle_batch_norms
from timm import create_model
from timm.utils import reparameterize_model
from torch import nn


def as_trained(name: str) -> nn.Module:
    torch.manual_seed(0)
    return settle_batch_norms(create_model(name))


def plain_by_timm(name: str) -> nn.Module:
    converted = reparameterize_model(as_trained(name))
    assert isinstance(converted, nn.Module)
    return converted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("file", type=Path)
    parser.add_argument("--reparameterized", action="store_true")
    arguments = parser.parse_args()
    build = plain_by_timm if arguments.reparameterized else as_trained
    export_training_form(build(arguments.name), arguments.file)


if __name__ == "__main__":
    main()
