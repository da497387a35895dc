"""From a module to a region: a torch.fx GraphModule, traced around what cannot be traced.

A sub-module whose Python cannot be traced stays the module it is, called by the region; so does a module with hooks, which only
its own `__call__` runs.  What is inside them is `fx_regions`' business.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from repcompiler.errors import ModelError
from repcompiler.frontends.fx_calls import IN_PLACE_OPERATORS
from repcompiler.frontends.fx_containers import Containers
from repcompiler.frontends.fx_deterministic import Deterministic
from repcompiler.frontends.fx_parameters import NoNumbers, numbers_of
from repcompiler.frontends.fx_proxy import RegionProxy, Unanswered, WritesIntoMade, answering

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
INERT = ("__init__", "__repr__", "extra_repr", "reset_parameters")
"""What a class may define without changing what its modules compute."""

HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
WEIGHT_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)

Given = Mapping[str, Any] | None
"""Arguments by name."""


def torch_type(module: nn.Module) -> type[nn.Module]:
    """The class that says what a module does: its own, or torch's where all that the user adds is a constructor."""
    kind: type[nn.Module] = type_before_parametrizations(module)
    for base in kind.__mro__:
        if base.__module__.startswith("torch."):
            return base
        if any(name not in INERT and (callable(value) or hasattr(value, "__get__")) for name, value in vars(base).items()):
            break
    return kind


def is_builtin(module: nn.Module) -> bool:
    """Whether torch.nn defines what this module does: an operation, not a composition of the user's."""
    kind = torch_type(module)
    home = kind.__module__.startswith(("torch.nn.", "torch.ao.nn."))
    return home and kind is not nn.Module and not issubclass(kind, CONTAINERS)


def has_hooks(module: nn.Module) -> bool:
    """Whether calling this module runs more than its forward."""
    return any(getattr(module, name, None) for name in HOOKS)


def computes_weights(module: nn.Module) -> bool:
    """Whether calling this module only computes its weights before the forward: by parametrisations, or by hooks of torch's.

    Traced through, such a weight is an expression of parameters like any other.
    """
    hooks = [hook for name in HOOKS for hook in getattr(module, name, {}).values()]
    if any(not isinstance(hook, WEIGHT_HOOKS) for hook in hooks) or (hooks and module.training):
        return False
    return bool(hooks) or is_parametrized(module)


