"""How each ONNX operator is read: in the forms the algebra understands it takes part in rewriting, in all others it stays.

A case is a body of nodes, completed to a model by the function below its table, and the operators of the compiled model.
Both the lifted graph (in float64) and the compiled model are held against onnxruntime with its optimisations off, on odd,
non-square and tiny inputs.
"""

import numpy as np
import pytest

BN = "y = BatchNormalization(c, g_8, b_8, m_8, var_8)"
KEPT = "BatchNormalization Conv"


def case(name, body, becomes, **options):
    return pytest.param(body, becomes, options, id=name)


def table(*cases):
    return pytest.mark.parametrize(("body", "becomes", "options"), cases)


@table(
    *(
        case(
            f"{auto} {kernel} stride {stride} {size}",
            f'c = Conv<auto_pad="{auto}", strides=[{stride},{stride}]>(x, w_8x4x{kernel})',
            KEPT if size == "dynamic" and stride > 1 and auto != "VALID" else "Conv",
            x={"dynamic": "N,4,H,W", "static": "1,4,11,14"}[size],
        )
        for auto in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for kernel in ("3x3", "2x4")
        for stride in (1, 2, 5)
        for size in ("static", "dynamic")
    ),
    *(
        case(f"{auto} of every {stride}th pixel", f'c = Conv<auto_pad="{auto}", strides={stride}>(x, w_8x4x1x1)', becomes, x=x)
        for auto in ("SAME_UPPER", "SAME_LOWER")
        for stride, x, becomes in (
            ("[2,2]", "N,4,H,W", "Conv"),
            ("[3,3]", "N,4,H,W", KEPT),
            ("[5,5]", "N,4,11,12", "Conv"),
            ("[5,5]", "N,4,7,16", "Conv"),
            ("[5,5]", "N,4,11,14", KEPT),
            ("[4,4]", "N,4,13,16", KEPT),
        )
    ),
    case("asymmetric padding", "c = Conv<pads=[0,1,2,3]>(x, w_8x4x3x3)", "Conv"),
    case("bias", "c = Conv<pads=[1,1,1,1]>(x, w_8x4x3x3, k_8)", "Conv"),
    case("bias left empty", "c = Conv(x, w_8x4x1x1, )", "Conv"),
    case("groups", "c = Conv<group=2, strides=[2,1]>(x, w_8x2x3x1)", "Conv"),
    case("depthwise with multiplier", "c = Conv<group=4>(x, w_8x1x2x2)", "Conv"),
    case("one axis", "c = Conv<pads=[2,1], strides=[2]>(x, w_8x4x3)", "Conv", x="N,4,L"),
    case("three axes", "c = Conv<pads=[0,1,0,1,0,0]>(x, w_8x4x2x2x1)", "Conv", x="N,4,D,H,W"),
    case("weight in a Constant node", "w = Constant<value=float[8,1,1]{1,2,3,4,5,6,7,8}>() c = Conv(x, w)", "Conv", x="N,1,L"),
    case("weight through Identity", "w = Identity(w_8x4x1x1) c = Conv(x, w)", "Conv"),
    case("weight by arithmetic", "t = Transpose<perm=[1,0,2]>(w_4x8x1) w = Mul(t, k_8x1x1) c = Conv(x, w)", "Conv", x="N,4,L"),
    case("weight by Reshape", "w = Reshape(w_4x8, [8,4,1,1]) c = Conv(x, w)", "Conv"),
    case("bias in the type of the data", "d = Cast<to=11>(b_8) b = CastLike(d, x) c = Conv(x, w_8x4x1x1, b)", "Conv"),
    case("weight that is an input", "c = Conv(x, v)", KEPT, inputs="float[8,4,1,1] v"),
    case("weight that is an input with a default", "c = Conv(x, w_8x4x1x1)", KEPT, listed=True),
    case("weight listed as an input in IR version 3", "c = Conv(x, w_8x4x1x1)", "Conv", listed=True, ir=3, opset=8),
    case("weight that depends on data", "w = Mul(w_8x4x1x1, v) c = Conv(x, w)", KEPT + " Mul", inputs="float[1] v"),
    case("bias that is an input", "c = Conv(x, w_8x4x1x1, v)", KEPT, inputs="float[8] v"),
)
def test_conv_before_batch_norm(expect, body, becomes, options):
    expect(f"{body} {BN}", becomes, options)


