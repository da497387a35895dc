"""How activations, maximum pooling and other resolutions are read, and that what is read is what onnxruntime computes.

A case is one operator, and the operation that it is lifted as; `None`: it stays opaque.
"""

import numpy as np
import onnx
import onnx_ir
import pytest

import repcompiler
from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.ops import (
    Clip,
    DepthToSpace,
    Identity,
    MaxPool,
    Odd,
    Opaque,
    PRelu,
    Relu,
    Resize,
    Scale,
    SpaceToDepth,
    Subsample,
)


def case(name, body, kind, **options):
    return pytest.param(body, kind, options, id=name)


def table(*cases):
    return pytest.mark.parametrize(("body", "kind", "options"), cases)


@pytest.fixture
def lifts(model, check):
    def lifted(body, kind, options):
        given = options.get("given")
        proto = model(body, **{key: value for key, value in options.items() if key != "given"})
        [op] = [node.op for node in OnnxDocument.open(proto).lift().nodes if node.origin.op_type != "Constant"]
        assert isinstance(op, Opaque if kind is None else kind)
        check(proto, given)
        return op

    return lifted


@table(
    case("Relu", "y = Relu(x)", Relu),
    case("Relu of integers", "y = Relu(x)", None, dtype="int32"),
    case("Clip by attributes", "y = Clip<min=-0.5, max=1.0>(x)", Clip, opset=10),
    case("Clip from below by an attribute", "y = Clip<min=0.25>(x)", Clip, opset=7),
    case("Clip by inputs", "y = Clip(x, -0.5, 1.0)", Clip),
    case("Clip from above alone", "y = Clip(x, , 0.5)", Clip),
    case("Clip by nothing", "y = Clip(x)", Clip),
    case("Clip by an input of the graph", "y = Clip(x, b)", None, inputs="float b"),
    case("Clip by bounds that cross", "y = Clip(x, 0.5, -0.5)", Clip),
    case("Min and one number", "y = Min(x, 0.5)", Clip),
    case("Max and one number", "y = Max(k_1, x)", Clip),
    case("Max and numbers", "y = Max(k_1, x, k_scalar)", Clip),
    case("Min and a number each channel", "y = Min(x, k_4x1x1)", None),
    case("Min and a number of more axes", "y = Min(x, k_1x1x1x1x1)", None, x="2,4,5,6", y="1,2,4,5,6"),
    case("Max of data", "y = Max(x, x)", None),
    case("Tanh", "y = Tanh(x)", Odd),
    case("Erf", "y = Erf(x)", Odd),
    case("Pow of three", "y = Pow(x, 3.0)", Odd),
    case("Pow of two", "y = Pow(x, 2.0)", None),
    case("Pow of many", "y = Pow(x, k_4x1x1)", None),
    case("LeakyRelu", "y = LeakyRelu<alpha=0.3>(x)", PRelu),
    case("LeakyRelu with a negative slope", "y = LeakyRelu<alpha=-0.3>(x)", PRelu),
    case("LeakyRelu of slope one", "y = LeakyRelu<alpha=1.0>(x)", Identity),
    case("Neg", "y = Neg(x)", Scale),
    case("PRelu with one slope", "y = PRelu(x, k_1)", PRelu),
    case("PRelu with one scalar slope", "y = PRelu(x, k_scalar)", PRelu),
    case("PRelu by channel", "y = PRelu(x, k_4x1x1)", PRelu),
    case("PRelu by channel, all axes", "y = PRelu(x, k_1x4x1x1)", PRelu),
    case("PRelu by channel of a matrix", "y = PRelu(x, k_6)", PRelu, x="N,6"),
    case("PRelu by column where C = W", "y = PRelu(x, k_4)", None, x="2,4,5,4"),
    case("PRelu by row", "y = PRelu(x, k_5x1)", None, x="2,4,5,4"),
    case("PRelu by pixel", "y = PRelu(x, k_4x5x4)", None, x="2,4,5,4"),
    case("PRelu by an input of the graph", "y = PRelu(x, k)", None, inputs="float[4,1,1] k"),
)
def test_activation(lifts, body, kind, options):
    lifts(body, kind, options)


def test_bounds_of_a_clip_and_slopes_are_what_the_node_says(lifts):
    assert lifts("y = Clip(x, 0.0, 6.0)", Clip, {}) == Clip(0.0, 6.0)
    assert lifts("y = Clip<max=6.0>(x)", Clip, {"opset": 10}) == Clip(-np.inf, 6.0)
    assert lifts("y = LeakyRelu(x)", PRelu, {}).slope == np.float32(0.01)
    assert lifts("y = PRelu(x, k_4x1x1)", PRelu, {}).slope.shape == (4,)


