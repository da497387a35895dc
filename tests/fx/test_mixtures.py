"""Sums with weights, in the ways that torch writes them: scaled terms, interpolations, one number for each operation."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_blocks import Call, pair

import repcompiler

TERMS = {
    "add": lambda a, b: torch.add(a, b, alpha=0.5),
    "add by keyword": lambda a, b: torch.add(input=a, other=b, alpha=-3),
    "method": lambda a, b: a.add(b, alpha=2),
    "in place": lambda a, b: a.add_(b, alpha=0.3),
    "sub": lambda a, b: torch.sub(a, b, alpha=1.5),
    "sub in place": lambda a, b: a.sub_(b, alpha=-2),
    "nothing": lambda a, b: a.add(b, alpha=0),
    "rsub": lambda a, b: torch.rsub(a, b, alpha=2),
    "addcmul": lambda a, b: torch.addcmul(a, b, torch.tensor([[[1.0]], [[-2.0]], [[3.0]], [[0.5]]]), value=2),
    "addcmul, the factor first": lambda a, b: a.addcmul_(torch.tensor(3.0), b),
    "addcdiv": lambda a, b: torch.addcdiv(a, b, torch.tensor([[[1.0]], [[-2.0]], [[3.0]], [[0.5]]])),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "lerp far": lambda a, b: a.lerp(b, 0.8),
    "lerp beyond": lambda a, b: a.lerp(b, -1.5),
    "lerp in place": lambda a, b: a.lerp_(b, 0.25),
}


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("name", TERMS)
def test_branches_of_a_sum_with_weights_merge(plain, name, example):
    model = Call(lambda m, x: F.relu(TERMS[name](m.wide(x), m.narrow(x))), wide=pair(k=3), narrow=pair(k=1))
    assert plain(model, example=example) == "Conv2d relu"


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
def test_the_weight_of_an_interpolation_may_be_a_parameter(plain, shape):
    model = Call(lambda m, x: torch.lerp(m.wide(x), m.narrow(x), m.w), wide=pair(), narrow=pair(k=1), w=torch.full(shape, 0.7))
    assert plain(model) == "Conv2d"


STACKED = {
    "along another axis": lambda m, x: torch.stack([m.wide(x), m.narrow(x)], 1).sum(2),
    "along all": lambda m, x: torch.stack([m.wide(x), m.narrow(x)], 1).mean((1, 2)),
    "with an axis that stays": lambda m, x: torch.stack([m.wide(x), m.narrow(x)], 1).sum(1, keepdim=True),
    "of maps that do not merge": lambda m, x: torch.stack([m.wide(x).sigmoid(), x.sigmoid()]).sum(0),
    "that is read twice": lambda m, x: (lambda s: (s.sum(0), s.mean(0), s))(torch.stack([m.wide(x), m.narrow(x)])),
    "before a write": lambda m, x: (lambda y: (torch.stack([y, x]), y.add_(1)))(m.wide(x))[0].sum(0),
    "of views before a write": lambda m, x: (lambda y: (torch.stack([y[:, :2], x[:, :2]]), y.mul_(3), y))(m.wide(x))[0].mean(0),
}


@pytest.mark.parametrize("name", STACKED)
def test_any_other_stack_computes_what_it_did(exactly, name):
    exactly(Call(STACKED[name], wide=pair(k=3), narrow=pair(k=1)))


LEFT = {
    "one weight a channel": (lambda m, x: torch.lerp(m.wide(x), m.narrow(x), m.w), "Conv2d Conv2d lerp"),
    "weights that depend on data": (lambda m, x: torch.lerp(m.wide(x), m.narrow(x), x), "Conv2d Conv2d lerp"),
    "maps that do not merge": (
        lambda m, x: torch.add(m.wide(x).sigmoid(), m.narrow(x).sigmoid(), alpha=2),
        "Conv2d sigmoid Conv2d sigmoid add",
    ),
    "an interpolation of those": (
        lambda m, x: torch.lerp(m.wide(x).sigmoid(), m.narrow(x).sigmoid(), 0.2),
        "Conv2d sigmoid Conv2d sigmoid lerp",
    ),
    "one of constants": (lambda m, x: torch.lerp(m.w, m.wide(x), 0.2), "Conv2d lerp"),
}


@pytest.mark.parametrize("name", LEFT)
def test_a_sum_with_weights_that_merges_nothing_stays_one_call(plain, name):
    forward, becomes = LEFT[name]
    assert plain(Call(forward, wide=pair(), narrow=pair(k=1), w=torch.randn(4, 1, 1))) == becomes


def test_a_map_that_is_scaled_and_read_elsewhere_stays(plain):
    def forward(m, x):
        y = m.wide(x)
        return torch.add(m.narrow(x), y, alpha=2), y

    assert plain(Call(forward, wide=pair(), narrow=pair(k=1))) == "Conv2d Conv2d add"


def test_a_write_that_others_see_stays_a_write(plain):
    def forward(m, x):
        y = m.wide(x)
        z = y.relu()
        view = y[:, :2]
        y.add_(m.narrow(x), alpha=2)
        return view + 1, z

    assert "add_" in plain(Call(forward, wide=pair(), narrow=pair(k=1)))


MIXTURES = {
    "softmax": lambda m, x: sum(w * op(x) for w, op in zip(F.softmax(m.w, 0), m.ops, strict=True)),
    "a module's": lambda m, x: sum(w * op(x) for w, op in zip(m.softmax(m.w), m.ops, strict=True)),
    "sigmoid": lambda m, x: sum(op(x) * w for w, op in zip(m.w.sigmoid(), m.ops, strict=True)),
    "as they are": lambda m, x: sum(m.ops[i](x) * w for i, w in enumerate(m.w)),
    "unbind": lambda m, x: sum(w * op(x) for w, op in zip(m.w.exp().unbind(0), m.ops, strict=True)),
    "a row of several": lambda m, x: sum(w * op(x) for w, op in zip(m.rows.softmax(-1)[1], m.ops, strict=True)),
    "rows": lambda m, x: sum(w * op(x) for row in m.rows for w, op in zip(row, m.ops, strict=True)),
    "a list": lambda m, x: sum(w * op(x) for w, op in zip(list(m.w), m.ops, strict=True)),
    "their number": lambda m, x: sum(m.w[i] * m.ops[i](x) for i in range(len(m.w))),
    "unpacked": lambda m, x: (lambda u, v, w: u * m.ops[0](x) + v * m.ops[1](x) + w * m.ops[2](x))(*m.w.tanh()),
}


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_of_operations_by_parameters_becomes_one_convolution(plain, name, example):
    """Liu et al., DARTS, ICLR 2019, equation 2."""
    ops = nn.ModuleList([pair(k=3), pair(k=1), nn.Identity()])
    model = Call(MIXTURES[name], ops=ops, w=torch.randn(3), rows=torch.randn(2, 3), softmax=nn.Softmax(-1))
    assert plain(model, example=example) == "Conv2d"


def test_a_mixture_by_weights_that_depend_on_data_is_left_to_python(randomise, same, calls):
    def forward(m, x):
        return sum(w * m.wide(x) for w in x.mean((1, 2, 3)).softmax(0))

    model = randomise(Call(forward, wide=pair())).double()
    result = repcompiler.compile(model, torch.randn(2, 4, 5, 6, dtype=torch.float64), objective="plain")
    assert calls(result) == "Call Conv2d"
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        same(model(x), result(x))
