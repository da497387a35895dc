"""Compute once what depends on parameters alone.

    f(c1, ..., cn) = c

Exact always: f is evaluated by the runtime that would have run it (so a generated kernel of OREPA, weight normalisation, a
Dirac parametrisation or LoRA's W + s B A become plain weights).
Refused where the result would take more room than what it is computed from.
Source: constant folding; Hu et al., OREPA, CVPR 2022, section 3 (weights as an expression of parameters).
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Constant
from repcompiler.pattern import ConstantResult
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite

SLACK = 4096
"""Bytes a folded constant may be larger than its sources: shapes, scalars and the like."""


@rewrite(ConstantResult("result"))
def fold_constants(result: Value) -> Expr:
    assert result.constant is not None
    array = result.constant()
    sources = [leaf.constant() for leaf in result.leaves() if leaf.constant is not None]
    if array.nbytes > sum(source.nbytes for source in sources) + SLACK:
        refuse("the constant would be larger than the parameters it is computed from")
    return Constant(array)()
