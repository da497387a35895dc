"""Import this before timm or torchvision where torchvision's compiled operators do not load (another build of torch).

On import torchvision registers shape functions for two of its operators, and fails if torch does not know them.  Declaring
them is enough for every model that does not call them.
"""

from __future__ import annotations

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    LIBRARY = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
