"""What acts on the channels of an image of one pixel, however they are laid out, acts on the image."""

import numpy as np
import pytest

from repcompiler.ir import Value
from repcompiler.one_pixel import on_one_pixel
from repcompiler.ops import Mul, PRelu, Relu, Reshape, Sum, Transpose
from repcompiler.refusal import Refusal

x, z = Value("x", (None, 6, 1, 1)), Value("z", (None, 6, 1, 1))
row, column, image = Reshape((0, 1, 6)), Reshape((0, 6, 1)), Reshape((0, 6, 1, 1))


def test_a_layout_and_back_is_the_image_itself():
    assert on_one_pixel(image(Transpose((0, 2, 1))(row(x)))) is x


def test_what_acts_on_each_number_acts_on_those_of_the_image_in_any_layout():
    for layout in (row, column, Reshape((0, 2, 3)), Reshape((0, 6))):
        made = on_one_pixel(image(Relu()(layout(x))))
        assert (made.op, made.operands) == (Relu(), (x,))


def test_what_takes_channels_one_by_one_needs_them_along_axis_1():
    slopes = PRelu(np.arange(6.0))
    assert on_one_pixel(image(Mul()(slopes(column(x)), column(z)))).op == Mul()
    for term in (Sum((1, 1))(row(x), column(z)), Sum((1, 1))(column(x), row(z)), slopes(row(x))):
        with pytest.raises(Refusal, match="laid out otherwise than along axis 1"):
            on_one_pixel(image(term))