@table(
    case("windows side by side", "y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", MaxPool, x="N,4,9,6"),
    case("padded", "y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(x)", MaxPool),
    case("padded more on one side", "y = MaxPool<kernel_shape=[3,2], pads=[0,1,2,0]>(x)", MaxPool),
    case("dilated", "y = MaxPool<kernel_shape=[2,2], dilations=[1,2], pads=[1,0,0,0]>(x)", MaxPool),
    case("dilated and padded", "y = MaxPool<kernel_shape=[2,2], dilations=[1,2], pads=[0,1,0,1]>(x)", None, x="N,4,9,6"),
    case("SAME", 'y = MaxPool<kernel_shape=[3,2], auto_pad="SAME_LOWER">(x)', MaxPool),
    case("SAME of an unknown size", 'y = MaxPool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(x)', None),
    case("one axis", "y = MaxPool<kernel_shape=[3], pads=[1,1]>(x)", MaxPool, x="N,4,L"),
    case("three axes", "y = MaxPool<kernel_shape=[2,1,2]>(x)", MaxPool, x="N,4,D,H,W"),
    case("one pixel", "y = MaxPool<kernel_shape=[1,1], strides=[2,3]>(x)", Subsample),
    case("one pixel, padded", "y = MaxPool<kernel_shape=[1,2], pads=[0,1,0,0]>(x)", MaxPool),
    case("partial windows", "y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", None),
    case("no partial windows", "y = MaxPool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1>(x)", MaxPool, x="N,4,9,6"),
    case("its index", "y, i = MaxPool<kernel_shape=[2,2]>(x)", None, outputs="int64[a,b,c,d] i"),
)
def test_maximum(lifts, body, kind, options):
    lifts(body, kind, options)


NEAREST = [
    (coordinates, rounding)
    for coordinates in ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
    for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
]


@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.5, 0.5), (0.25, 3.0), (1.25, 1.75)])
@pytest.mark.parametrize(("coordinates", "rounding"), NEAREST)
def test_nearest_of_every_kind_and_factor_is_read_as_onnxruntime_computes_it(lifts, coordinates, rounding, scales):
    how = f'mode="nearest", coordinate_transformation_mode="{coordinates}", nearest_mode="{rounding}"'
    arrays = {"s": np.array([1, 1, *scales], np.float32), "x": "2,4,13,18"}
    assert lifts(f"y = Resize<{how}>(x, , s)", Resize, arrays).scales == scales


@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.5, 0.5), (0.25, 3.0)])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"])
def test_linear_of_every_kind_and_factor_is_read_as_onnxruntime_computes_it(lifts, coordinates, scales):
    arrays = {"s": np.array([1, 1, *scales], np.float32)}
    lifts(f'y = Resize<mode="linear", coordinate_transformation_mode="{coordinates}">(x, , s)', Resize, arrays)


SIZE = {"z": np.array([2, 4, 7, 9])}
DOUBLED = np.array([1, 1, 2, 2], np.float32)


@table(
    case("Upsample, factors in an attribute", "y = Upsample<scales=[1.0,1.0,2.0,3.0]>(x)", Resize, opset=8),
    case("Upsample", 'y = Upsample<mode="linear">(x, s)', Resize, opset=9, s=DOUBLED),
    case("Resize, opset 10", "y = Resize(x, s)", Resize, opset=10, s=DOUBLED),
    case("Resize down, opset 10", "y = Resize(x, s)", None, opset=10, s=DOUBLED / [1, 1, 4, 4]),
    case("Resize, opset 11", "y = Resize(x, r, s)", Resize, opset=11, s=DOUBLED, r=np.zeros(0, np.float32)),
    case("to a size of known ratio", "y = Resize(x, , , [1,4,10,9])", Resize, x="1,4,5,6"),
    case("to a size of an odd ratio", "y = Resize(x, , , [1,4,7,8])", None, x="1,4,5,6"),
    case("from an unknown size", "y = Resize(x, , , [2,4,8,8])", None, x="2,4,H,W"),
    case("to a size that depends on data", "y = Resize(x, , , z)", None, inputs="int64[4] z", given=SIZE),
    case("by an odd factor", "y = Resize(x, , s)", None, s=DOUBLED * np.float32(1.3) ** [0, 0, 1, 1]),
    case("the channels too", "y = Resize(x, , s)", None, s=np.array([1, 2, 2, 2], np.float32), x="1,4,5,6"),
    case("cubic", 'y = Resize<mode="cubic">(x, , s)', None, s=DOUBLED),
    case("extrapolating", 'y = Resize<coordinate_transformation_mode="tf_crop_and_resize">(x, r, s)', None, s=DOUBLED,
         r=np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)),
    case("antialiased", 'y = Resize<mode="linear", antialias=1>(x, , s)', None, s=DOUBLED / [1, 1, 4, 4], opset=18),
    case("some axes", "y = Resize<axes=[2,3]>(x, , s)", None, s=DOUBLED[2:], opset=18),
    case("keeping the aspect", 'y = Resize<keep_aspect_ratio_policy="not_larger">(x, , , [1,4,8,9])', None, opset=18,
         x="1,4,5,6"),
    case("SpaceToDepth", "y = SpaceToDepth<blocksize=2>(x)", SpaceToDepth, x="N,4,6,8"),
    case("DepthToSpace", "y = DepthToSpace<blocksize=2>(x)", DepthToSpace, x="N,8,3,5"),
    case("DepthToSpace, CRD", 'y = DepthToSpace<blocksize=2, mode="CRD">(x)', DepthToSpace, x="N,8,H,W"),
)  # fmt: skip
def test_other_resolution(lifts, body, kind, options):
    lifts(body, kind, {key: value.astype(np.float32) if key == "s" else value for key, value in options.items()})


