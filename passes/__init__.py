"""The passes, one equation a file, in the order they are tried at a node.

To add one: copy a file, state the equation, its condition and its source, and name it here.  docs/writing_a_pass.md.
"""

if __name__ == "passes":
    raise ImportError("import repcompiler.passes instead: this folder is that package, and two copies would not mix")

from repcompiler.passes.add_among_branches import add_among_branches
from repcompiler.passes.add_before_moving import add_before_moving
from repcompiler.passes.add_to_all_channels import add_to_all_channels
from repcompiler.passes.average_pool_to_conv import average_pool_to_conv
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.drop_dead_channels import drop_dead_channels
from repcompiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from repcompiler.passes.eliminate_identity import eliminate_identity
from repcompiler.passes.eliminate_reshape import eliminate_reshape
from repcompiler.passes.eliminate_resize import eliminate_resize
from repcompiler.passes.eliminate_transpose import eliminate_transpose
from repcompiler.passes.fold_batch_norm import fold_batch_norm
from repcompiler.passes.fold_batch_norm_before_conv import fold_batch_norm_before_conv
from repcompiler.passes.fold_batch_norm_before_conv_through import fold_batch_norm_before_conv_through
from repcompiler.passes.fold_batch_norm_into_experts import fold_batch_norm_into_experts
from repcompiler.passes.fold_batch_norm_through import fold_batch_norm_through
from repcompiler.passes.fold_constants import fold_constants
from repcompiler.passes.fold_extents import fold_extents
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.linear_to_conv import linear_to_conv
from repcompiler.passes.merge_branch_into_experts import merge_branch_into_experts
from repcompiler.passes.merge_branch_with_one_that_stays import merge_branch_with_one_that_stays
from repcompiler.passes.merge_clips import merge_clips
from repcompiler.passes.merge_concatenated_branches import merge_concatenated_branches
from repcompiler.passes.merge_conv_after_experts import merge_conv_after_experts
from repcompiler.passes.merge_conv_before_experts import merge_conv_before_experts
from repcompiler.passes.merge_conv_into_linear import merge_conv_into_linear
from repcompiler.passes.merge_equal_nodes import merge_equal_nodes
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.passes.merge_parallel_conv_and_linear import merge_parallel_conv_and_linear
from repcompiler.passes.merge_parallel_conv_transposes import merge_parallel_conv_transposes
from repcompiler.passes.merge_pointwise_after_conv_transpose import merge_pointwise_after_conv_transpose
from repcompiler.passes.merge_pointwise_before_conv_transpose import merge_pointwise_before_conv_transpose
from repcompiler.passes.merge_pointwise_into_concatenated import merge_pointwise_into_concatenated
from repcompiler.passes.merge_pointwise_through_depth_to_space import merge_pointwise_through_depth_to_space
from repcompiler.passes.merge_reshapes import merge_reshapes
from repcompiler.passes.merge_scales import merge_scales
from repcompiler.passes.merge_sequential_convs import merge_sequential_convs
from repcompiler.passes.merge_space_to_depth_into_conv import merge_space_to_depth_into_conv
from repcompiler.passes.merge_squeeze_into_take import merge_squeeze_into_take
from repcompiler.passes.merge_transposes import merge_transposes
from repcompiler.passes.move_frame_before_pointwise import move_frame_before_pointwise
from repcompiler.passes.move_pointwise_after_pool import move_pointwise_after_pool
from repcompiler.passes.move_pointwise_before_resize import move_pointwise_before_resize
from repcompiler.passes.move_pointwise_behind_resize import move_pointwise_behind_resize
from repcompiler.passes.move_selection_into_reader import move_selection_into_reader
from repcompiler.passes.pad_channels_to_conv import pad_channels_to_conv
from repcompiler.passes.pad_to_conv import pad_to_conv
from repcompiler.passes.recognise_channel_shuffle import recognise_channel_shuffle
from repcompiler.passes.recognise_pointwise_conv import recognise_pointwise_conv
from repcompiler.passes.recognise_prelu import recognise_prelu
from repcompiler.passes.recognise_space_to_depth import recognise_space_to_depth
from repcompiler.passes.recover_structure import recover_structure
from repcompiler.passes.remove_residual import remove_residual
from repcompiler.passes.replace_batch_norm import replace_batch_norm
from repcompiler.passes.select_to_conv import select_to_conv
from repcompiler.passes.softmax_of_two_to_sigmoid import softmax_of_two_to_sigmoid
from repcompiler.passes.space_to_depth_to_conv import space_to_depth_to_conv
from repcompiler.passes.squeeze_conv import squeeze_conv
from repcompiler.passes.unflatten_channel_conv import unflatten_channel_conv
from repcompiler.passes.unflatten_linear import unflatten_linear
from repcompiler.passes.unflatten_pointwise_conv import unflatten_pointwise_conv
from repcompiler.rewriter import Pass

PASSES: tuple[Pass, ...] = (
    eliminate_dead_nodes,
    eliminate_identity,
    eliminate_reshape,
    eliminate_resize,
    eliminate_transpose,
    merge_reshapes,
    merge_squeeze_into_take,
    merge_transposes,
    merge_clips,
    fold_constants,
    fold_extents,
    recognise_channel_shuffle,
    recognise_space_to_depth,
    recognise_prelu,
    recognise_pointwise_conv,
    unflatten_pointwise_conv,
    unflatten_linear,
    unflatten_channel_conv,
    squeeze_conv,
    fold_batch_norm,
    merge_scales,
    fold_batch_norm_before_conv,
    fold_batch_norm_through,
    fold_batch_norm_before_conv_through,
    fold_batch_norm_into_experts,
    merge_conv_after_experts,
    merge_conv_before_experts,
    merge_branch_into_experts,
    softmax_of_two_to_sigmoid,
    move_frame_before_pointwise,
    move_pointwise_after_pool,
    move_pointwise_before_resize,
    move_pointwise_behind_resize,
    move_selection_into_reader,
    drop_dead_channels,
    merge_sequential_convs,
    merge_space_to_depth_into_conv,
    merge_pointwise_through_depth_to_space,
    merge_parallel_branches,
    merge_branch_with_one_that_stays,
    merge_concatenated_branches,
    merge_pointwise_into_concatenated,
    merge_pointwise_after_conv_transpose,
    merge_pointwise_before_conv_transpose,
    merge_parallel_conv_transposes,
    merge_conv_into_linear,
    merge_parallel_conv_and_linear,
    add_before_moving,
    recover_structure,
    add_to_all_channels,
    remove_residual,
    add_among_branches,
    merge_equal_nodes,
    replace_batch_norm,
    space_to_depth_to_conv,
    identity_to_dirac,
    linear_to_conv,
    batch_norm_to_conv,
    average_pool_to_conv,
    pad_to_conv,
    pad_channels_to_conv,
    select_to_conv,
)

__all__ = ["PASSES"]
