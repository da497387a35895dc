"""A plan as an `nn.Module`, in the many ways in which people write one: modules, functions, in place, views, slice writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from fuzz_forms import COMPUTED, FORMS
from fuzz_plans import Plan, Step
from fuzz_torch import FUNCTIONS, Attrs, axes_of, flat, symmetric, trace
from torch import Tensor, nn

CONVS = (None, nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (None, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (None, None, nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
AVERAGES = (None, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
MAXIMA = (None, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
ADAPTIVE = (None, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)

ACTIVATION_MODULES: Mapping[str, Callable[[bool], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda inplace: nn.LeakyReLU(0.125, inplace),
    "sigmoid": lambda _: nn.Sigmoid(),
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_swish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": lambda _: nn.GELU(),
    "elu": lambda inplace: nn.ELU(1.0, inplace),
    "tanh": lambda _: nn.Tanh(),
    "mish": nn.Mish,
}


def _conv(a: Attrs) -> nn.Module | None:
    if not symmetric(a["pads"]):
        return None
    rows, columns, *sizes = a["weight"].shape
    padding: Any = tuple(before for before, _ in a["pads"])
    same = all(2 * p == d * (k - 1) for p, k, d in zip(padding, sizes, a["dilation"], strict=True))
    if same and set(a["stride"]) == {1} and a["style"] == 4 and "mode" not in a:
        padding = "same"
    spread: Any = (
        tuple(sizes),
        a["stride"],
        padding,
        a["dilation"],
        a["groups"],
        a["bias"] is not None,
        a.get("mode", "zeros"),
    )
    return _filled(CONVS[axes_of(a)](columns * a["groups"], rows, *spread), weight=a["weight"], bias=a["bias"])


def _conv_transpose(a: Attrs) -> nn.Module | None:
    if not symmetric(a["pads"]):
        return None
    rows, columns, *sizes = a["weight"].shape
    padding = tuple(before for before, _ in a["pads"])
    spread: Any = (tuple(sizes), a["stride"], padding, a["output_padding"], a["groups"], a["bias"] is not None, a["dilation"])
    return _filled(TRANSPOSED[axes_of(a)](rows, columns * a["groups"], *spread), weight=a["weight"], bias=a["bias"])


def _linear(a: Attrs) -> nn.Module | None:
    if (a.get("alpha", 1.0), a.get("beta", 1.0)) != (1.0, 1.0):
        return None
    rows, columns = a["weight"].shape
    return _filled(nn.Linear(columns, rows, a["bias"] is not None), weight=a["weight"], bias=a["bias"])


def _batch_norm(a: Attrs) -> nn.Module:
    norm = NORMS[a["rank"]](len(a["mean"]), eps=a["eps"])
    return _filled(norm, weight=a["gamma"], bias=a["beta"], running_mean=a["mean"], running_var=a["var"])


def _filled(module: nn.Module, **arrays: Any) -> nn.Module:
    for name, array in arrays.items():
        if array is not None:
            getattr(module, name).data = torch.from_numpy(np.array(array))
    return module


def _avg_pool(a: Attrs) -> nn.Module | None:
    padding = tuple(before for before, _ in a["pads"])
    pool = AVERAGES[axes_of(a)]
    return pool(a["kernel"], a["stride"], padding, a["ceil_mode"], a["count_include_pad"]) if symmetric(a["pads"]) else None


def _max_pool(a: Attrs) -> nn.Module:
    padding = tuple(before for before, _ in a["pads"])
    return MAXIMA[axes_of(a)](a["kernel"], a["stride"], padding, a["dilation"], False, a["ceil_mode"])


def _pad(a: Attrs) -> nn.Module | None:
    kinds = {"constant": "Constant", "reflect": "Reflection", "replicate": "Replication"}
    kind = getattr(nn, f"{kinds[a['mode']]}Pad{len(a['pads'])}d")
    arguments = (a["value"],) if a["mode"] == "constant" else ()
    return kind(tuple(flat(a["pads"])), *arguments)


def _activation(a: Attrs) -> nn.Module | None:
    make = ACTIVATION_MODULES.get(a["name"])
    return None if make is None else make(a["style"] % 4 == 2)


MODULES: Mapping[str, Callable[[Attrs], nn.Module | None]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "global_avg_pool": lambda a: ADAPTIVE[a["rank"] - 2](1),
    "pad": _pad,
    "activation": _activation,
    "prelu": lambda a: _filled(nn.PReLU(len(a["slope"])), weight=a["slope"]),
    "shuffle": lambda a: nn.ChannelShuffle(a["groups"]) if a["style"] % 4 else None,
    "flatten": lambda a: nn.Flatten(),
    "identity": lambda a: (nn.Identity(), nn.Dropout(0.5))[a["style"] // 2 % 2],
    "softmax": lambda a: nn.Softmax(a["axis"]),
    "layer_norm": lambda a: _filled(nn.LayerNorm(a["gamma"].shape), weight=a["gamma"], bias=a["beta"]),
}


class Network(nn.Module):
    """One or several inputs; `style` of a step says how it is written (even: as a module, where there is one)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        shapes = [value.shape for value in trace(plan, [np.zeros(shape) for shape in plan.inputs])]
        self.growing = [
            shapes[step.inputs[0]] != made for step, made in zip(plan.steps, shapes[len(plan.inputs) :], strict=True)
        ]
        """Whether a step makes another shape than its first operand has: then it is not written in its place."""
        self.names: list[str] = []
        shared: dict[int, str] = {}
        for index, step in enumerate(plan.steps):
            name = f"m{index}"
            module = MODULES[step.kind](step.attrs) if step.kind in MODULES and step.attrs.get("style", 1) % 2 == 0 else None
            if module is not None:
                name = shared.setdefault(id(step.attrs), name)  # the same layer, called twice
                if name == f"m{index}":
                    self.add_module(name, module)
            self.names.append(name if module is not None else "")
        self.parameters_of = [
            {} if name else self._register(index, step)
            for index, (name, step) in enumerate(zip(self.names, plan.steps, strict=True))
        ]
        self.double().eval()

    def _register(self, index: int, step: Step) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in step.attrs.items():
            if isinstance(value, np.ndarray):
                own = next((key for key, (array, _) in self._arrays().items() if array is value), None)
                if own is None:
                    own = f"w{index}_{name}"
                    self._arrays()[own] = (value, index)
                    tensor = torch.from_numpy(np.array(value))
                    if name in ("mean", "var", "value", "constant"):
                        self.register_buffer(own, tensor)
                    else:
                        self.register_parameter(own, nn.Parameter(tensor))
                found[name] = own
        return found

    def _arrays(self) -> dict[str, tuple[Any, int]]:
        return self.__dict__.setdefault("_known_arrays", {})

    def run(self, *inputs: Any) -> Any:
        values = list(inputs)
        for index, step in enumerate(self.plan.steps):
            operands = [values[value] for value in step.inputs]
            if self.names[index]:
                values.append(getattr(self, self.names[index])(*operands))
            else:
                values.append(self._call(index, step, operands))
        results = tuple(values[value] for value in self.plan.outputs)
        return results[0] if len(results) == 1 else results

    def _call(self, index: int, step: Step, operands: Sequence[Any]) -> Any:
        stored, a = self.parameters_of[index], step.attrs

        def weights(name: str) -> Any:
            if a[name] is None:
                return None
            tensor = getattr(self, stored[name])
            if name == "weight" and a.get("computed"):
                return COMPUTED[a["computed"]](tensor)
            return tensor

        plain = step.kind in ("add", "scale") and self.growing[index]
        form = None if plain else FORMS.get((step.kind, a.get("style", 1) % 8 // 2))
        return (form or FUNCTIONS[step.kind])(a, weights, *operands)


class OneInput(Network):
    def forward(self, x: Tensor) -> Any:
        return self.run(x)


class TwoInputs(Network):
    def forward(self, x: Tensor, z: Tensor) -> Any:
        return self.run(x, z)


class ThreeInputs(Network):
    def forward(self, x: Tensor, z: Tensor, u: Tensor) -> Any:
        return self.run(x, z, u)


class FourInputs(Network):
    def forward(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Any:
        return self.run(x, z, u, v)


def network(plan: Plan) -> Network:
    """In double precision."""
    return (OneInput, TwoInputs, ThreeInputs, FourInputs)[len(plan.inputs) - 1](plan)