def test_weights_shared_by_layers_that_are_applied_twice_stay_shared(model, check):
    layer = "{0} = Conv<pads=[1,1,1,1]>({1}, w_8x8x3x3) {2} = BatchNormalization({0}, g_8, b_8, m_8, var_8)"
    source = model(f"{layer.format('c', 'x', 'n')} r = Relu(n) {layer.format('d', 'r', 'y')}", x="N,8,H,W")
    result, _ = check(source)
    assert [node.op_type for node in result.graph.node] == ["Conv", "Relu", "Conv"]
    assert sorted(tuple(array.dims) for array in result.graph.initializer) == [(8,), (8, 8, 3, 3)]


def test_a_weight_shared_by_two_convs_changes_for_one_alone(expect):
    expect(f"a = Conv(x, w_8x8x3x3) r = Relu(a) c = Conv(r, w_8x8x3x3) {BN}", "Conv Conv Relu", {"x": "N,8,13,18"})


@table(
    *(case(f"opset {opset}", BN, "Conv", opset=opset) for opset in range(7, 24)),
    case("eps", "y = BatchNormalization<epsilon=0.5, momentum=0.1>(c, g_8, b_8, m_8, var_8)", "Conv"),
    case("eps 0", "y = BatchNormalization<epsilon=0.0>(c, g_8, b_8, m_8, var_8)", "Conv"),
    case("training mode", "y, m, v = BatchNormalization<training_mode=1>(c, g_8, b_8, m_8, var_8)", KEPT, x="3,4,7,9"),
    case("gamma that is an input", "y = BatchNormalization(c, g, b_8, m_8, var_8)", KEPT, inputs="float[8] g"),
    case(
        "var that is an input",
        "y = BatchNormalization(c, g_8, b_8, m_8, v)",
        KEPT,
        inputs="float[8] v",
        given={"v": np.ones(8, "f")},
    ),
    case(
        "two in a row",
        "d = BatchNormalization(c, g_8, b_8, m_8, var_8) y = BatchNormalization(d, g_8, b_8, m_8, var_8)",
        "Conv",
    ),
)
def test_batch_norm_after_conv(expect, body, becomes, options):
    expect(f"c = Conv(x, w_8x4x3x3) {body}", becomes, options)


def test_batch_norm_alone_stays(expect):
    expect("y = BatchNormalization(x, g_4, b_4, m_4, var_4)", "BatchNormalization", {})


def test_batch_norms_in_a_row_become_one(expect):
    expect(f"c = BatchNormalization(x, g_8, b_8, m_8, var_8) {BN}", "BatchNormalization", {"x": "N,8,H,W"})


@table(
    case("plain", "c = ConvTranspose(x, w_4x8x3x3)", "ConvTranspose"),
    case("bias", "c = ConvTranspose(x, w_4x8x2x3, k_8)", "ConvTranspose"),
    case("groups", "c = ConvTranspose<group=2, strides=[2,2]>(x, w_4x4x3x3)", "ConvTranspose"),
    case("asymmetric", "c = ConvTranspose<pads=[0,1,2,0], strides=[2,3]>(x, w_4x8x3x3)", "ConvTranspose"),
    case("output padding", "c = ConvTranspose<output_padding=[1,0], strides=[2,2]>(x, w_4x8x3x3)", "ConvTranspose"),
    case("dilation", "c = ConvTranspose<dilations=[2,3], pads=[1,0,0,2]>(x, w_4x8x3x2)", "ConvTranspose"),
    case("one axis", "c = ConvTranspose<strides=[2]>(x, w_4x8x3)", "ConvTranspose", x="N,4,L"),
    *(
        case(f"{auto} of {size}", f'c = ConvTranspose<auto_pad="{auto}", {size}>(x, w_4x8x{kernel})', "ConvTranspose", x=x)
        for auto in ("SAME_UPPER", "SAME_LOWER", "NOTSET")
        for size, kernel, x in (
            ("output_shape=[14,17]", "3x4", "N,4,13,18"),
            ("output_shape=[26,38], strides=[2,2], dilations=[2,1]", "3x4", "N,4,13,18"),
            ("output_shape=[25,35], strides=[2,2], output_padding=[1,1]", "3x3", "N,4,13,18"),
        )
    ),
    *(
        case(f"{auto} {stride}", f'c = ConvTranspose<auto_pad="{auto}", strides={stride}>(x, w_4x8x4x3)', "ConvTranspose")
        for auto in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for stride in ("[1,1]", "[2,3]", "[3,2], output_padding=[2,1]")
    ),
    case("output shape of any image", "c = ConvTranspose<output_shape=[15,20]>(x, w_4x8x3x3)", KEPT + "Transpose"),
    case("bias in the type of the data", "d = Cast<to=11>(b_8) b = CastLike(d, x) c = Conv(x, w_8x4x1x1, b)", "Conv"),
    case("weight that is an input", "c = ConvTranspose(x, w)", KEPT + "Transpose", inputs="float[4,8,2,2] w"),
)
def test_transposed_conv_before_batch_norm(expect, body, becomes, options):
    expect(f"{body} {BN}", becomes, options)


