"""Where torchvision's compiled operators do not load with this build of torch, they are declared, as the examples do."""

import contextlib

import torch

with contextlib.suppress(ModuleNotFoundError):  # without torchvision there is nothing to declare
    import torchvision_ops  # noqa: F401

torch.set_num_threads(1)
