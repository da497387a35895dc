"""Models that the fuzzer found something wrong with, as small as it could make them."""

import numpy as np

import repcompiler
from repcompiler.runtime import session


def test_new_node_goes_before_the_first_in_the_file_of_those_that_read_it(model, check):
    """Seed 1: the ReLU of equal channels is made anew, and read by what takes the place of the split and of the skip."""
    body = """
        a = Conv<pads=[1,1,1,1]>(x, equal)
        r = Relu(a)
        v = Conv<pads=[1,2,1,0], group=2>(r, framed, vb_2)
        s = Split<axis=1>(v, [2])
        p = Conv<group=2>(x, p_2x2x1x1, pb_2)
        y = Add(s, p)
        n = BatchNormalization(v, g_2, b_2, m_2, var_2)
        c = Conv<pads=[1,1,2,2]>(n, c_6x2x4x4)
        l = LeakyRelu<alpha=0.125>(c)
        e = Conv(l, e_2x6x1x1, eb_2)
        z = Add(v, e)
    """
    rng = np.random.default_rng(0)
    equal = np.repeat(rng.standard_normal((1, 4, 3, 3)), 8, axis=0).astype(np.float32)
    framed = np.pad(rng.standard_normal((2, 4, 2, 2)), ((0, 0), (0, 0), (1, 0), (1, 0))).astype(np.float32)
    _, report = check(model(body, outputs="float[N,2,H,W] z", equal=equal, framed=framed))
    assert "move_selection_into_reader" in report.counts()


def test_what_a_rewrite_made_and_another_removed_was_never_in_the_file(model, check):
    """Seed 30116: the identity before a ReLU6 with bounds of its own for the channels that carry a skip connection."""
    body = """
        a = GlobalAveragePool(x)
        c = Conv<group=2>(a, c_4x2x1x1, cb_4)
        h = HardSigmoid(c)
        p = Mul(x, h)
        r = Clip(p, 0.0, 6.0)
        y = Add(r, x)
    """
    _, report = check(model(body))
    assert report.counts()["remove_residual"] == 1


def test_two_channels_that_are_scaled_and_shifted_are_stored_best_as_a_convolution(model):
    """Seed 1335: the diagonal of a kernel as a scale, which ONNX writes as a batch norm of eight numbers."""
    diagonal = np.diag([0.65, 0.04]).astype(np.float32)[..., None, None]
    source = model("y = Conv(x, diagonal, bias)", x="N,2,5,8", diagonal=diagonal, bias=np.array([-0.5, 0.6], np.float32))
    report = repcompiler.Report()
    repcompiler.compile(source, objective="params", report=report)
    assert report.after.parameters <= report.before.parameters


def test_a_clip_between_two_limits_has_no_more_parameters_than_one_with_a_limit_and_a_relu(model):
    """Seed 8740: limits are inputs of Clip, and no weights."""
    report = repcompiler.Report()
    result = repcompiler.compile(model('c = Clip(x, "", 2.0)\ny = Relu(c)'), objective="params", report=report)
    assert [node.op_type for node in result.graph.node] == ["Clip"]
    assert report.before.parameters == report.after.parameters == 0


def test_a_constant_less_a_scaled_value_is_a_subtraction(model, check):
    result, _ = check(model("a = Mul(x, 0.5)\nb = Mul(a, -2.0)\ny = Add(b, b_4x1x1)"))
    assert [node.op_type for node in result.graph.node] == ["Sub"]


def sizes(source, result, *extents):
    """Run both on square images; returns the shapes of what they make."""
    runs = [session(proto.SerializeToString()) for proto in (source, result)]
    rng = np.random.default_rng(0)
    for n in extents:
        x = rng.standard_normal((1, 4, n, n)).astype(np.float32)
        expected, actual = (run.run(None, {"x": x})[0] for run in runs)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
        yield expected.shape


def test_a_layer_stays_before_a_resize_that_leaves_no_pixel(model):
    """Seed 6128: a Resize may make an image without pixels, which a Conv would refuse."""
    source = model('c = Conv(x, w_4x4x1x1, b_4)\ny = Resize<mode="linear">(c, "", half)', half=np.float32([1, 1, 0.5, 0.5]))
    result = repcompiler.compile(source, objective="latency")
    assert list(sizes(source, result, 1, 2, 5)) == [(1, 4, 0, 0), (1, 4, 1, 1), (1, 4, 2, 2)]


def test_layers_are_verified_on_images_that_their_pools_fit_into(model):
    """Seed 20717: onnxruntime makes a pixel of an image that is smaller than the window, where there is none."""
    pool = "p{0} = AveragePool<kernel_shape=[2,2], strides=[2,2]>(c{0})"
    down = "\n".join(f"c{n} = Conv(r{n}, w_4x4x1x1, b_4)\n{pool.format(n)}\nr{n + 1} = Relu(p{n})" for n in range(3))
    body = f"r0 = Conv<pads=[1,1,1,1]>(x, w_4x4x3x3)\n{down}\ny = Relu(r3)"
    report = repcompiler.Report()
    source = model(body)
    result = repcompiler.compile(source, objective="plain", report=report)
    assert not report.reverted
    assert report.verification.checked
    assert report.counts()["merge_sequential_convs"] == 3
    assert list(sizes(source, result, 8, 17)) == [(1, 4, 1, 1), (1, 4, 2, 2)]


def test_an_image_that_a_slice_leaves_nothing_of_is_none_for_what_it_becomes(model):
    """Seed 21763: a norm, a choice of channels and a crop are no convolution of an image of one pixel."""
    source = model(
        """
        n = BatchNormalization(x, g_4, b_4, m_4, var_4)
        c = Gather<axis=1>(n, [0,2,1,3])
        y = Slice(c, [2,2], [99,99], [2,3])
        """
    )
    result = repcompiler.compile(source, objective="plain")
    assert list(sizes(source, result, 1, 2, 3, 6)) == [(1, 4, 0, 0), (1, 4, 0, 0), (1, 4, 1, 1), (1, 4, 4, 4)]


def test_a_mean_of_values_stores_no_number(model):
    """Seed 23146: a sum and a scale, of which the file keeps nothing; what takes their place may keep no more."""
    source = model(
        "a = Unsqueeze(x, [1])\nb = Unsqueeze(x, [1])\nc = Concat<axis=1>(a, b)\ny = ReduceMean<axes=[1], keepdims=0>(c)"
    )
    report = repcompiler.Report()
    repcompiler.compile(source, objective="params", report=report)
    assert report.before.parameters == report.after.parameters == 0
