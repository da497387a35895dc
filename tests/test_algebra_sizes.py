"""What `repcompiler.algebra` can do where it knows the size of the image, or that two sizes agree: laws on random kernels."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.algebra import add, compose, stack
from repcompiler.interpreter import evaluate
from repcompiler.refusal import Refusal
from repcompiler.testing import random_conv

law = settings(max_examples=200, deadline=None, derandomize=True, database=None)
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def convs(draw, inputs, outputs, least=-1):
    side = st.integers(least, 2)
    return random_conv(
        draw(generators),
        inputs,
        outputs,
        (draw(st.integers(1, 3)),),
        stride=(draw(st.integers(1, 3)),),
        padding=((draw(side), draw(side)),),
        dilation=(draw(st.integers(1, 2)),),
        bias=False,
    )


def apply(conv, x):
    return evaluate(conv, [x])[0]


def windows(conv, n):
    return conv.infer_shape([(1, conv.in_channels, n)])[2]


@law
@given(convs(2, 3), convs(3, 2, least=0), st.integers(4, 12), generators)
def test_composition_at_a_known_size_is_one_after_the_other(first, second, n, rng):
    if windows(first, n) < 1 or windows(second, windows(first, n)) < 1:
        return
    try:
        merged = compose(first, second, (n,))
    except Refusal:
        with pytest.raises(Refusal):
            compose(first, second)  # what a size refuses, no size refuses too
        return
    x = rng.normal(size=(1, 2, n))
    np.testing.assert_allclose(apply(merged, x), apply(second, apply(first, x)), rtol=0, atol=1e-12)


def test_what_a_stride_leaves_over_decides_whether_padding_behind_it_is_exact():
    rng = np.random.default_rng(0)
    first, second = random_conv(rng, 2, 2, (2,), stride=(2,), bias=False), random_conv(rng, 2, 2, (3,), padding=1)
    assert compose(first, second, (8,)).padding == ((2, 2),)
    for size in ((9,), (None,), None):
        with pytest.raises(Refusal, match="where the first would go on"):
            compose(first, second, size)


@law
@given(convs(2, 3), convs(2, 3), st.integers(4, 12), generators)
def test_sum_of_kernels_whose_sizes_agree_pads_no_more_than_it_needs(first, second, n, rng):
    sizes = [windows(conv, n) for conv in (first, second)]
    if first.stride != second.stride or sizes[0] != sizes[1] or sizes[0] < 1:
        return
    merged, x = add(first, second, (n,)), rng.normal(size=(1, 2, n))
    np.testing.assert_allclose(apply(merged, x), apply(first, x) + apply(second, x), rtol=0, atol=1e-12)
    [(_, after)] = merged.padding
    assert windows(merged, n) == sizes[0]
    assert after <= max(conv.padding[0][1] for conv in (first, second)) or after == 0
    assert after >= 0 or all(conv.padding[0][1] < 0 for conv in (first, second))


def test_a_sum_crops_nothing_that_only_one_of_both_crops():
    """Of an even image a stride of 2 leaves the last pixel over: one reads it and the other does not, if it is cropped."""
    rng = np.random.default_rng(0)
    cropping, whole = (random_conv(rng, 2, 2, (1,), stride=(2,), padding=((0, after),)) for after in (-1, 0))
    assert add(cropping, whole, (8,)).padding == ((0, 0),)


@law
@given(convs(2, 1), convs(2, 2), st.integers(4, 12), generators)
def test_maps_that_can_be_concatenated_agree_in_size_also_where_it_is_unknown(first, second, n, rng):
    if first.stride != second.stride:
        return
    try:
        merged = stack([first, second], (None,))
    except Refusal:
        assert windows(first, n) != windows(second, n)
        return
    if windows(first, n) == windows(second, n) >= 1:
        x = rng.normal(size=(1, 2, n))
        np.testing.assert_allclose(apply(merged, x), np.concatenate([apply(first, x), apply(second, x)], 1), rtol=0, atol=1e-12)


def test_sizes_that_may_differ_are_refused_in_a_sum_and_sizes_that_do_in_both():
    rng = np.random.default_rng(0)
    first, second = random_conv(rng, 2, 2, (2,), stride=(2,)), random_conv(rng, 2, 2, (1,), stride=(2,))
    with pytest.raises(Refusal, match="differ in size"):
        add(first, second, (None,))
    longer = random_conv(rng, 2, 2, (3,), stride=(2,))  # by a whole stride: the maps differ at any size
    for join in (
        lambda: add(first, second, (9,)),
        lambda: stack([first, second], (9,)),
        lambda: stack([longer, second], (None,)),
    ):
        with pytest.raises(Refusal, match="differ in size"):
            join()


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_zeros_behind_an_image_are_refused_just_where_the_next_window_touches_it(kernel, stride, dilation):
    """The window of output m begins at pixel m stride - padding; the second layer reads that output as zero."""
    rng = np.random.default_rng(0)
    rng = np.random.default_rng(0)
    second = random_conv(rng, 2, 3, (2,), padding=((0, 1),))
    for n, before, after in product(range(6, 12), range(2), range(6)):
        first = random_conv(
            rng, 2, 2, (kernel,), stride=(stride,), padding=((before, after),), dilation=(dilation,), bias=False
        )
        touches = windows(first, n) * stride - before < n
        try:
            both = compose(first, second, (n,))
        except Refusal:
            assert touches
            continue
        assert not touches
        x = rng.standard_normal((1, 2, n))
        np.testing.assert_allclose(apply(both, x), apply(second, apply(first, x)), atol=1e-12)
