"""What stands for a value while a forward is traced, and what Python may do with it beside computing."""

from __future__ import annotations

import dis
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import fx, nn

from repcompiler.frontends.fx_containers import items_of, parts_of

IN_PLACE_OPERATORS = tuple(
    getattr(operator, name)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor", "setitem")
)


class RegionProxy(fx.Proxy):
    """Records `x += y` and `x[i] = y` as the writes they are: torch.fx makes a sum of the first and refuses the second.

    What the forward asks in Python is answered by the tracer: a truth value, a number, how many items there are.  An
    assertion that cannot be answered is recorded.
    """

    def __bool__(self) -> bool:
        frame = inspect.currentframe()
        assert frame is not None
        return self.tracer.truth(self, _asserted(frame.f_back))  # type: ignore[attr-defined,no-any-return]

    def __len__(self) -> int:
        count = parts_of(self.node)
        count = items_of(self.node, self.tracer) if count is None else count
        return self._questions.length(self.node) if count is None else count

    def __getitem__(self, index: Any) -> Any:
        count = parts_of(self.node) if isinstance(index, slice) else None
        if count is None:
            return super().__getitem__(index)  # type: ignore[misc]
        return tuple(self[place] for place in range(count)[index])

    def __int__(self) -> int:
        return int(self._questions.answer(self.node))

    def __float__(self) -> float:
        return float(self._questions.answer(self.node))

    def __getattr__(self, k: str) -> fx.proxy.Attribute:
        return RegionAttribute(self, k)

    @property
    def _questions(self) -> Any:
        return self.tracer.questions  # type: ignore[attr-defined]


class RegionAttribute(RegionProxy, fx.proxy.Attribute):
    """An attribute of a proxy: a method, once it is called."""


def _record(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: self.tracer.create_proxy("call_function", function, (self, *args), {})


for _function in IN_PLACE_OPERATORS:
    setattr(RegionProxy, f"__{_function.__name__}__", _record(_function))


@contextmanager
def answering(module: nn.Module) -> Iterator[None]:
    """Let `isinstance` and `range` take proxies for what they stand for, in the code of a model's own classes.

    What C asks of them must see proxies: torch would take one that says it is a tensor for memory.
    """
    kinds = dict.fromkeys(kind for part in module.modules() for kind in type(part).__mro__ if not _is_of_torch(kind))
    functions = (value for kind in kinds for value in vars(kind).values() if inspect.isfunction(value))
    scopes = {id(function.__globals__): function.__globals__ for function in functions}
    patched = [(scope, name) for scope in scopes.values() for name in ANSWERED if name not in scope]
    for scope, name in patched:
        scope[name] = ANSWERED[name]
    try:
        yield
    finally:
        for scope, name in patched:
            del scope[name]


def _is_instance(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) or (isinstance(value, RegionProxy) and issubclass(value._questions.kind(value.node), kinds))


def _range(*bounds: Any) -> range:
    return range(*(int(bound) if isinstance(bound, RegionProxy) else bound for bound in bounds))


ANSWERED: Mapping[str, Any] = {"isinstance": _is_instance, "range": _range}


def _is_of_torch(kind: type) -> bool:
    return kind.__module__.split(".")[0] in ("torch", "builtins")


def _asserted(frame: FrameType | None) -> bool | None:
    """The truth value that an assertion needs of what it is about to jump by; None where Python jumps for something else."""
    instructions = [] if frame is None else [*dis.get_instructions(frame.f_code)]
    for index, instruction in enumerate(instructions):
        if frame is not None and instruction.offset == frame.f_lasti and "_IF_" in instruction.opname:
            jumped = [other for other in instructions if other.offset == instruction.argval]
            fails = [there.opname == "LOAD_ASSERTION_ERROR" for there in (*jumped, *instructions[index + 1 : index + 2])]
            if fails[0] != fails[-1]:
                return instruction.opname.endswith("TRUE") != fails[0]
    return None