def test_what_no_rewrite_touches_stays_as_it_is(model, check):
    body = """
        a = Relu(x)  b = PRelu(a, k_4x1x1)  c = Clip(b, 0.0, 6.0)  d = LeakyRelu<alpha=0.2>(c)
        e = MaxPool<kernel_shape=[2,2]>(d)  y = Resize<mode="nearest">(e, , s)
    """
    proto = model(body, s=DOUBLED, x="N,4,9,6")
    result, report = check(proto)
    assert not report.steps
    untouched = onnx_ir.to_proto(onnx_ir.from_proto(proto))
    assert result.SerializeToString() == untouched.SerializeToString()


BN = "BatchNormalization({}, g_8, b_8, m_8, var_8)"


@pytest.mark.parametrize(
    ("body", "becomes", "options"),
    [
        case("sum of convolutions", f"a = Conv(x, w_8x4x1x1) b = Conv(x, v_8x4x3x3) c = Conv(z, u_8x4x1x1) d = Relu(c) "
             f"e = Conv(d, t_8x8x3x3) s = Sub(b, e) y = {BN.format('s')}", "Conv Conv Conv Relu Sub",
             inputs="float[N,4,H,W] z"),
        case("concatenation", f"a = Conv(x, w_5x4x1x1) b = Conv(z, u_3x4x1x1) s = Concat<axis=1>(a, b) y = {BN.format('s')}",
             "Concat Conv Conv", inputs="float[N,4,H,W] z"),
        case("Relu", "a = Conv(x, w_8x4x3x3) r = Relu(a) y = Mul(r, var_8x1x1)", "Conv Relu"),
        case("Relu and a negative factor", "a = Conv(x, w_8x4x3x3) r = Relu(a) y = Mul(r, k_8x1x1)", "Conv Mul Relu"),
        case("PRelu", "a = Conv(x, w_8x4x3x3) r = PRelu(a, k_8x1x1) y = Mul(r, var_8x1x1)", "Conv PRelu"),
        case("LeakyRelu", "a = Conv(x, w_8x4x3x3) r = LeakyRelu<alpha=0.3>(a) y = Mul(r, var_8x1x1)", "Conv LeakyRelu"),
        case("maximum", "a = Conv(x, w_8x4x1x1) m = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,0,0]>(a) "
             "y = BatchNormalization(m, var_8, b_8, m_8, var_8)", "Conv MaxPool", x="N,4,9,8"),
        case("maximum and a negative gamma", f"a = Conv(x, w_8x4x1x1) m = MaxPool<kernel_shape=[2,2]>(a) y = {BN.format('m')}",
             "BatchNormalization Conv MaxPool", x="N,4,9,8"),
        case("maximum and average", "a = Conv(x, w_8x4x1x1) m = MaxPool<kernel_shape=[2,2]>(a) "
             "p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(m) y = Mul(p, var_8x1x1)",
             "AveragePool Conv MaxPool", x="N,4,9,8"),
        case("Resize", f"a = Conv<pads=[1,1,1,1]>(x, w_8x4x3x3) r = Resize(a, , s) y = {BN.format('r')}", "Conv Resize",
             s=DOUBLED),
        case("Resize, opset 11", f"a = Conv(x, w_8x4x1x1) p = Resize(a, r, s) y = {BN.format('p')}", "Conv Resize", s=DOUBLED,
             r=np.zeros(0, np.float32), opset=11),
        case("Upsample", f"a = Conv(x, w_8x4x1x1) r = Upsample(a, s) y = {BN.format('r')}", "Conv Upsample",
             s=DOUBLED, opset=9),
        case("Upsample, opset 8", f"a = Conv(x, w_8x4x1x1) r = Upsample<scales=[1.0,1.0,2.0,2.0]>(a) y = {BN.format('r')}",
             "Conv Upsample", opset=8),
        case("every second pixel, then a maximum", "a = Conv(x, w_8x4x3x3) p = MaxPool<kernel_shape=[1,1], strides=[2,2]>(a) "
             "r = MaxPool<kernel_shape=[2,2]>(p) y = Mul(r, var_8x1x1)", "Conv MaxPool", x="N,4,11,12"),
        case("tokens", "a = Conv<strides=[4,4]>(x, w_8x4x4x4) f = Reshape(a, [0,8,-1]) t = Transpose<perm=[0,2,1]>(f) "
             "y = Mul(t, k_8)",
             "Conv Reshape Transpose", x="1,4,16,12", y="1,12,8"),
        case("before the convolution", f"n = {BN.format('x')} r = Resize(n, , s) y = Conv(r, w_5x8x2x2)", "Conv Resize",
             s=DOUBLED, x="N,8,H,W"),
        case("before a part of a concatenation", f"n = {BN.format('x')} c = Concat<axis=1>(n, z) y = Conv(c, w_5x12x3x3)",
             "Concat Conv", x="N,8,H,W", inputs="float[N,4,H,W] z"),
        case("before a padded convolution", f"n = {BN.format('x')} r = Resize(n, , s) y = Conv<pads=[1,1,1,1]>(r, w_5x8x3x3)",
             "BatchNormalization Conv Resize", s=DOUBLED, x="N,8,H,W"),
    ],
)  # fmt: skip
def test_scale_behind_or_before_what_it_passes_is_folded(expect, body, becomes, options):
    expect(body, becomes, options)


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_pointwise_convolution_goes_before_an_enlargement(model, check, mode, opset):
    kind, inputs = ("Upsample", "x, s") if opset == 9 else ("Resize", "x, r, s")
    proto = model(
        f'r0 = {kind}<mode="{mode}">({inputs}) y = Conv(r0, w_3x4x1x1, b_3)', s=DOUBLED, r=np.zeros(0, "f"), opset=opset
    )
    result, report = check(proto, objective="latency")
    assert [node.op_type for node in result.graph.node] == ["Conv", kind]
    assert report.verification.checked
    assert not report.reverted


