"""Other ways to write the steps of a plan in torch: in place, by views, by slice assignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from fuzz_torch import ACTIVATIONS, FUNCTIONS, Attrs, flat

COMPUTED: Mapping[str, Callable[[Any], Any]] = {
    "scaled": lambda w: (w * 2) * 0.5,
    "transposed": lambda w: w.transpose(0, 1).transpose(0, 1),
    "sum": lambda w: w * 0.5 + w * 0.5,
}
"""Weights as expressions of parameters, of the same numbers."""


def _added_in_place(a: Attrs, w: Any, *terms: Any) -> Any:
    total = terms[0] if a["signs"][0] > 0 else -terms[0]
    for sign, term in zip(a["signs"][1:], terms[1:], strict=True):
        if sign > 0:
            total += term
        else:
            total -= term
    return total


def _scaled_in_place(a: Attrs, w: Any, x: Any) -> Any:
    if a["reverse"]:
        return FUNCTIONS["scale"](a, w, x)
    return {"add": x.add_, "sub": x.sub_, "mul": x.mul_, "div": x.div_}[a["by"]](w("constant"))


def _framed_by_writes(a: Attrs, w: Any, x: Any) -> Any:
    out = F.pad(x, flat(a["pads"]))
    value = w("value").view(1, -1, *(1,) * len(a["pads"]))
    for axis, (before, after) in enumerate(a["pads"]):
        start = (slice(None),) * (axis + 2)
        if before:
            out[(*start, slice(None, before))] = value
        if after:
            out[(*start, slice(-after, None))] = value
    return out


def _part_in_place(a: Attrs, w: Any, y: Any, x: Any) -> Any:
    y[:, slice(*a["part"])] += x
    return y


def _part_assigned(a: Attrs, w: Any, y: Any, x: Any) -> Any:
    out = y.clone()
    out[:, slice(*a["part"])] = out[:, slice(*a["part"])] + x
    return out


def _shuffled(a: Attrs, w: Any, x: Any) -> Any:
    batch, channels = x.size(0), x.size(1)
    sizes = [x.size(axis) for axis in range(2, a["rank"])]
    y = x.view(batch, a["groups"], channels // a["groups"], *sizes).transpose(1, 2)
    return y.contiguous().view(batch, channels, *sizes)


def _flat_view(a: Attrs, w: Any, x: Any) -> Any:
    return x.reshape(x.shape[0], -1)


def _sliced_from_the_end(a: Attrs, w: Any, x: Any) -> Any:
    behind = (slice(None),) * (a["rank"] - a["axis"] - 1)
    return x[(Ellipsis, slice(a["start"], a["stop"], a["step"]), *behind)]


FORMS: Mapping[tuple[str, int], Callable[..., Any]] = {
    ("add", 1): _added_in_place,
    ("add", 2): lambda a, w, *terms: torch.add(*terms) if a["signs"] == (1, 1) else FUNCTIONS["add"](a, w, *terms),
    ("add", 3): lambda a, w, *terms: (
        torch.add(*terms, alpha=a["signs"][1]) if len(terms) == 2 else FUNCTIONS["add"](a, w, *terms)
    ),
    ("scale", 1): _scaled_in_place,
    ("slice", 1): _sliced_from_the_end,
    ("transpose", 1): lambda a, w, x: x.transpose(1, 2) if a["perm"] == (0, 2, 1) else x.permute(*a["perm"]),
    ("activation", 1): lambda a, w, x: F.relu(x, inplace=True) if a["name"] == "relu" else ACTIVATIONS[a["name"]](x),
    ("activation", 2): lambda a, w, x: x.clamp_(-0.5, 1.5) if a["name"] == "clip" else ACTIVATIONS[a["name"]](x),
    ("mul", 1): lambda a, w, x, y: x.mul(y),
    ("frame", 1): _framed_by_writes,
    ("frame", 2): _framed_by_writes,
    ("frame", 3): _framed_by_writes,
    ("add_to_part", 1): _part_in_place,
    ("add_to_part", 2): _part_assigned,
    ("shuffle", 0): _shuffled,
    ("flatten", 1): _flat_view,
    ("split", 1): lambda a, w, x: torch.split(x, list(a["sizes"]), dim=a["axis"])[a["index"]],
    ("gather", 1): lambda a, w, x: x.index_select(a["axis"], torch.tensor(a["index"])),
}