@table(
    case("of another size", "c = ConvTranspose<strides=[2,2]>(x, v_4x8x2x2)", "ConvTranspose"),
    case("in groups", "c = ConvTranspose<group=4, strides=[2,2]>(x, v_4x2x2x2)", "ConvTranspose"),
    case("with output padding", "c = ConvTranspose<output_padding=[1,1], strides=[2,2]>(x, v_4x8x1x1)", "ConvTranspose"),
    case("asymmetric", "c = ConvTranspose<pads=[2,0,0,1], strides=[2,2]>(x, v_4x8x4x3)", "ConvTranspose"),
    case("dilated", "c = ConvTranspose<dilations=[3,3], pads=[1,1,1,1], strides=[2,2]>(x, v_4x8x2x2)", "ConvTranspose"),
    case("of one pixel", "c = ConvTranspose<strides=[2,2]>(x, v_4x8x1x1)", "ConvTranspose ConvTranspose Sub", x="N,4,1,1"),
)
def test_conv_transpose_beside_one_that_doubles_the_image(expect, body, becomes, options):
    double = "d = ConvTranspose<pads=[1,1,1,1], strides=[2,2]>(x, w_4x8x4x4, k_8)"
    both = f"{double} {body} n = BatchNormalization(c, g_8, b_8, m_8, var_8) y = Sub(n, d)"
    expect(both, becomes, {"objective": "latency", **options})


@table(
    case("plain", "c = Gemm(x, w_6x8)", "Gemm"),
    case("transB", "c = Gemm<transB=1>(x, w_8x6, b_8)", "Gemm"),
    case("transA", "c = Gemm<transA=1>(x, w_2x8)", "Gemm Mul", x="2,6"),
    case("alpha and beta", "c = Gemm<alpha=0.5, beta=-2.0>(x, w_6x8, b_8)", "Gemm"),
    case("bias (1, N)", "c = Gemm<beta=2.0>(x, w_6x8, b_1x8)", "Gemm"),
    case("bias of one number", "c = Gemm(x, w_6x8, b_1)", "Gemm"),
    case("bias a scalar", "c = Gemm(x, w_6x8, b_scalar)", "Gemm"),
    case("bias (M, N)", "c = Gemm(x, w_6x8, b_3x8)", "Gemm Mul", x="3,6"),
    case("bias (M, 1) with M equal to N", "c = Gemm(x, w_6x8, b_8x1)", "Gemm Mul", x="8,6"),
    case("bias that is an input", "c = Gemm(x, w_6x8, v)", "Gemm Mul", inputs="float[8] v"),
    case("product and bias", "a = MatMul(x, w_6x8) c = Add(a, b_8)", "Gemm"),
    case("bias on the left", "a = MatMul(x, w_6x8) c = Add(b_1x8, a)", "Gemm"),
    case("two products", "a = MatMul(x, w_6x5) c = MatMul(a, w_5x8)", "Gemm"),
    case("two products before opset 11, when Gemm wanted a bias", "a = MatMul(x, w_6x5) c = MatMul(a, w_5x8)", "Gemm", opset=9),
    case("three axes", "a = MatMul(x, w_6x8) c = Add(a, b_8)", "Add MatMul", x="N,T,6"),
    case("three axes and a bias each token", "a = MatMul(x, w_6x8) c = Add(a, b_5x8)", "Add MatMul Mul", x="N,5,6"),
    case("three axes and a bias along as many tokens", "a = MatMul(x, w_6x8) c = Add(a, b_8x1)", "Add MatMul Mul", x="N,8,6"),
    case("a vector", "c = MatMul(x, w_6x8)", "MatMul", x="6"),
    case("constant on the left", "c = MatMul(w_3x6, x)", "MatMul Mul", x="6,8"),
    case("a batch of matrices", "c = MatMul(x, w_2x6x8)", "MatMul Mul", x="2,3,6"),
)
def test_linear_before_scale(expect, body, becomes, options):
    expect(f"{body} y = Mul(c, k_8)", becomes, {"x": "N,6", **options})


