"""Which operators make views for torch, and what PopTorch makes of them.

Sources: ``popart_canonicalization/SliceOps.cpp`` and ``ReshapeOps.cpp`` (what they are lowered to), and
``PopartCanonicalization.cpp`` (which of them a write in place is carried through).
"""

from typing import Dict

# a slice, with a reshape behind it where a dimension goes; a reshape; anything else
SLICED, RESHAPED, MOVED = "sliced", "reshaped", "moved"
VIEWS: Dict[str, str] = {
    **dict.fromkeys(("slice", "select", "narrow", "chunk", "split", "split_with_sizes", "alias"), SLICED),
    **dict.fromkeys(
        ("view", "reshape", "_reshape_alias", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "view_as"), RESHAPED
    ),
    **dict.fromkeys(
        (
            "transpose", "permute", "t", "expand", "expand_as", "broadcast_to", "as_strided", "diagonal", "detach",
            "movedim", "swapaxes", "swapdims", "numpy_T", "unfold",
            "unbind",  # gathered
        ),
        MOVED,
    ),
}  # fmt: skip
# change the shape of their first operand, not its values
RESHAPES_IN_PLACE = frozenset(
    ["transpose_", "squeeze_", "unsqueeze_", "t_", "swapaxes_", "swapdims_", "as_strided_", "resize_"]
)


def writes(name: str) -> bool:
    """Whether the operator changes the values of its first operand."""
    return name.endswith("_") and not name.endswith("__") and name not in RESHAPES_IN_PLACE | {"detach_"}
