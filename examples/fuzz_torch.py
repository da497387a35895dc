"""What each step of a plan means, in torch's functions: the reference, and what `fuzz_network` builds modules of.

    perform(step, operands)      in double precision

A function takes the step's attributes, its weights by name, and the operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from fuzz_plans import Plan, Step
from torch import Tensor

Attrs = Mapping[str, Any]
Weights = Callable[[str], Any]
CONVS = (None, F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (None, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
AVERAGES = (None, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
MAXIMA = (None, F.max_pool1d, F.max_pool2d, F.max_pool3d)

ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "clip": lambda x: torch.clamp(x, -0.5, 1.5),
    "clip_min": lambda x: torch.clamp(x, min=0.25),
    "clip_max": lambda x: torch.clamp(x, max=1.0),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.125),
    "negative_leaky_relu": lambda x: F.leaky_relu(x, -0.5),
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": F.elu,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "mish": F.mish,
    "abs": torch.abs,
    "exp": lambda x: torch.exp(torch.clamp(x, max=2.0)),
}
KEEPS_ZERO = ("relu", "relu6", "leaky_relu", "hard_swish", "silu", "gelu", "tanh", "abs")


def axes_of(a: Attrs) -> int:
    return len(a["stride"])


def flat(pads: Sequence[tuple[int, int]]) -> list[int]:
    """torch's order of amounts: from the last axis backwards."""
    return [amount for pair in reversed(pads) for amount in pair]


def symmetric(pads: Sequence[tuple[int, int]]) -> bool:
    return all(before == after and before >= 0 for before, after in pads)


def conv(a: Attrs, w: Weights, x: Any) -> Any:
    padding: Any = tuple(before for before, _ in a["pads"])
    if "mode" in a or not symmetric(a["pads"]):
        x, padding = F.pad(x, flat(a["pads"]), a.get("mode", "constant")), 0
    return CONVS[axes_of(a)](x, w("weight"), w("bias"), a["stride"], padding, a["dilation"], a["groups"])


def conv_transpose(a: Attrs, w: Weights, x: Any) -> Any:
    padding: Any = tuple(before for before, _ in a["pads"])
    even = symmetric(a["pads"])
    arguments = a["stride"], padding if even else 0, a["output_padding"], a["groups"], a["dilation"]
    y = TRANSPOSED[axes_of(a)](x, w("weight"), w("bias"), *arguments)
    return y if even else F.pad(y, [-amount for amount in flat(a["pads"])])


def linear(a: Attrs, w: Weights, x: Any) -> Any:
    alpha, beta, bias = a.get("alpha", 1.0), a.get("beta", 1.0), w("bias")
    if (alpha, beta) == (1.0, 1.0):
        return F.linear(x, w("weight"), bias)
    y = alpha * torch.matmul(x, w("weight").t())
    return y if bias is None else y + beta * bias


def batch_norm(a: Attrs, w: Weights, x: Any) -> Any:
    return F.batch_norm(x, w("mean"), w("var"), w("gamma"), w("beta"), False, 0.1, a["eps"])


def scale(a: Attrs, w: Weights, x: Any) -> Any:
    left, right = (w("constant"), x) if a["reverse"] else (x, w("constant"))
    return {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}[a["by"]](left, right)


def avg_pool(a: Attrs, w: Weights, x: Any) -> Any:
    padding: Any = tuple(before for before, _ in a["pads"])
    if not symmetric(a["pads"]):
        x, padding = F.pad(x, flat(a["pads"])), 0
    return AVERAGES[axes_of(a)](x, a["kernel"], a["stride"], padding, a["ceil_mode"], a["count_include_pad"])


def max_pool(a: Attrs, w: Weights, x: Any) -> Any:
    padding = tuple(before for before, _ in a["pads"])
    return MAXIMA[axes_of(a)](x, a["kernel"], a["stride"], padding, a["dilation"], a["ceil_mode"])


def pad(a: Attrs, w: Weights, x: Any) -> Any:
    return F.pad(x, flat(a["pads"]), a["mode"], a["value"] if a["mode"] == "constant" else None)


def global_avg_pool(a: Attrs, w: Weights, x: Any) -> Any:
    return x.mean(tuple(range(2, a["rank"])), keepdim=True)


def add(a: Attrs, w: Weights, *terms: Any) -> Any:
    total = terms[0] if a["signs"][0] > 0 else -terms[0]
    for sign, term in zip(a["signs"][1:], terms[1:], strict=True):
        total = total + term if sign > 0 else total - term
    return total


def slice_(a: Attrs, w: Weights, x: Any) -> Any:
    return x[(*(slice(None),) * a["axis"], slice(a["start"], a["stop"], a["step"]))]


def split(a: Attrs, w: Weights, x: Any) -> Any:
    return x.split(a["sizes"], a["axis"])[a["index"]]


def gather(a: Attrs, w: Weights, x: Any) -> Any:
    return x[(*(slice(None),) * a["axis"], list(a["index"]))]


def shuffle(a: Attrs, w: Weights, x: Any) -> Any:
    return F.channel_shuffle(x, a["groups"])


def reshape(a: Attrs, w: Weights, x: Any) -> Any:
    return x.reshape(*(x.size(axis) if size == 0 else size for axis, size in enumerate(a["shape"])))


