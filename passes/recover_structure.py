"""Write a convolution as its zeros, ones and repetitions say it is, where that is cheaper.

    diag(W1, ..., Wg) * x  =  g groups          0 W 0 * x  =  W * x, padded less          W 0 W * x  =  W, dilated
    (u v^T) * x  =  v * (u * x)                 [w; w] * x  =  select(w * x)

Exact always: nothing but exact zeros, equal numbers and outer products (to the last digit of float64) counts
(`repcompiler.structure`).  So kernels that were merged, masked or widened elsewhere come out in their cheapest exact form.
Source: the inverse of Ding et al., Diverse Branch Block, CVPR 2021, Transforms I-VI; Sifre, Rigid-Motion Scattering, 2014.
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv
from repcompiler.rewriter import rewrite
from repcompiler.structure import forms


@rewrite(Conv.of("x", name="conv"))
def recover_structure(x: Value, conv: Conv) -> tuple[Expr, ...]:
    return tuple(form for form in forms(conv, x) if form.op is not conv)
