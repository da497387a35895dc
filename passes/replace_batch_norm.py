"""Replace a batch normalisation, or any per-channel scale and shift, that no layer takes in by the depthwise layer it is.

    t x + s  =  diag(t) * x + s        t = gamma / sqrt(var + eps),  s = beta - t mean

Exact where x has as many channels as the norm, of maps (of a vector or a token, the layer would be dense).  It saves nothing
but a kind of operation, so it is what `plain` asks for; tried last, as what becomes one with a layer is better than a layer of
its own.
Source: Ding et al., RepVGG, CVPR 2021, section 3.3 (the BN-identity branch).
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Affine, BatchNorm, Scale
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


def layer(x: Value, norm: Affine) -> Expr:
    if x.rank is None or x.rank < 3:
        refuse("what it scales has no pixels" if x.rank else f"the shape of '{x.name}' is not known")
    if norm.channels == 1:
        refuse("one number for all channels is arithmetic, no layer")
    conv = batch_norm_to_conv.view(norm, norm.channels, x.rank - 2)
    if isinstance(norm, Scale) and x.shape is not None and x.shape[1] != norm.channels:
        refuse("it would make several channels of one, where there is one")
    return conv(x)


@rewrite(one_of(BatchNorm, Scale)("x", name="norm"), outline=layer, last=True)
def replace_batch_norm(x: Value, norm: Affine) -> Expr:
    return layer(x, norm)
