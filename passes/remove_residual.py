"""Remove a skip connection: carry what is skipped through the block, and add it where the block's last layer adds anyway.

    W_L f(... f(W_1 x)) + S x  =  [W_L  S D] f(... [W_i  0; 0  E D] f([W_1; E] x))

Reserved channels hold E x between the layers, and D finds x in them again behind each activation f: one channel where f leaves
all that x can be as it is, two where f(x) - f(-x) = c x (ReLU, SiLU, GELU, hard swish).  Exact where the shortcut S reads the
pixels in the middle of the block's windows; refused where no channel passes f (ELU, Mish, sigmoid, tanh), each with its reason.
Source: Meng et al., RMNet: Equivalently Removing Residual Connection from Networks, 2021; docs/residual_removal.md.
"""

from functools import partial

from repcompiler.carry import carried
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Op, Sum
from repcompiler.pattern import Forked, linear
from repcompiler.residual import chain
from repcompiler.rewriter import rewrite


@rewrite(Sum.of(chain("x", name="body"), linear("x", name="shortcut")), outline=partial(carried, outlined=True))
def remove_residual(x: Value, body: tuple[Op, ...], shortcut: Conv) -> Expr | Forked:
    return carried(x, body, shortcut)
