"""The passes, one equation a file, in the order they are tried at a node.

To add one: copy a file, state the equation, its condition and its source, and name it here.  docs/writing_a_pass.md.
"""

if __name__ == "passes":
    raise ImportError("import repcompiler.passes instead: this folder is that package, and two copies would not mix")

from repcompiler.passes.average_pool_to_conv import average_pool_to_conv
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from repcompiler.passes.eliminate_identity import eliminate_identity
from repcompiler.passes.fold_batch_norm import fold_batch_norm
from repcompiler.passes.fold_batch_norm_before_conv import fold_batch_norm_before_conv
from repcompiler.passes.fold_constants import fold_constants
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.merge_concatenated_branches import merge_concatenated_branches
from repcompiler.passes.merge_linears import merge_linears
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.passes.merge_scales import merge_scales
from repcompiler.passes.merge_sequential_convs import merge_sequential_convs
from repcompiler.passes.pad_to_conv import pad_to_conv
from repcompiler.passes.recognise_channel_shuffle import recognise_channel_shuffle
from repcompiler.passes.select_to_conv import select_to_conv
from repcompiler.rewriter import Pass

PASSES: tuple[Pass, ...] = (
    eliminate_dead_nodes,
    eliminate_identity,
    fold_constants,
    recognise_channel_shuffle,
    fold_batch_norm,
    merge_scales,
    fold_batch_norm_before_conv,
    merge_sequential_convs,
    merge_linears,
    merge_parallel_branches,
    merge_concatenated_branches,
    identity_to_dirac,
    batch_norm_to_conv,
    average_pool_to_conv,
    pad_to_conv,
    select_to_conv,
)

__all__ = ["PASSES"]
