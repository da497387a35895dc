"""From a model to its regions: one where it can be traced whole, else regions around and inside what cannot.

The model itself becomes a region.  In a module that it calls because it cannot be traced, the children become regions of their
own, as far as that module does nothing with them but call them.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import fx, nn

from repcompiler.errors import ModelError
from repcompiler.frontends.fx_inputs import first_taken, guess_inputs
from repcompiler.frontends.fx_questions import Questions
from repcompiler.frontends.fx_run import Values, cloned, outputs_of
from repcompiler.frontends.fx_trace import CONTAINERS, Untraceable, copy_module, is_builtin, plain_data, regions, trace_region


def trace_model(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], inside: bool = True, guessed: bool = False
) -> fx.GraphModule:
    """A model as a region that shares its parameters, with regions inside what cannot be traced if `inside`.

    Parameters of its forward that have a default and no example keep that default.  What the forward asks of its inputs is
    answered from the example, or where there is none from a made-up one.  Where the model's own forward cannot be traced, the
    region calls it as its one leaf, named `model`.
    Raises ModelError where nothing in it can be traced.
    """
    module = copy_module(model, model.parameters())
    if isinstance(module, fx.GraphModule):
        return _open_leaves(module, {}) if inside else module
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind_partial(*args, **kwargs)
    except TypeError as error:
        raise ModelError(f"the example inputs do not fit the model's forward: {error}") from error
    given, fixed = bound.arguments, dict[str, Any]()
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL and name not in given:
            fixed[f"*{name}"] = ()
        elif parameter.kind is parameter.VAR_KEYWORD and name not in given:
            fixed[f"**{name}"] = {}
        elif type(parameter.default) in (bool, int, float, str, type(None)) and name not in given:
            fixed[name] = parameter.default
    try:
        region = trace_region(module, fixed, given, Questions(model, bound, guessed))
    except Untraceable as reason:
        region = _call_only(module, signature, given)
        if not given and (made_up := _made_up(region, model)) is not None:
            return trace_model(model, made_up, {}, inside, guessed=True)
        if inside and len(regions(_open_leaves(region, {}))) == 1:
            raise ModelError(
                f"{type(module).__name__} cannot be traced by torch.fx ({reason}), nor can anything in it: keep Python control "
                "flow that depends on tensors out of its forward, or give torch.export.export(model, inputs).module()"
            ) from reason
        return region
    return _open_leaves(region, {}) if inside else region


def _made_up(region: fx.GraphModule, model: nn.Module) -> Values | None:
    """Arguments that a model runs on, to answer what its forward asks; None where none are found."""
    trial = copy_module(model, model.parameters())

    def run(values: Values) -> list[torch.Tensor]:
        with torch.no_grad():
            return outputs_of(trial(*cloned(values)))

    taken = first_taken(region, guess_inputs(region), run)
    return taken and taken[0]


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
    return fx.GraphModule(holder, graph, type(module).__name__)


Opened = dict[int, tuple[nn.Module, nn.Module]]
"""By identity: a module that was met, and what stands for it wherever it is met again."""


def _open_leaves(region: fx.GraphModule, opened: Opened) -> fx.GraphModule:
    for target in dict.fromkeys(str(node.target) for node in region.graph.nodes if node.op == "call_module"):
        path, _, name = target.rpartition(".")
        _open(region.get_submodule(path), name, opened)
    return region


def _open(owner: nn.Module, name: str, opened: Opened) -> None:
    """Make a region of a sub-module; where it cannot be one whole, of the children that it does nothing with but call."""
    module = owner._modules[name]
    if module is None or is_builtin(module) or not any(is_builtin(part) for part in module.modules()):
        return
    if id(module) not in opened:
        opened[id(module)] = module, module
        try:
            region = module if isinstance(module, fx.GraphModule) else _trace_without_options(module)
            opened[id(module)] = module, _open_leaves(region, opened)
        except Untraceable:
            for child, part in module._modules.items():
                if isinstance(part, CONTAINERS) and not _only_called(module, child):
                    for item in part._modules if not _touched(module, child) else ():
                        _open(part, item, opened)
                elif isinstance(module, CONTAINERS) or _only_called(module, child):
                    _open(module, child, opened)
    owner._modules[name] = opened[id(module)][1]


def _trace_without_options(module: nn.Module) -> fx.GraphModule:
    """A region of a module in whose place it is called: with which of its optional arguments is not known."""
    for p in inspect.signature(module.forward).parameters.values():
        if p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise Untraceable("its optional arguments depend on the caller")
    return trace_region(module)


def _only_called(module: nn.Module, child: str) -> bool:
    """Whether a module calls `self.child`, asks if it is None, or reads fixed numbers and words from it, and no more."""
    source = _source(module)
    nodes = _attributes(source)
    used = {node.func for node in source if isinstance(node, ast.Call)}
    used |= {
        node.left for node in source if isinstance(node, ast.Compare) and [*map(ast.unparse, node.comparators)] == ["None"]
    }
    fixed = _fixed(module._modules[child])
    used |= {node.value for node in nodes if node.attr in fixed and isinstance(node.ctx, ast.Load)}
    return bool(nodes) and all(node in used for node in nodes if node.attr == child)


def _fixed(module: nn.Module | None) -> AbstractSet[str]:
    """The numbers and words of a module that calling it does not change."""
    nodes = [] if module is None or isinstance(module, CONTAINERS) else _attributes(_source(module))
    written = {node.attr for node in nodes if not isinstance(node.ctx, ast.Load)}
    return plain_data(module).keys() - written if module is not None and nodes else frozenset()


def _attributes(nodes: Iterable[ast.AST]) -> list[ast.Attribute]:
    return [node for node in nodes if isinstance(node, ast.Attribute)]


def _touched(module: nn.Module, child: str) -> bool:
    """Whether that source reads an attribute of `self.child` or of one of its items; so it is said where there is no source."""
    nodes = _source(module)
    for node in nodes:
        base = node.value if isinstance(node, ast.Attribute) and node.attr not in ("items", "keys", "values") else None
        while isinstance(base, ast.Subscript):
            base = base.value
        if isinstance(base, ast.Attribute) and base.attr == child:
            return True
    return not nodes


def _source(module: nn.Module) -> list[ast.AST]:
    """The syntax of what may run when a module is called, as far as it is not torch's; empty if unknown.

    That is its forward, what overrides a method of torch's, and each method that is named in one of these.
    """
    methods: dict[str, list[ast.AST]] = {}
    for kind in type(module).__mro__:
        for name, method in vars(kind).items():
            if inspect.isfunction(method) and name != "__init__" and not kind.__module__.startswith("torch."):
                try:
                    methods.setdefault(name, []).extend(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(method)))))
                except (OSError, SyntaxError):
                    return []
    pending = [name for name in methods if hasattr(nn.Module, name)]
    reached: dict[str, list[ast.AST]] = {}
    while pending:
        name = pending.pop()
        if name in methods and name not in reached:
            reached[name] = methods[name]
            named = (getattr(node, "attr", getattr(node, "value", None)) for node in methods[name])
            pending += [word for word in named if isinstance(word, str)]
    return [node for nodes in reached.values() for node in nodes]