def resize(a: Attrs, w: Weights, x: Any) -> Any:
    mode = {"nearest": "nearest", "linear": ("linear", "bilinear", "trilinear")[a["rank"] - 3]}[a["mode"]]
    return F.interpolate(x, scale_factor=a["scales"], mode=mode)


def space_to_depth(a: Attrs, w: Weights, x: Any) -> Any:
    if a["mode"] == "CRD":
        return F.pixel_unshuffle(x, a["block"])
    y = x.unflatten(2, (-1, a["block"])).unflatten(4, (-1, a["block"]))
    return y.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


def layer_norm(a: Attrs, w: Weights, x: Any) -> Any:
    return F.layer_norm(x, a["gamma"].shape, w("gamma"), w("beta"), 1e-5)


def dynamic_conv(a: Attrs, w: Weights, x: Any, gates: Any) -> Any:
    """One kernel a sample, the samples as groups of one convolution."""
    batch, channels, *sizes = (x.size(axis) for axis in range(len(a["stride"]) + 2))
    rows, *rest = a["shape"]
    weight = torch.matmul(gates, w("experts")).reshape(batch * rows, *rest)
    padding = tuple(before for before, _ in a["pads"])
    joined = x.reshape(1, batch * channels, *sizes)
    y = CONVS[axes_of(a)](joined, weight, None, a["stride"], padding, 1, batch * a["groups"])
    y = y.reshape(batch, rows, *(y.size(axis) for axis in range(2, len(a["stride"]) + 2)))
    return y if a["bias"] is None else y + w("bias").reshape(-1, *(1,) * len(a["stride"]))


def condition(a: Attrs, w: Weights, x: Any, other: Any) -> Any:
    """The first where the mean of the second is positive; there, its negative half or a scaled one."""
    return torch.where(other.mean() > 0, F.relu(x) + other, w("factor") * x - other)


def loop(a: Attrs, w: Weights, x: Any, other: Any) -> Any:
    for _ in range(a["trips"]):
        x = w("factor") * x + other
    return x


def frame(a: Attrs, w: Weights, x: Any) -> Any:
    """A map in a frame of a number a channel."""
    value = w("value").reshape(-1, *(1,) * len(a["pads"]))
    return F.pad(x - value, flat(a["pads"])) + value


def add_to_part(a: Attrs, w: Weights, y: Any, x: Any) -> Any:
    start, stop = a["part"]
    return torch.cat([y[:, :start], y[:, start:stop] + x, y[:, stop:]], 1)


def stacked(a: Attrs, w: Weights, *terms: Any) -> Any:
    together = torch.stack(terms, a["axis"])
    return together.mean(a["axis"]) if a["mean"] else together.sum(a["axis"])


def pad_channels(a: Attrs, w: Weights, x: Any) -> Any:
    return F.pad(x, (0, 0) * a["axes"] + a["amounts"])


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "linear": linear,
    "batch_norm": batch_norm,
    "scale": scale,
    "activation": lambda a, w, x: ACTIVATIONS[a["name"]](x),
    "prelu": lambda a, w, x: F.prelu(x, w("slope")),
    "prelu_of_last": lambda a, w, x: torch.clamp(x, min=0) + w("slope") * torch.clamp(x, max=0),
    "avg_pool": avg_pool,
    "max_pool": max_pool,
    "global_avg_pool": global_avg_pool,
    "pad": pad,
    "add": add,
    "mul": lambda a, w, x, y: x * y,
    "concat": lambda a, w, *parts: torch.cat(parts, a["axis"]),
    "slice": slice_,
    "split": split,
    "gather": gather,
    "shuffle": shuffle,
    "reshape": reshape,
    "flatten": lambda a, w, x: x.flatten(1),
    "transpose": lambda a, w, x: x.permute(a["perm"]),
    "resize": resize,
    "space_to_depth": space_to_depth,
    "depth_to_space": lambda a, w, x: F.pixel_shuffle(x, a["block"]),
    "softmax": lambda a, w, x: torch.softmax(x, a["axis"]),
    "layer_norm": layer_norm,
    "identity": lambda a, w, x: x * 1,
    "dynamic_conv": dynamic_conv,
    "if": condition,
    "loop": loop,
    "frame": frame,
    "add_to_part": add_to_part,
    "stacked": stacked,
    "lerp": lambda a, w, x, y: torch.lerp(x, y, w("constant")),
    "addcmul": lambda a, w, x, y: torch.addcmul(x, y, w("constant"), value=a["value"]),
    "pad_channels": pad_channels,
}


def perform(step: Step, operands: Sequence[Tensor]) -> Tensor:
    """The result of one step in double precision."""

    def weights(name: str) -> Tensor | None:
        array = step.attrs[name]
        return None if array is None else torch.from_numpy(np.array(array))

    with torch.no_grad():
        result: Tensor = FUNCTIONS[step.kind](step.attrs, weights, *operands)
    return result


def trace(plan: Plan, feeds: Sequence[Any]) -> list[Tensor]:
    """Every value of a plan in double precision."""
    values = [torch.from_numpy(np.array(feed, np.float64)) for feed in feeds]
    for step in plan.steps:
        values.append(perform(step, [values[index] for index in step.inputs]))
    return values
