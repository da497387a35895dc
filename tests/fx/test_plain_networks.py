"""Networks nobody here wrote, through both frontends: no skip connection is left where one can be removed, none reverted."""

import io

import onnx
import pytest
import torch
from mobileone import settle_batch_norms
from torch import nn

import repcompiler

timm = pytest.importorskip("timm")

NETWORKS = {
    "resnet18": {},
    "resnetv2_18": {},
    "legacy_seresnet18": {},
    "mobilenetv2_035": {},
    "mobilenetv3_small_050": {},
    "efficientnet_b0": {},
    "regnety_002": {},
    "repvgg_a0": {},
    "cspresnet50": {"layers": (1, 1, 1, 2)},
    "inception_resnet_v2": None,
}
IMAGE = (2, 3, 45, 37)


def conv(inputs, outputs, kernel=1, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )
