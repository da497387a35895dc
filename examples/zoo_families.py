"""Every convolutional family of timm and torchvision, and the smallest network of each.

A family is a module and the letters its models' names begin with (byobnet holds repvgg, mobileone, gernet, ...).  Networks are
built on torch's meta device, which has shapes and no numbers; their sizes are kept in build/zoo_sizes.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import torch
import torchvision_ops  # noqa: F401 - before timm
from mobileone import IMAGE
from rich.progress import track
from timm import create_model, list_modules
from timm import list_models as timm_models
from torch import nn
from torchvision import models
from torchvision.models import get_model, get_model_builder, get_model_weights, list_models

SIZES = Path(__file__).parents[1] / "build" / "zoo_sizes.json"
TASKS = (models, models.segmentation, models.video)
LETTERS = re.compile(r"[a-z]+")
MINIATURE = "test"
"""What timm's own miniatures for testing are named; they belong to families that are here anyway."""
FRAMES, SIDE = 8, 112
"""Of a video, where the network takes any."""


@dataclass(frozen=True)
class Entry:
    source: str
    family: str
    """module/letters"""
    name: str
    parameters: int


def build(source: str, name: str) -> nn.Module:
    """The network with random weights, in eval mode."""
    if source == "timm":
        model = create_model(name)
        assert isinstance(model, nn.Module)
        return model.eval()
    segments = models.segmentation.__name__ in get_model_builder(name).__module__
    options = {"weights_backbone": None} if segments else {}
    return get_model(name, weights=None, **options).eval()


def input_shape(source: str, name: str, model: nn.Module) -> tuple[int, ...]:
    """An input of the usual size, or the nearest to it that the network takes."""
    if source == "timm":
        channels, height, width = model.pretrained_cfg["input_size"]
        _, least, _ = model.pretrained_cfg.get("min_input_size") or IMAGE[1:]
        fixed = model.pretrained_cfg.get("fixed_input_size", False) or least > IMAGE[2]
        return (1, channels, height, width) if fixed or height < IMAGE[2] else (1, channels, *IMAGE[2:])
    builder, weights = get_model_builder(name), list(get_model_weights(name))
    if models.video.__name__ not in builder.__module__:
        return IMAGE
    least = weights[0].meta if weights else {}
    side, frames = max(SIDE, *least.get("min_size", (1,))), max(FRAMES, least.get("min_temporal_size", 1))
    return (1, 3, frames, side, side)


def names() -> dict[tuple[str, str], str]:
    """The family of each (source, name)."""
    found = {}
    for module in list_modules():
        for name in timm_models(module=module):
            found["timm", name] = f"{module}/{LETTERS.match(name)[0]}"
    for task in TASKS:
        for name in list_models(module=task):
            module = get_model_builder(name).__module__.removeprefix(f"{models.__name__}.")
            found["torchvision", name] = f"{module}/{LETTERS.match(name)[0]}"
    return {key: family for key, family in found.items() if not family.endswith(f"/{MINIATURE}")}


def measured(keys: Iterable[tuple[str, str]]) -> Mapping[str, int]:
    """Parameters by 'source name'; 0 where there is no convolution, or where it cannot be built without its weights."""
    current = f"timm {version('timm')}, torchvision {version('torchvision')}"
    stored = json.loads(SIZES.read_text()) if SIZES.exists() else {}
    sizes: dict[str, int] = stored.get("sizes", {}) if stored.get("versions") == current else {}
    missing = [key for key in keys if " ".join(key) not in sizes]
    for source, name in track(missing, "sizes", disable=not missing, transient=True):
        try:
            with torch.device("meta"):
                model = build(source, name)
        except Exception:  # a builder may want anything
            sizes[f"{source} {name}"] = 0
            continue
        convolutional = any(isinstance(module, nn.modules.conv._ConvNd) for module in model.modules())
        sizes[f"{source} {name}"] = sum(parameter.numel() for parameter in model.parameters()) * convolutional
    if missing:
        SIZES.parent.mkdir(exist_ok=True)
        SIZES.write_text(json.dumps({"versions": current, "sizes": sizes}))
    return sizes


def families(only: Sequence[str] = (), networks: Sequence[str] = ()) -> list[Entry]:
    """The smallest of each family; first one family of each module, then the others.

    `only`: modules or families; `networks`: these, small or not.
    """
    known = names()
    if networks:
        known = {key: family for key, family in known.items() if key[1] in networks}
    elif only:
        known = {key: family for key, family in known.items() if family in only or family.split("/")[0] in only}
    sizes = measured(known)
    entries = [Entry(source, family, name, sizes[f"{source} {name}"]) for (source, name), family in known.items()]
    entries = sorted((entry for entry in entries if entry.parameters), key=lambda entry: (entry.source, entry.family))
    if networks:
        return entries
    smallest = [
        min(group, key=lambda entry: (entry.parameters, entry.name))
        for _, group in groupby(entries, lambda entry: (entry.source, entry.family))
    ]
    first: dict[tuple[str, str], Entry] = {}
    for entry in smallest:
        first.setdefault((entry.source, entry.family.split("/")[0]), entry)
    return [*first.values(), *(entry for entry in smallest if entry not in first.values())]
