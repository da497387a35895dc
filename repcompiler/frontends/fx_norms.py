"""Normalisations of torch by statistics that are constants, as functions: each has the signature of what it stands for."""

from __future__ import annotations

from typing import Any

from repcompiler.frontends.fx_arithmetic import Context, Lifted, needed, optional, tensor
from repcompiler.frontends.fx_modules import Unliftable, normalisation


def batch_norm(
    c: Context,
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: Any = False,
    momentum: Any = 0.1,
    eps: Any = 1e-5,
) -> Lifted:
    """Batch normalisation in eval mode."""
    if training is not False:
        raise Unliftable("it is in training mode")
    mean, var = needed(c, running_mean), needed(c, running_var)
    return normalisation(mean, var, optional(c, weight), optional(c, bias), eps), (tensor(x),)


def aten_batch_norm(
    c: Context,
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: Any,
    momentum: Any,
    eps: Any,
    cudnn_enabled: Any,
) -> Lifted:
    """The same as torch.export writes it."""
    return batch_norm(c, x, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    c: Context,
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: Any = True,
    momentum: Any = 0.1,
    eps: Any = 1e-5,
) -> Lifted:
    """By running statistics it normalises each channel as a batch norm does."""
    if use_input_stats is not False or len(c.shape(tensor(x)) or ()) < 3:
        raise Unliftable("it normalises by the statistics of its input")
    return batch_norm(c, x, running_mean, running_var, weight, bias, False, momentum, eps)
