"""Loads weights of torchvision and timm into networks of the same architecture: one table of names."""

import re
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

import torch
from torch import nn

# Of the norms of both libraries, their EfficientNets B0 to B4 among them.
LIBRARY_NORM_EPS = 1e-5

Rule = Tuple[str, Union[str, Callable]]


def _counted_from_one(format_: str) -> Callable:
    """A replacement whose first group, a number counted from 0, is written counted from 1."""
    return lambda match: format_.format(int(match.group(1)) + 1, *match.groups()[1:])


_SE_SQUEEZE = _counted_from_one("stage{}.{}.squeeze_excite.squeeze.")
_SE_EXPAND = _counted_from_one("stage{}.{}.squeeze_excite.expand.")


class Layout(NamedTuple):
    """Names of one library's family: it is recognised by a name, and renamed by the first rule that fits."""

    recognised_by: str
    rules: List[Rule]


# Block norms are called norm1, ...; where they are within a site, ".norm" is put in by ``_place``.
LAYOUTS = {
    "ResNet or ResNeXt of torchvision or timm": Layout(
        "layer1.0.bn1.weight",
        [
            (r"^bn1\.", "norm1."),
            (r"\.bn(\d)\.", r".norm\1."),
            (r"\.downsample\.0\.", ".shortcut.conv."),
            (r"\.downsample\.1\.", ".shortcut.norm."),
        ],
    ),
    "ResNet v2 of timm": Layout(
        "stages.0.blocks.0.norm1.weight",
        [
            (r"^stem\.conv\.", "conv1."),
            (r"^stages\.(\d+)\.blocks\.(\d+)\.downsample\.conv\.", _counted_from_one("layer{}.{}.shortcut.")),
            (r"^stages\.(\d+)\.blocks\.(\d+)\.", _counted_from_one("layer{}.{}.")),
            (r"^norm\.", "last_norm."),
            (r"^head\.fc\.", "fc."),
        ],
    ),
    "EfficientNet of torchvision": Layout(
        "features.1.0.block.0.0.weight",
        [
            (r"^features\.0\.0\.", "stem_conv."),
            (r"^features\.0\.1\.", "stem_norm."),
            (r"^features\.8\.0\.", "head_conv."),
            (r"^features\.8\.1\.", "head_norm."),
            (r"^classifier\.1\.", "fc."),
            (r"^features\.1\.(\d+)\.block\.0\.0\.", r"stage1.\1.group_conv."),
            (r"^features\.1\.(\d+)\.block\.0\.1\.", r"stage1.\1.group_conv_norm."),
            (r"^features\.(\d)\.(\d+)\.block\.\d\.fc1\.", r"stage\1.\2.squeeze_excite.squeeze."),
            (r"^features\.(\d)\.(\d+)\.block\.\d\.fc2\.", r"stage\1.\2.squeeze_excite.expand."),
            (r"^features\.1\.(\d+)\.block\.2\.0\.", r"stage1.\1.project_conv."),
            (r"^features\.1\.(\d+)\.block\.2\.1\.", r"stage1.\1.project_norm."),
            (r"^features\.(\d)\.(\d+)\.block\.0\.0\.", r"stage\1.\2.expand_conv."),
            (r"^features\.(\d)\.(\d+)\.block\.0\.1\.", r"stage\1.\2.expand_norm."),
            (r"^features\.(\d)\.(\d+)\.block\.1\.0\.", r"stage\1.\2.group_conv."),
            (r"^features\.(\d)\.(\d+)\.block\.1\.1\.", r"stage\1.\2.group_conv_norm."),
            (r"^features\.(\d)\.(\d+)\.block\.3\.0\.", r"stage\1.\2.project_conv."),
            (r"^features\.(\d)\.(\d+)\.block\.3\.1\.", r"stage\1.\2.project_norm."),
        ],
    ),
    "EfficientNet of timm": Layout(
        "blocks.0.0.conv_dw.weight",
        [
            (r"^conv_stem\.", "stem_conv."),
            (r"^bn1\.", "stem_norm."),
            (r"^conv_head\.", "head_conv."),
            (r"^bn2\.", "head_norm."),
            (r"^classifier\.", "fc."),
            (
                r"^blocks\.(\d)\.(\d+)\.se\.conv_reduce\.",
                _counted_from_one("stage{}.{}.squeeze_excite.squeeze."),
            ),
            (
                r"^blocks\.(\d)\.(\d+)\.se\.conv_expand\.",
                _SE_EXPAND,
            ),
            (r"^blocks\.(\d)\.(\d+)\.conv_dw\.", _counted_from_one("stage{}.{}.group_conv.")),
            (r"^blocks\.0\.(\d+)\.bn1\.", r"stage1.\1.group_conv_norm."),
            (r"^blocks\.0\.(\d+)\.conv_pw\.", r"stage1.\1.project_conv."),
            (r"^blocks\.0\.(\d+)\.bn2\.", r"stage1.\1.project_norm."),
            (r"^blocks\.(\d)\.(\d+)\.conv_pw\.", _counted_from_one("stage{}.{}.expand_conv.")),
            (r"^blocks\.(\d)\.(\d+)\.bn1\.", _counted_from_one("stage{}.{}.expand_norm.")),
            (r"^blocks\.(\d)\.(\d+)\.bn2\.", _counted_from_one("stage{}.{}.group_conv_norm.")),
            (r"^blocks\.(\d)\.(\d+)\.conv_pwl\.", _counted_from_one("stage{}.{}.project_conv.")),
            (r"^blocks\.(\d)\.(\d+)\.bn3\.", _counted_from_one("stage{}.{}.project_norm.")),
        ],
    ),
}


