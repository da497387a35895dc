"""Products with constants, changes of type and in-place statements, in the ways that torch has of writing them."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_blocks import Call


def weight(*shape):
    return nn.Parameter(torch.randn(*shape))


IMAGES = {
    "einsum": lambda m, x: torch.einsum("bchw,oc->bohw", x, m.w),
    "einsum, transposed": lambda m, x: torch.einsum("bihw, io -> bohw", x, m.w.t()),
    "einsum, the weight first": lambda m, x: torch.einsum("oc,bchw->bohw", m.w, x),
    "einsum with an ellipsis": lambda m, x: torch.einsum("...chw,oc->...ohw", x, m.w),
    "einsum with a vector": lambda m, x: torch.einsum("oc,bchw->bohw", m.w, torch.einsum("bchw,c->bchw", x, m.w[0])),
    "einsum of a list": lambda m, x: torch.einsum("bchw,oc->bohw", [x, m.w]),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_product_along_the_channels_is_a_pointwise_convolution(plain, name):
    model = Call(lambda m, x: m.norm(IMAGES[name](m, x)), w=weight(6, 4), norm=nn.BatchNorm2d(6))
    assert plain(model) == "Conv2d"


VECTORS = {
    "addmm": lambda m, x: torch.addmm(m.b, x, m.w),
    "addmm, scaled": lambda m, x: torch.addmm(m.b[None], x, m.w, beta=2, alpha=0.5),
    "mm": lambda m, x: x.mm(m.w),
    "einsum": lambda m, x: torch.einsum("bi,io->bo", x, m.w),
    "addcmul": lambda m, x: torch.addcmul(m.b, x @ m.w, m.b, value=3),
    "addcmul, the factor first": lambda m, x: torch.addcmul(m.b, m.b, x @ m.w),
    "addcmul of numbers of one": lambda m, x: torch.addcmul(m.b[:1], x @ m.w, m.b),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_product_of_vectors_is_a_linear_layer(plain, name):
    model = Call(lambda m, x: m.norm(VECTORS[name](m, x)), w=weight(4, 5), b=weight(5), norm=nn.BatchNorm1d(5))
    assert plain(model, shape=(3, 4)) == "Linear"


@pytest.mark.parametrize("axes", [(), (1,)])
def test_a_product_from_the_left_is_a_pointwise_convolution(plain, axes):
    model = Call(
        lambda m, x: F.relu(m.norm(m.w @ x) + m.conv(x)),
        w=weight(*axes, 6, 4),
        norm=nn.BatchNorm1d(6),
        conv=nn.Conv1d(4, 6, 3, padding=1),
    )
    assert plain(model, spatial=1) == "Conv1d relu"


TOKENS = {
    "matmul with an axis of one": lambda m, x: x @ m.w,
    "einsum": lambda m, x: torch.einsum("bnc,cd->bnd", x, m.w[0]),
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_product_of_tokens_is_a_linear_layer(plain, name):
    assert plain(Call(lambda m, x: TOKENS[name](m, x) * m.b, w=weight(1, 4, 5), b=weight(5)), shape=(3, 7, 4)) == "Linear"


LEFT = {
    "a matrix for each image": lambda m, x: x.flatten(2).transpose(1, 2) @ m.w[None].expand(3, 4, 6),
    "more axes than the tensor": lambda m, x: x.mean((2, 3)) @ m.w[None, None],
    "a trace": lambda m, x: torch.einsum("bchh,oc->boh", x[..., :1, :1], m.w.t()),
    "another place for the result": lambda m, x: torch.einsum("bchw,oc->bhwo", x, m.w.t()),
    "a row": lambda m, x: torch.einsum("bchw,hg->bcgw", x[:, :, :4], m.w[:, :4]),
    "no contraction": lambda m, x: torch.einsum("bchw,oc->bochw", x, m.w.t()),
    "a bias for each row": lambda m, x: torch.addmm(m.w[:3, :1], x.mean((2, 3))[:3], m.w),
    "a product of data": lambda m, x: torch.addcmul(x, x, x),
    "different axes": lambda m, x: torch.addcmul(m.w[:, :1, None], x[..., :4], m.w[:, :4].mean(0)),
}


@pytest.mark.parametrize("name", LEFT)
def test_other_products_are_left(plain, name):
    assert plain(Call(LEFT[name], w=weight(4, 6)), shape=(3, 4, 5, 7)).split()[-1] in ("matmul", "einsum", "addmm", "addcmul")


NOTHING = {
    "float": lambda m, x: x.double(),
    "to": lambda m, x: x.to(torch.float64),
    "to, by name": lambda m, x: x.to(dtype=torch.float64),
    "to that of a weight": lambda m, x: x.to(m.conv.weight.dtype),
    "type": lambda m, x: x.type(torch.float64),
    "type as": lambda m, x: x.type_as(m.conv.weight),
    "clone": lambda m, x: x.clone(),
    "a slope of one": lambda m, x: F.leaky_relu(x, 1.0),
    "a slope of one, in a module": lambda m, x: m.leaky(x),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_is_in_nobodys_way(plain, name):
    model = Call(
        lambda m, x: m.norm(NOTHING[name](m, m.conv(x))),
        conv=nn.Conv2d(4, 4, 3),
        norm=nn.BatchNorm2d(4),
        leaky=nn.LeakyReLU(1.0),
    )
    assert plain(model) == "Conv2d"


@pytest.mark.parametrize("cast", [lambda x: x.float().double(), lambda x: x.half().to(torch.float64), lambda x: x.to("cpu")])
def test_another_type_or_place_stays(exactly, calls, cast):
    model = Call(lambda m, x: m.norm(cast(m.conv(x))), conv=nn.Conv2d(4, 4, 3), norm=nn.BatchNorm2d(4))
    result, _ = exactly(model, verify=False)
    assert calls(result).split()[-1] == "BatchNorm2d"


def test_modules_may_be_called_by_the_name_of_their_input(plain):
    model = Call(lambda m, x: m.norm(input=m.conv(input=x)), conv=nn.Conv2d(4, 4, 3), norm=nn.BatchNorm2d(4))
    assert plain(model) == "Conv2d"


def test_groups_that_are_read_from_a_shape_are_a_number(plain):
    """Anti-aliased networks blur each channel so."""
    model = Call(
        lambda m, x: m.mix(F.conv2d(x, m.w, stride=2, groups=x.shape[1])), w=weight(4, 1, 3, 3), mix=nn.Conv2d(4, 6, 1)
    )
    assert [name for name in plain(model).split() if name != "getitem"] == ["Conv2d"]


STATEMENTS = {
    "methods": lambda m, x: (x.add_(1), x.mul_(m.c), x.sub_(m.c)),
    "a product": lambda m, x: (x.mul_(m.c),),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_what_is_changed_in_place_by_a_statement_is_read_changed(plain, name):
    def forward(m, x):
        x = m.conv(x)
        STATEMENTS[name](m, x)
        return F.relu(x)

    assert plain(Call(forward, conv=nn.Conv2d(4, 4, 3), c=weight(4, 1, 1))) == "Conv2d relu"


def test_what_is_read_before_it_is_changed_is_read_unchanged(exactly):
    def forward(m, x):
        x = m.conv(x)
        before = x * 2
        view = x[:, :2]
        x.mul_(m.c).add_(before)
        x.relu_()
        return x, before, view

    exactly(Call(forward, conv=nn.Conv2d(4, 4, 3), c=weight(4, 1, 1)))
