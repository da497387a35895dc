"""From a module to torch.fx graphs: one graph where it can be traced whole, else graphs around and inside what cannot.

A *region* is a GraphModule.  The model itself becomes one; a sub-module whose Python cannot be traced stays the module it is,
a leaf of that region, and the children it calls become regions of their own inside it.  The same goes for a module with
hooks, which only its own `__call__` runs.
"""

from __future__ import annotations

import ast
import copy
import inspect
import operator
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.utils._python_dispatch import TorchDispatchMode

from repcompiler.errors import ModelError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
IN_PLACE_OPERATORS = tuple(
    getattr(operator, name)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor", "setitem")
)


def is_builtin(module: nn.Module) -> bool:
    """Whether torch.nn defines what this module does: an operation, not a composition of the user's."""
    home = type_before_parametrizations(module).__module__
    return home.startswith(("torch.nn.", "torch.ao.nn.")) and not isinstance(module, CONTAINERS)


def has_hooks(module: nn.Module) -> bool:
    """Whether calling this module runs more than its forward."""
    return any(getattr(module, name, None) for name in HOOKS)


def copy_module(module: nn.Module, share: Iterable[torch.Tensor] = ()) -> Any:
    """A deep copy; the tensors in `share` are not copied.  Raises ModelError where Python cannot copy the module."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in share}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf and id(value) not in memo:
                memo[id(value)] = (
                    value.detach().clone()
                )  # computed from parameters, as hooks leave it: torch copies leaves only
    kept = list(memo.values())
    try:
        result = copy.deepcopy(module, memo)
    except Exception as error:
        raise ModelError(f"the model cannot be copied: {_reason(error)}; remove what is not plain data from it") from error
    del kept
    for old, new in zip(module.modules(), result.modules(), strict=False):
        if isinstance(old, fx.GraphModule):  # its own deep copy loses these
            vars(new).update({name: copy.copy(vars(old)[name]) for name in HOOKS if name in vars(old)})
    return result


class Deterministic(TorchDispatchMode):
    """Raises where random numbers are drawn: what is computed once may not be random."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise TypeError(f"{func.name()} draws random numbers")
        return func(*args, **(kwargs or {}))


class InPlaceProxy(fx.Proxy):
    """Records `x += y` and `x[i] = y` as the writes they are: torch.fx makes a sum of the first and refuses the second."""


