"""Mutants that no test can tell from the code: they mean the same, by (function, edit), each with the reason."""

NUMPY = "array-api-compat has the same namespace for numpy; asking it costs an import"
GENERAL = "the general case gives the same kernel; this one saves work"
THRESHOLD = "how much is worth while, not what is equal"
AXES = "`add` refuses what has other spatial axes"
ALONE = "rows that begin like no other are read, too, and found to be alone"
TAILS = "the tails have been found equal"
ONE_NAMESPACE = "both weights are arrays of one library"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("namespace", "if isinstance(array, np.ndarray) -> if False"): NUMPY,
    ("float64", "if isinstance(array, np.ndarray) -> if False"): NUMPY,
    ("float64", "False -> True"): "one copy more",
    ("pad_axis", "if before == after == 0 -> if False"): GENERAL,
    ("insert_zeros", "step > 1 and taps > 1 -> step > 1 or taps > 1"): GENERAL,
    ("insert_zeros", "step > 1 and taps > 1 -> step >= 1 and taps > 1"): GENERAL,
    ("insert_zeros", "step > 1 and taps > 1 -> step > 0 and taps > 1"): GENERAL,
    ("insert_zeros", "step > 1 and taps > 1 -> step > 1 and taps >= 1"): GENERAL,
    ("insert_zeros", "step > 1 and taps > 1 -> step > 1 and taps > 0"): GENERAL,
    ("regroup", "if groups == op.groups -> if False"): GENERAL,
    ("compose", "if is_diagonal(second) -> if False"): GENERAL,
    ("compose", "scale_outputs(first, _diagonal(second), 0.0) -> scale_outputs(first, _diagonal(second), 1.0)"): (
        "only the weight of it is read, which no shift reaches"
    ),
    ("compose", "if is_diagonal(first) -> if False"): GENERAL,
    ("compose", "is_diagonal(first) -> is_diagonal(second)"): GENERAL,
    ("_convolve", "(-1, inner.shape[2], *k1) -> (-1, outer.shape[2], *k1)"): "zeros go between taps, channels are as before",
    ("_convolve", "(inner.shape[0], inner.shape[1], -1) -> (outer.shape[0], inner.shape[1], -1)"): "both have the same groups",
    (
        "_convolve",
        "[a // d or 1 for (a, _), d in zip(used, dilation, strict=True)] -> "
        "[a // d or 0 for (a, _), d in zip(used, dilation, strict=True)]",
    ): "no zeros go between the taps of an axis that has one",
    ("add", "zip(size, *shrink, first.stride, strict=True) -> zip(size, *shrink, second.stride, strict=True)"): (
        "the strides have been found equal"
    ),
    (
        "add",
        "Conv(weights[0] + weights[1], bias, first.stride, padding, tuple((axis.dilation for axis in axes)), groups) -> "
        "Conv(weights[0] + weights[1], bias, second.stride, padding, tuple((axis.dilation for axis in axes)), groups)",
    ): "the strides have been found equal",
    ("_convolve", "namespace(inner) -> namespace(outer)"): ONE_NAMESPACE,
    ("_Lattice", "d // self.dilation or 1 -> d // self.dilation or 0"): "no zeros go between the taps of an axis that has one",
    ("merge_parallel_branches", "len(first.stride) -> len(second.stride)"): AXES,
    ("merge_sequential_convs", "len(first.stride) -> len(second.stride)"): "`compose` refuses what has other spatial axes",
    ("remove_residual", "True -> False"): "an outline saves work, and is what the whole costs",
    ("add_among_branches", "True -> False"): "an outline saves work, and is what the whole costs",
    ("module", "4096 -> 4097"): THRESHOLD,
    ("recognise_channel_shuffle", "len(x.shape) - split.tail -> len(x.shape) - flatten.tail"): TAILS,
    ("recognise_channel_shuffle", "(1,) * split.tail -> (1,) * flatten.tail"): TAILS,
    ("recognise_space_to_depth", "branches[0].in_channels -> branches[1].in_channels"): "all read one value",
    ("softmax_of_two_to_sigmoid", "u is None or v is None -> u is None and v is None"): "the pattern binds both or neither",
    ("merge_concatenated_branches", "branches[0].stride -> branches[1].stride"): AXES,
    ("merge_concatenated_branches", "branches[0].stride -> branches[1].stride (#2)"): AXES,
    ("distinct", "count[which] > 1 -> count[which] >= 1"): ALONE,
    ("distinct", "count[which] > 1 -> count[which] > 0"): ALONE,
    ("as_linear", "(1, op.in_channels, *size) -> (0, op.in_channels, *size)"): "the number of images is not read",
    ("add_transposed", "len(first.stride) -> len(second.stride)"): "both have the axes of their input",
}
