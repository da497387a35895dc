"""What stands for a value while a forward is traced, and what Python may do with it beside computing."""

from __future__ import annotations

import dis
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.utils import _pytree as pytree

from repcompiler.frontends.fx_calls import IN_PLACE_OPERATORS, is_in_place
from repcompiler.frontends.fx_containers import is_extent, parts_of
from repcompiler.frontends.fx_parameters import EXTENTS, NoNumbers, extents_of, numbers_of


class WritesIntoMade(BaseException):
    """Something that is computed when the model runs is written into a tensor that is made while it is traced.

    Nobody but the tracer is to catch it.
    """


class Unanswered:
    """What Python asks of values while they are traced: nothing is known of them."""

    running = False
    """Whether modules compute right now, in order to answer, and are not traced."""

    def answer(self, node: fx.Node) -> Any:
        """The number, truth value or shape that `node` is at every size.  Raises TraceError where it depends on the input."""
        raise TraceError(f"it decides in Python by {node.name}, which depends on the input")

    def length(self, node: fx.Node) -> int:
        """How many items a shape has at every size.  Raises TraceError."""
        return len(self.answer(node))

    def kind(self, node: fx.Node) -> type:
        """What Python takes `node` for.  Raises TraceError."""
        if node.target is operator.getitem and is_extent(node) and not isinstance(node.args[1], slice):
            return int
        raise TraceError(f"the type of {node.name} is not known")

    def guard(self, graph: fx.Graph, inputs: Iterable[fx.Node]) -> None:
        """Assert of the inputs what the answers followed from; `inputs` were taken out of containers."""


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
        if (count := parts_of(self.node)) is not None:
            return count
        with suppress(NoNumbers):
            return len(extents_of(self.node, self.tracer))
        with suppress(NoNumbers):
            return len(numbers_of(self.node, self.tracer))
        return int(self._questions.length(self.node))

    def __getitem__(self, index: Any) -> Any:
        count = parts_of(self.node) if isinstance(index, slice) else None
        if count is None:
            return super().__getitem__(index)  # type: ignore[misc]
        return tuple(self[place] for place in range(count)[index])

    def __int__(self) -> int:
        return int(self._answer())

    def __float__(self) -> float:
        return float(self._answer())

    def __getattr__(self, k: str) -> Any:
        if k in EXTENTS and not isinstance(self, RegionAttribute):
            with suppress(NoNumbers):
                return getattr(extents_of(self.node, self.tracer), k)
        return RegionAttribute(self, k)

    @classmethod
    def __torch_function__(cls, orig_method: Any, types: Any, args: Any = None, kwargs: Any = None) -> Any:
        if is_in_place(orig_method) and args and isinstance(args[0], torch.Tensor):
            tracers = [leaf.tracer for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, RegionProxy)]
            if tracers and not getattr(tracers[0], "records", True):
                raise WritesIntoMade
        return super().__torch_function__(orig_method, types, args, kwargs)

    def _answer(self) -> Any:
        return self.tracer.answer(self.node)  # type: ignore[attr-defined]

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
def answering(module: nn.Module, tracer: Any) -> Iterator[None]:
    """Let `isinstance`, `range`, `max` and `min` take proxies for what they stand for, in the code of a model's own.  So do
    functions of torch that make tensors (which are all made when the model runs if the tracer `records`), and limits of types.

    That is the methods of its classes, and the functions that these call by name.  What C asks of proxies must see them: torch
    would take one that says it is a tensor for memory.
    """
    kinds = dict.fromkeys(kind for part in module.modules() for kind in type(part).__mro__ if not _is_of_torch(kind))
    functions = [value for kind in kinds for value in vars(kind).values() if inspect.isfunction(value)]
    known = {*functions}
    for function in functions:
        called = (function.__globals__.get(name) for name in function.__code__.co_names)
        new = {other for other in called if inspect.isfunction(other) and not _is_of_torch(other)} - known
        functions += new
        known |= new
    scopes = {id(function.__globals__): function.__globals__ for function in functions}
    patched = [(scope, name) for scope in scopes.values() for name in ANSWERED if name not in scope]
    for scope, name in patched:
        scope[name] = ANSWERED[name]
    of_torch = {name: getattr(torch, name) for name in (*FACTORIES, *LIMITS)}
    for name, function in of_torch.items():
        setattr(torch, name, _made_when_run(function, tracer) if name in FACTORIES else _of_known_type(function))
    try:
        yield
    finally:
        for name, function in of_torch.items():
            setattr(torch, name, function)
        for scope, name in patched:
            del scope[name]


FACTORIES = ("arange", "empty", "eye", "full", "linspace", "ones", "zeros")
"""Functions of torch that take extents, and a device or a type, and no tensor."""

LIMITS = ("finfo", "iinfo")
"""What torch tells of a type: torch.finfo(x.dtype).max."""


def _of_known_type(limits: Callable[..., Any]) -> Callable[..., Any]:
    def of(*args: Any, **kwargs: Any) -> Any:
        known = pytree.tree_map(lambda arg: arg._answer() if isinstance(arg, RegionProxy) else arg, (args, kwargs))
        return limits(*known[0], **known[1])

    return of


def _made_when_run(factory: Callable[..., Any], tracer: Any) -> Callable[..., Any]:
    """The same for proxies: `torch.zeros(x.shape[0], 4, device=x.device)`."""

    def make(*args: Any, **kwargs: Any) -> Any:
        depends = any(isinstance(leaf, RegionProxy) for leaf in pytree.tree_leaves((args, kwargs)))
        if not depends and (not tracer.records or tracer.questions.running):
            return factory(*args, **kwargs)
        return tracer.create_proxy("call_function", factory, args, kwargs)

    return make


def _is_instance(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) or (isinstance(value, RegionProxy) and issubclass(value._questions.kind(value.node), kinds))


def _range(*bounds: Any) -> range:
    return range(*(int(bound) if isinstance(bound, RegionProxy) else bound for bound in bounds))


def _extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    """`max` or `min`: of numbers that depend on the size it is recorded, for Python would compare them now."""

    def of(*values: Any, **options: Any) -> Any:
        proxies = [value for value in values if isinstance(value, RegionProxy)]
        if not proxies or options or len(values) == 1:
            return function(*values, **options)
        try:
            known = {proxy.node: proxy._answer() for proxy in proxies}
        except TraceError:
            return proxies[0].tracer.create_proxy("call_function", function, values, {})
        return function(*(known[value.node] if isinstance(value, RegionProxy) else value for value in values))

    return of


ANSWERED: Mapping[str, Any] = {"isinstance": _is_instance, "range": _range, "max": _extreme(max), "min": _extreme(min)}


def _is_of_torch(defined: Any) -> bool:
    return str(defined.__module__).split(".")[0] in ("torch", "builtins")


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
