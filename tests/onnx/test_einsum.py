"""Einsum with a constant matrix: a layer in letters."""

import pytest

from repcompiler.frontends.onnx import OnnxDocument


@pytest.mark.parametrize(
    "einsum",
    [
        'Einsum<equation="bchw,oc->bohw">(c, w_8x6)',
        'Einsum<equation="bihw, io -> bohw">(c, w_6x8)',
        'Einsum<equation="oc,bchw->bohw">(w_8x6, c)',
        'Einsum<equation="oc,bc...->bo...">(w_8x6, c)',
        'Einsum<equation="...chw,oc->...ohw">(c, w_8x6)',
        'Einsum<equation="bchw,c->bchw">(c, w_6)',
        'Einsum<equation="c,bc...->bc...">(w_6, c)',
    ],
)
def test_a_matrix_on_channels_is_a_convolution_and_merges_with_its_neighbours(expect, einsum):
    expect(f"c = Conv<pads=[1,1,1,1]>(x, k_6x4x3x3, b_6)  e = {einsum}  y = Relu(e)", "Conv Relu", {})


def test_a_matrix_on_the_last_axis_is_fully_connected(expect):
    body = 'e = Einsum<equation="bchw,dw->bchd">(x, w_8x7)  f = MatMul(e, v_8x3)  y = Relu(f)'
    expect(body, "MatMul Relu", {"x": "N,4,H,7"})


def test_a_matrix_on_tokens_is_a_fully_connected_layer(expect):
    body = 'a = MatMul(x, v_6x5)  c = Einsum<equation="bnc,dc->bnd">(a, w_8x5)  y = Identity(c)'
    expect(body, "Identity MatMul", {"x": "N,T,6"})


def test_in_the_middle_of_a_bottleneck_it_is_a_convolution(expect):
    body = """c = Conv<pads=[1,1,1,1]>(x, k_5x4x3x3, b_5)  e = Einsum<equation="bchw,oc->bohw">(c, w_8x5)
        n = BatchNormalization(e, g_8, d_8, m_8, var_8)  y = Relu(n)"""
    expect(body, "Conv Relu", {})


@pytest.mark.parametrize(
    ("equation", "shape", "weight"),
    [
        ("bchw,oc->bhwo", "N,4,H,W", "w_8x4"),
        ("bchw,hg->bcgw", "N,4,5,W", "w_5x3"),
        ("bchw,oc->bochw", "N,4,H,W", "w_8x4"),
        ("bchw,oc->bhw", "N,4,H,W", "w_8x4"),
        ("bchh,oc->bohh", "N,4,5,5", "w_8x4"),
        ("bchw,bc->bchw", "3,4,H,W", "w_3x4"),
        ("...chw,...c->...chw", "3,4,H,W", "w_3x4"),
        ("bchw,o->bohw", "N,1,H,W", "w_8"),
        ("bchw,c->bchw", "N,1,H,W", "w_8"),
        ("bchw,c->bhwc", "N,4,H,W", "w_4"),
        ("bchw,h->bchw", "N,4,H,W", "w_1"),
    ],
)
def test_any_other_sum_stays(model, equation, shape, weight):
    y = ",".join(f"y{axis}" for axis, _ in enumerate(equation.partition("->")[2].replace("...", "b")))
    graph = OnnxDocument.open(model(f'y = Einsum<equation="{equation}">(x, {weight})', x=shape, y=y)).graph()
    assert [(node.op.kind, node.op.reason) for node in graph.nodes] == [
        ("Einsum", "it is not a matrix on the channels, or on the last axis, nor a vector along an axis")
    ]


def test_a_product_of_data_stays(expect):
    expect('y = Einsum<equation="bchw,bdhw->bcd">(x, x)', "Einsum", {"y": "N,4,4"})