def copy_module(module: nn.Module, share: Iterable[torch.Tensor] = ()) -> Any:
    """A deep copy; the tensors in `share` are not copied.  Raises ModelError where Python cannot copy the module."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in share}
    for part in module.modules():
        for value in (leaf for attribute in vars(part).values() for leaf in _held(attribute)):
            if isinstance(value, torch.Tensor) and not value.is_leaf and id(value) not in memo:
                memo[id(value)] = value.detach().clone()  # computed from parameters: torch itself copies leaves only
            elif type(value) in (dict, OrderedDict, set) and not value:  # no hooks: most of what Python would spend its time on
                memo[id(value)] = type(value)()
    try:
        result = copy.deepcopy(module, memo)
    except Exception as error:
        raise ModelError(f"the model cannot be copied: {_reason(error)}; remove what is not plain data from it") from error
    for path, old in regions(module):  # the deep copy of a GraphModule loses its name, its hooks and what the user keeps on it
        new = result.get_submodule(path)
        type(new).__name__ = type(old).__name__
        lost = {name: value for name, value in vars(old).items() if name not in vars(new) and not inspect.ismethod(value)}
        vars(new).update(lost, **{name: copy.copy(vars(old)[name]) for name in HOOKS})
    return result


def _held(attribute: Any) -> Iterable[Any]:
    """An attribute and, of a dictionary, what is in it: some models keep there what they have computed."""
    return (attribute, *(attribute.values() if isinstance(attribute, dict) else ()))


def regions(module: nn.Module) -> list[tuple[str, fx.GraphModule]]:
    """Every region of a model with its path, the model itself (path "") first."""
    return [(path, part) for path, part in module.named_modules() if isinstance(part, fx.GraphModule)]


def forget_tracer(region: fx.GraphModule) -> None:
    """Let torch alone unpickle a region: the tracer that keeps writes as they are is needed only where there are any."""
    if not any(node.target in IN_PLACE_OPERATORS for node in region.graph.nodes):
        region._tracer_cls = region.graph._tracer_cls = None


class RegionTracer(fx.Tracer):
    """Traces through the user's modules, not through torch's.  Where the Python of one cannot be traced, it is called instead.

    Arguments in `fixed` keep that value and are no inputs.  Buffers are read when the model runs, as parameters are: what the
    forward writes into them is not lost.
    """

    def __init__(
        self, fixed: Given = None, examples: Given = None, questions: Unanswered | None = None, records: bool = False
    ) -> None:
        super().__init__()
        self.fixed, self.examples, self.records = fixed or {}, examples or {}, records
        self.questions = questions or Unanswered()
        self.containers = Containers()
        self.fed: set[fx.Node] = set()
        """What depends on an input."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        if node.op == "placeholder" or not self.fed.isdisjoint(node.all_input_nodes):
            self.fed.add(node)
        return RegionProxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if is_builtin(m) and computes_weights(m):
            return False
        pads_first = getattr(m, "padding_mode", "zeros") != "zeros"  # by an operation of its own
        return has_hooks(m) or (is_builtin(m) and not pads_first)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        made_here = m not in (self.submodule_paths or ())  # as in nn.Softmax(1)(x)
        if self.questions.running or made_here:
            return forward(*args, **kwargs)
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

    @cached_property
    def parameters(self) -> set[str]:
        """Which of them are parameters, by name."""
        return {name for name, tensor in self.paths.values() if isinstance(tensor, nn.Parameter)}

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.questions.running:
            return attr_val
        if not isinstance(attr_val, torch.Tensor) or id(attr_val) not in self.paths:
            return super().getattr(attr, attr_val, parameter_proxy_cache)
        name, _ = self.paths[id(attr_val)]
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, fx.Proxy):
            return a.node
        if isinstance(a, torch.Tensor) and id(a) in self.paths:
            return self.create_node("get_attr", self.paths[id(a)][0], (), {})
        return super().create_arg(a)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        for index, arg in enumerate(args):
            if isinstance(arg, fx.Proxy) and arg.node.target in self.fixed:
                args[index] = self.fixed[str(arg.node.target)]
                self.graph.erase_node(arg.node)
            elif isinstance(arg, fx.Proxy):
                args[index] = self.containers.unfold(arg, self.examples.get(str(arg.node.target).lstrip("*")))
        return function, args

    def iter(self, obj: Any) -> Iterator[Any]:
        """Over the parts of a split, where the call says how many there are."""
        return iter([obj[index] for index in range(len(obj))])

    def answer(self, node: fx.Node) -> Any:
        """What Python takes `node` for.  Raises TraceError where it depends on the input."""
        with suppress(NoNumbers):
            return numbers_of(node, self)
        return self.questions.answer(node)

    def truth(self, obj: fx.Proxy, needed: bool | None) -> bool:
        """Of what Python decides by; what an assertion needs is recorded where it depends on the input."""
        try:
            return bool(self.answer(obj.node))
        except TraceError:
            if needed is None:
                raise
            condition = obj if needed else self.create_proxy("call_function", operator.not_, (obj,), {})
            self.create_proxy("call_function", torch._assert, (condition, "an assertion of the model does not hold"), {})
            return needed


class Untraceable(Exception):
    """Why a module cannot be traced, in one line."""


def trace_region(
    module: nn.Module, fixed: Given = None, examples: Given = None, questions: Unanswered | None = None, records: bool = False
) -> fx.GraphModule:
    """One module as a region.  What cannot be traced in it is called; raises Untraceable where its own forward cannot be.

    Containers among the `examples` of its arguments say how many and which items each has; `questions` answers Python's.
    `records`: tensors that the forward makes are made when the region runs, as they must be where it writes into them.
    """
    if has_hooks(module):
        raise Untraceable("it has hooks, which only calling it runs")
    method = vars(module).get("forward", module.forward)
    if getattr(method, "__self__", None) is not module or getattr(type(module), method.__name__, None) is not method.__func__:
        raise Untraceable("its forward was replaced on the object")
    known = {*vars(module)}
    tracer = RegionTracer(fixed, examples, questions, records)
    tracer.traced_func_name = method.__name__  # FasterNet chooses one of its methods for forward
    try:
        with _restoring(module), answering(module, tracer), Deterministic():
            graph = tracer.trace(module)
            if tracer.containers.settle():
                raise Untraceable("it writes into a container that it is given")
            tracer.questions.guard(graph, tracer.containers.taken)
            embedded = {name: value for name, value in vars(module).items() if name not in known}
        with _restoring(module):
            vars(module).update(embedded)
            region = fx.GraphModule(module, graph, type(module).__name__)
    except WritesIntoMade:
        return trace_region(module, fixed, examples, questions, records=True)
    except Exception as error:
        raise Untraceable(_reason(error)) from error
    vars(region).update({name: value for name, value in plain_data(module).items() if not hasattr(region, name)})
    return region


def plain_data(module: nn.Module) -> dict[str, Any]:
    """What a module says of itself in numbers and words: a region keeps it, for others who ask."""
    return {name: value for name, value in vars(module).items() if name[0] != "_" and type(value) in (bool, int, float, str)}


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
    """The first sentence of an error, or its kind where it has no words."""
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0] if lines else type(error).__name__
