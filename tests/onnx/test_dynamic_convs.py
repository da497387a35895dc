"""Convolutions whose kernel is computed: a mixture of experts (CondConv, ParameterNet), as exporters write it."""

import numpy as np
import pytest

BN = "BatchNormalization(c, gamma_8, beta_8, mean_8, var_8)"
GATES = "m = GlobalAveragePool(x) f = Flatten(m) l = Gemm(f, r_4x3, q_3)"
MIXED = "e = MatMul(a, e_3x{numbers}) w = Reshape(e, [{kernel}])"
X = "1,4,9,11"


def mixed(kernel):
    return MIXED.format(numbers=np.prod(kernel), kernel=",".join(map(str, kernel)))


@pytest.mark.parametrize("gate", ["Sigmoid", "Softmax"])
@pytest.mark.parametrize(
    ("kernel", "conv"),
    [
        ((8, 4, 3, 3), "Conv<pads=[1,1,1,1]>(x, w)"),
        ((8, 4, 3, 3), 'Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w, b_8)'),
        ((8, 1, 3, 2), "Conv<group=4, dilations=[2,1]>(x, w, b_8)"),
        ((8, 4, 1, 1), "Conv(x, w)"),
    ],
)
def test_batch_norm_goes_into_the_experts(expect, kernel, conv, gate):
    body = f"{GATES} a = {gate}(l) {mixed(kernel)} c = {conv} n = {BN} y = Relu(n)"
    expect(body, f"Conv Flatten Gemm Gemm GlobalAveragePool Relu Reshape {gate}", {"x": X})


def test_samples_as_groups_are_seen_through_where_the_batch_is_one(expect):
    body = f"""{GATES} a = Sigmoid(l) {mixed((8, 4, 3, 3))} s = Reshape(x, [1,4,9,11]) d = Conv<pads=[1,1,1,1]>(s, w)
        t = Transpose<perm=[1,0,2,3]>(d) c = Reshape<allowzero=1>(t, [1,8,9,11]) n = {BN} y = Relu(n)"""
    expect(body, "Conv Flatten Gemm Gemm GlobalAveragePool Relu Reshape Sigmoid", {"x": X})


@pytest.mark.parametrize(
    ("body", "batch", "given"),
    [
        ("s = Reshape(x, [1,8,9,11]) d = Conv<group=2>(s, w) c = Reshape(d, [2,8,7,9])", 2, {}),
        ("u = Reshape(w, p) c = Conv(x, u)", 1, {"p": np.array([8, 4, 3, 3])}),
        ("h = ReduceMean<axes=[1,2,3], keepdims=0>(w) c = Conv(x, w, h)", 1, {}),
    ],
    ids=["samples as groups", "kernel of unknown extents", "computed bias"],
)
def test_other_computed_kernels_compute_what_they_did(check, model, body, batch, given):
    bank = f"e = MatMul(a, e_3x288) w = Reshape(e, [{8 * batch},4,3,3])"
    inputs = "int64[4] p" if given else ""
    source = model(f"{GATES} a = Sigmoid(l) {bank} {body} y = {BN}", x=f"{batch},4,9,11", inputs=inputs)
    _, report = check(source, given)
    assert report.verification.checked
    assert not report.reverted


def test_mixture_is_kept_apart_from_a_kernel_that_reads_it_too(check, model, operators):
    body = f"{GATES} a = Sigmoid(l) {mixed((8, 4, 3, 3))} c = Conv(x, w) n = {BN} d = Conv(x, w) y = Mul(n, d)"
    result, _ = check(model(body, x=X))
    assert "BatchNormalization" in operators(result)


def test_convolutions_before_beside_and_behind_go_into_the_experts(expect):
    body = f"{GATES} a = Sigmoid(l) {mixed((4, 4, 3, 3))} z = Conv(x, z_4x4x1x1) c = Conv<pads=[1,1,1,1]>(z, w)"
    after = "s = Conv(z, s_4x4x1x1, t_4) d = Add(c, s) y = Conv(d, v_5x4x1x1, u_5)"
    expect(f"{body} {after}", "Conv Flatten Gemm Gemm GlobalAveragePool Reshape Sigmoid", {"x": X})


def test_convolution_before_goes_into_the_experts(expect):
    body = f"{GATES} a = Softmax(l) {mixed((8, 6, 3, 3))} z = Conv(x, z_6x4x1x1) c = Conv<pads=[1,1,1,1]>(z, w) y = Relu(c)"
    expect(body, "Conv Flatten Gemm Gemm GlobalAveragePool Relu Reshape Softmax", {"x": X})
