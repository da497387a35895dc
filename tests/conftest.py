"""torchvision's compiled operators may not load with this build of torch: declaring them is enough to import it, and timm."""

import importlib.util

import torch

if importlib.util.find_spec("torchvision") is not None:
    TORCHVISION = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        TORCHVISION.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

torch.set_num_threads(1)