def test_space_to_depth_and_a_pointwise_convolution_become_one(expect):
    expect("s = SpaceToDepth<blocksize=2>(x) y = Conv(s, w_8x16x1x1, b_8)", "Conv", {"x": "N,4,6,8"})


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
def test_a_pointwise_convolution_of_pixels_goes_into_the_one_that_makes_their_blocks(expect, mode):
    body = f'c = Conv(x, w_8x4x3x3, b_8) s = DepthToSpace<blocksize=2, mode="{mode}">(c) y = Conv(s, w_1x2x1x1, b_1)'
    expect(body, "Conv DepthToSpace", {"x": "N,4,6,8"})


END = 2**62
FOCUS = f"""
    a0 = Slice(x, [0], [{END}], [2], [2])  a = Slice(a0, [0], [{END}], [3], [2])
    b0 = Slice(x, [1], [{END}], [2], [2])  b = Slice(b0, [0], [{END}], [3], [2])
    c0 = Slice(x, [0], [{END}], [2], [2])  c = Slice(c0, [1], [{END}], [3], [2])
    d = Slice(x, [1,1], [{END},{END}], [2,3], [2,2])
    f = Concat<axis=1>(a, b, c, d)
"""


def test_four_strided_slices_and_a_convolution_become_one(expect):
    expect(f"{FOCUS} y = Conv<pads=[1,1,1,1]>(f, w_8x16x3x3)", "Conv", {"x": "1,4,10,12"})
    expect(f"{FOCUS} y = Conv(f, w_8x16x1x1)", "Conv", {"x": "1,4,10,12"})


def test_half_precision_keeps_the_type_of_factors_and_slopes(model):
    body = "a = Conv(x, w_8x4x1x1) r = Resize(a, , s) p = PRelu(r, k_8x1x1) y = Mul(p, var_8x1x1)"
    result = repcompiler.compile(model(body, dtype="float16", s=DOUBLED), objective="plain")
    onnx.checker.check_model(result, full_check=True)
    assert [node.op_type for node in result.graph.node] == ["Conv", "Resize", "PRelu"]