def known_layout(names: List[str]) -> Optional[str]:
    """Whose names these are; None: of no library that is known here."""
    return next((library for library, layout in LAYOUTS.items() if layout.recognised_by in names), None)


def rename(names: List[str]) -> Dict[str, str]:
    """Foreign name -> our name, for the names of one checkpoint. ValueError for an unknown layout."""
    library = known_layout(names)
    if library is not None:
        return {name: _apply(LAYOUTS[library].rules, name) for name in names}
    raise ValueError(
        f"this checkpoint (its names begin with {', '.join(names[:3])}) is of no known layout. Known: "
        + "; ".join(LAYOUTS)
    )


def _apply(rules: List[Rule], name: str) -> str:
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, name, count=1)
        if count:
            return renamed
    return name


def _place(name: str, ours: Mapping[str, torch.Tensor]) -> str:
    """The name as it is, or with ".norm" before its last part where the norm is part of a site."""
    head, _, tail = name.rpartition(".")
    inside_site = f"{head}.norm.{tail}"
    return inside_site if name not in ours and inside_site in ours else name


def names_of(theirs: List[str], ours: Mapping[str, torch.Tensor]) -> Dict[str, str]:
    """Another library's name -> the name in our state dict ``ours``. ValueError for an unknown layout."""
    return {old: _place(new, ours) for old, new in rename(theirs).items()}


def load_checkpoint(
    model: nn.Module, state_dict: Mapping[str, torch.Tensor], classifier: bool = True
) -> None:
    """Copies a state dict of torchvision or timm into a model of the same architecture, in place.

    The architecture is the same when the model was built with ``norm="batch", proxy_norm=False`` and the
    epsilon that the weights were trained with (1e-5 in both libraries, also for their EfficientNets B0 to
    B4, where ours have 1e-3: pass ``norm_eps``). timm's "tf_" EfficientNets pad differently and are other
    networks.

    Args:
        classifier: False leaves the last layer as it is, for another number of classes.

    Raises ValueError, with names, when a tensor of either side finds no partner or another shape.
    """
    ours = model.state_dict()
    renamed = {new: state_dict[old] for old, new in names_of(list(state_dict), ours).items()}
    if not classifier:
        renamed = {name: value for name, value in renamed.items() if not name.startswith("fc.")}
        renamed.update({name: value for name, value in ours.items() if name.startswith("fc.")})
    counts = {name: value for name, value in ours.items() if name.endswith(".num_batches_tracked")}
    renamed = {**counts, **renamed}  # which files from before torch 0.4.1 lack
    unknown = [name for name in renamed if name not in ours]
    missing = [name for name in ours if name not in renamed]
    if unknown or missing:
        parts = [
            f"{len(names)} {words} ({', '.join(names[:3])})"
            for words, names in (
                ("tensors have no place in it", unknown),
                ("of its own are not in the checkpoint", missing),
            )
            if names
        ]
        raise ValueError(
            f"the checkpoint does not fit the model: {', '.join(parts)}. Is it the same network, built with norm "
            "'batch' and without Proxy Norm?"
        )
    for name, value in renamed.items():
        if value.shape != ours[name].shape and value.numel() == ours[name].numel():
            value = value.reshape(ours[name].shape)  # a classifier written as a 1x1 convolution
        if value.shape != ours[name].shape:
            advice = ""
            if name.startswith("fc."):
                advice = "; classifier=False (model.new_classifier: true) keeps the model's own"
            raise ValueError(
                f"{name} has shape {tuple(value.shape)} in the checkpoint and {tuple(ours[name].shape)} in "
                f"the model{advice}"
            )
        if value.is_floating_point() != ours[name].is_floating_point():
            raise ValueError(f"{name} is {value.dtype} in the checkpoint and {ours[name].dtype} in the model")
        renamed[name] = value
    model.load_state_dict(renamed)