@table(
    *(
        case(f"{body} with {shape}", f"y = {body.replace('k', f'k_{shape}')}", "Conv")
        for body in ("Add(c, k)", "Add(k, c)", "Sub(c, k)", "Sub(k, c)", "Mul(c, k)", "Mul(k, c)", "Div(c, k)")
        for shape in ("scalar", "1", "4x1x1", "1x4x1x1", "1x1x1x1")
    ),
    *(
        case(f"{op} {name}", f"y = {op}(c, {constant})", " ".join(sorted(("Conv", op))), **options)
        for op in ("Add", "Mul", "Div")
        for name, constant, options in (
            ("of shape (C,) where W is C", "k_4", {"x": "2,4,3,4"}),
            ("of shape (C,) where W is unknown", "k_1x4", {"given": {"x": np.ones((2, 4, 3, 4), "f")}}),
            ("of shape (C, 1) where H is C", "k_4x1", {"x": "2,4,4,3"}),
            ("that is a map", "k_3x4", {"x": "2,4,3,4"}),
            ("for each channel and row", "k_4x3x1", {"x": "2,4,3,4"}),
            ("for each image", "k_3x1x1x1", {"x": "3,4,H,W"}),
            ("that makes more images", "k_2x1x1x1", {"x": "1,4,H,W"}),
            ("that makes another axis", "k_1x1x1x1x1", {"y": "a,b,c,d,e"}),
            ("that makes another axis and more images", "k_2x1x4x1x1", {"y": "a,b,c,d,e"}),
        )
    ),
    case("Div with a zero somewhere", "y = Div(c, k)", "Conv Div", k=np.array([1, 2, 0, 4], "f").reshape(4, 1, 1)),
    case("Add minus infinity", "y = Add(c, k)", "Add Conv", k=np.float32(-np.inf)),
    case("Div of a constant", "p = Exp(c) y = Div(k_4x1x1, p)", "Conv Div Exp"),
    case("a constant computed from constants", "k = Mul(a_4x1x1, b_4x1x1) y = Add(c, k)", "Conv"),
    case("Sub of a branch", "b = Conv(x, w_4x4x1x1) y = Sub(c, b)", "Conv"),
    case("Mul of a branch", "b = Conv(x, w_4x4x1x1) y = Mul(c, b)", "Conv Conv Mul"),
    case("Add of itself", "y = Add(c, c)", "Conv"),
    case("Sum of three", "b = Conv<pads=[1,1,1,1]>(x, w_4x4x3x3) y = Sum(c, b, x)", "Conv"),
    case("Sum of one", "y = Sum(c)", "Conv"),
    case("Sum with a constant", "y = Sum(c, k_4x1x1)", "Conv Sum"),
    case(
        "Add that broadcasts",
        "p = GlobalAveragePool(x) b = Conv(p, v_4x4x1x1) y = Add(c, b)",
        "Add Conv Conv GlobalAveragePool",
    ),
)
def test_arithmetic_after_conv(expect, body, becomes, options):
    expect(f"c = Conv(x, v_4x4x1x1) {body}", becomes, options)


@pytest.mark.parametrize("op", ["Add", "Mul", "Div"])
def test_a_constant_that_makes_more_channels_stays(expect, op):
    expect(f"c = Conv(x, w_1x4x1x1) y = {op}(c, k_4x1x1)", f"{' '.join(sorted(['Conv', op]))}", {})


def test_numbers_for_each_image_merge_among_themselves(expect):
    expect("a = Mul(x, k_3x1x1x1) b = Add(a, l_3x1x1x1) y = Div(b, m_3x1x1x1)", "Add Mul", {"x": "3,4,H,W"})


def test_a_vector_takes_part_as_a_matrix_does(expect):
    expect("a = MatMul(x, w_6x5) b = MatMul(a, w_5x4) y = Mul(b, k_scalar)", "MatMul", {"x": "6"})


def test_arithmetic_on_integers_stays(expect):
    expect("i = Cast<to=7>(x) j = Mul(i, k) l = Add(j, k) y = Cast<to=1>(l)", "Add Cast Cast Mul", {"k": np.array(3)})