def _record(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: self.tracer.create_proxy("call_function", function, (self, *args), {})


for _function in IN_PLACE_OPERATORS:
    setattr(InPlaceProxy, f"__{_function.__name__}__", _record(_function))


class RegionTracer(fx.Tracer):
    """Traces through the user's modules, not through torch's.  Where the Python of one cannot be traced, it is called instead.

    Arguments in `fixed` keep that value and are no inputs.  Buffers are read when the model runs, as parameters are: what the
    forward writes into them is not lost.
    """

    def __init__(self, fixed: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.fixed = fixed or {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_builtin(m) or has_hooks(m)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        path, known, stack = self.path_of_module(m), len(self.graph.nodes), dict(self.module_stack)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.is_leaf_module(m, path):
                raise
            for node in reversed(list(self.graph.nodes)[known:]):
                self.graph.erase_node(node)
            self.module_stack.clear()
            self.module_stack.update(stack)
            return self.create_proxy("call_module", path, args, kwargs)

    @cached_property
    def paths(self) -> dict[int, tuple[str, torch.Tensor]]:
        """Where the root holds each tensor, by identity: torch.fx would search all of them for each one it meets."""
        named = [*self.root.named_buffers(), *self.root.named_parameters()]
        return {id(tensor): (name, tensor) for name, tensor in named}

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if not isinstance(attr_val, torch.Tensor) or id(attr_val) not in self.paths:
            return super().getattr(attr, attr_val, parameter_proxy_cache)
        name, _ = self.paths[id(attr_val)]
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, torch.Tensor) and id(a) in self.paths:
            return self.create_node("get_attr", self.paths[id(a)][0], (), {})
        return super().create_arg(a)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        for index, arg in enumerate(args):
            if isinstance(arg, fx.Proxy) and arg.node.target in self.fixed:
                args[index] = self.fixed[str(arg.node.target)]
                self.graph.erase_node(arg.node)
        return function, args


class Untraceable(Exception):
    """Why a module cannot be traced, in one line."""


def trace_model(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> fx.GraphModule:
    """The model as a region, with regions inside what cannot be traced.  `module` is used up: give a copy.

    Parameters of its forward that have a default and no example keep that default.  Where the model's own forward cannot be
    traced, the region calls it as its one leaf, named `model`.
    Raises ModelError where nothing in it can be traced.
    """
    if isinstance(module, fx.GraphModule):
        _open_leaves(module)
        return module
    signature = inspect.signature(module.forward)
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError as error:
        raise ModelError(f"the example inputs do not fit the model's forward: {error}") from error
    plain = (bool, int, float, str, type(None))
    defaults = {name: parameter.default for name, parameter in signature.parameters.items() if name not in given}
    fixed = {name: default for name, default in defaults.items() if type(default) in plain}
    try:
        return trace_region(module, fixed)
    except Untraceable as reason:
        region = _call_only(module, signature, given)
        if not any(isinstance(part, fx.GraphModule) for part in region.modules() if part is not region):
            raise ModelError(
                f"{type(module).__name__} cannot be traced by torch.fx ({reason}), nor can anything in it: keep Python control "
                "flow that depends on tensors out of its forward, or give torch.export.export(model, inputs).module()"
            ) from reason
        return region


def trace_region(module: nn.Module, fixed: Mapping[str, Any] | None = None) -> fx.GraphModule:
    """One module as a region.  What fails inside it is left as a leaf; raises Untraceable where its own forward fails."""
    if has_hooks(module):
        raise Untraceable("it has hooks, which only calling it runs")
    if "forward" in vars(module):
        raise Untraceable("its forward was replaced on the object")
    tracer = RegionTracer(fixed)
    try:
        with _restoring(module), Deterministic():
            region = fx.GraphModule(module, tracer.trace(module), type(module).__name__)
    except Exception as error:
        raise Untraceable(_reason(error)) from error
    _open_leaves(region)
    return region


def regions(module: nn.Module) -> list[tuple[str, fx.GraphModule]]:
    """Every region of a model with its path, the model itself (path "") first."""
    return [(path, part) for path, part in module.named_modules() if isinstance(part, fx.GraphModule)]


def _call_only(module: nn.Module, signature: inspect.Signature, given: Mapping[str, Any]) -> fx.GraphModule:
    """A region that only calls `module`."""
    graph = fx.Graph()
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or (
            name not in given and parameter.default is not parameter.empty
        ):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY:
            kwargs[name] = graph.placeholder(name)
        else:
            args.append(graph.placeholder(name))
    holder = nn.Module()
    holder.training = module.training
    holder.model = module
    graph.output(graph.call_module("model", tuple(args), kwargs))
    region = fx.GraphModule(holder, graph, type(module).__name__)
    _open_leaves(region)
    return region


def _open_leaves(region: fx.GraphModule) -> None:
    for target in dict.fromkeys(str(node.target) for node in region.graph.nodes if node.op == "call_module"):
        path, _, name = target.rpartition(".")
        _open(region.get_submodule(path), name)


def _open(owner: nn.Module, name: str) -> None:
    """Make a region of a sub-module; where it cannot be one whole, of the children that it does nothing with but call."""
    module = owner._modules[name]
    if module is None or is_builtin(module) or not any(is_builtin(part) for part in module.modules()):
        return
    parameters = () if isinstance(module, fx.GraphModule) else inspect.signature(module.forward).parameters.values()
    try:
        if isinstance(module, fx.GraphModule):
            _open_leaves(module)
        elif any(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            raise Untraceable("its optional arguments depend on the caller")
        else:
            owner._modules[name] = trace_region(module)
    except Untraceable:
        for child, part in module._modules.items():
            if part is None or isinstance(module, CONTAINERS) or only_called(module, child):
                _open(module, child)
            else:
                for grandchild in part._modules:
                    _open(part, grandchild)


def only_called(module: nn.Module, child: str) -> bool:
    """Whether the source of `module`'s class uses `self.child` in calls alone, so that any other callable may stand there."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(type(module))))
    except (OSError, TypeError, SyntaxError):
        return False
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    reads = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load))
    return all(node in called for node in reads if node.attr == child)


@contextmanager
def _restoring(module: nn.Module) -> Iterator[None]:
    """Undo what the forward of a module leaves on it while it is traced: proxies, counters, embedded constants."""
    before = [(part, {key: _shallow(value) for key, value in vars(part).items()}) for part in module.modules()]
    try:
        yield
    finally:
        for part, attributes in before:
            vars(part).clear()
            vars(part).update(attributes)


def _shallow(value: Any) -> Any:
    return copy.copy(value) if type(value) in (dict, list, set) else value


def _reason(error: Exception) -> str:
    """The first line of an error, with its kind where the message alone says little."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
