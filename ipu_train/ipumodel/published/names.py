"""Names in published configurations: of the layers where a pipeline is cut, and of those whose outputs are kept.

Every application names layers in its own way. What is translated here are facts of Graphcore's public examples:
TensorFlow 1 and Keras names of the block *after* which a stage begins, torch paths with slashes, timm's and
efficientnet-pytorch's EfficientNets, and the names that ``torch.fx`` gives to residual additions (``add``,
``add_1``, ... in order of execution).
"""

import re
from typing import List, Optional, Sequence, Tuple

import torch

from ..program import Program

# timm's names of an MBConv block's parts -> ours.
_TIMM_PARTS = {
    "conv_pw": "expand_conv",
    "bn1": "expand_norm",
    "conv_dw": "group_conv",
    "bn2": "group_conv_norm",
    "se": "squeeze_excite",
    "conv_pwl": "project_conv",
    "bn3": "project_norm",
}


def module_names(model: torch.nn.Module) -> List[str]:
    """Paths of all modules, in the order of their definition."""
    return [name for name, _ in model.named_modules()]


def _after(names: Sequence[str], module: str) -> str:
    """The block that follows ``module`` (``layer2.3``) in execution order: where the next stage begins."""
    blocks = [n for n in names if re.fullmatch(r"(layer|stage)\d+\.\d+", n)]
    position = blocks.index(module)
    if position + 1 < len(blocks):
        return blocks[position + 1]
    raise ValueError(f"pipeline split after {module}: nothing but the head follows")


def _residual_name(text: str) -> Optional[str]:
    """``layer2.3`` for the published names of the block *after* which a stage begins, else None."""
    for pattern, shift in (
        (r"b(\d+)/(\d+)/relu", 0),  # TensorFlow 1: b1/2/relu
        (r"stage(\d+)/unit(\d+)/relu", -1),  # later TensorFlow 1: stage1/unit3/relu
        (r"conv(\d+)_block(\d+)_(?:out|add|post_addition_relu)", -1),  # Keras: conv2_block2_out
    ):
        found = re.fullmatch(pattern, text)
        if found:
            stage, block = int(found.group(1)), int(found.group(2)) + shift
            if text.startswith("conv"):
                stage -= 1
            return f"layer{stage}.{block}"
    return None


def _module_of(text: str, names: Sequence[str]) -> Optional[str]:
    """Our module for a path of a published network; None where the path is of no form that is known."""
    known = set(names)
    dotted = text.replace("/", ".")
    if text in known:
        return text
    efficientnet = re.fullmatch(r"block(\d)([a-z])(?:[/_].*)?", text)  # TensorFlow: block3b
    timm = re.fullmatch(r"blocks/(\d+)/(\d+)(?:/(\w+))?", text)  # timm: blocks/3/0/conv_pw
    flat = re.fullmatch(r"_blocks/(\d+)(?:/.*)?", text)  # efficientnet-pytorch: _blocks/4
    mobile = re.fullmatch(r"mb_block/(\d+)(?:/.*)?", text)  # MobileNet: mb_block/2/seq/0
    if efficientnet:
        return f"stage{efficientnet.group(1)}.{ord(efficientnet.group(2)) - ord('a')}"
    if timm:
        block = f"stage{int(timm.group(1)) + 1}.{timm.group(2)}"
        part = _TIMM_PARTS.get(timm.group(3) or "")
        # The first part of a block begins the block itself.
        inside = f"{block}.{part}"
        return inside if part and inside in known and part != "expand_conv" else block
    if flat:
        blocks = [n for n in names if re.fullmatch(r"stage\d+\.\d+", n)]
        return blocks[int(flat.group(1))] if int(flat.group(1)) < len(blocks) else None
    if mobile:
        return f"features.{int(mobile.group(1)) + 1}"
    # torch ResNets: norms are called bn, a projection downsample.0 and .1
    dotted = re.sub(r"\.bn(\d)", r".norm\1", dotted)
    dotted = re.sub(r"\.downsample[._]0$", ".shortcut.conv", dotted)
    dotted = re.sub(r"\.downsample[._]1$", ".shortcut.norm", dotted)
    return dotted if dotted in known else None


def translate(text: str, names: Sequence[str]) -> str:
    """The module of ours at which a stage begins, for one name of a published configuration.

    Raises:
        ValueError: the name is not understood, or the network has no such module.
    """
    text = text.strip()
    after = _residual_name(text)
    if after is not None:
        if after not in names:
            raise ValueError(f"pipeline split {text!r}: the network has no block {after}")
        return _after(names, after)
    path = re.fullmatch(
        r"(layer\d+)/(\d+)(?:/.*)?", text
    )  # PopTorch ResNets: the block itself begins the stage
    found = f"{path.group(1)}.{path.group(2)}" if path else _module_of(text, names)
    if found is None or found not in names:
        raise ValueError(f"pipeline split {text!r}: no module of this network answers to it")
    return found


def residual_blocks(program: Program) -> List[str]:
    """Paths of the modules in which two activations of one shape are added, in order of execution."""
    found = []
    for op in program.forward():
        same = op.kind == "binary" and op.attributes.get("in_elements") == 2 * op.attributes.get(
            "out_elements", 0
        )
        if op.operator.split("::")[-1] in ("add", "add_") and same and op.layer:
            found.append(op.layer)
    return list(dict.fromkeys(found))


def kept_modules(texts: Sequence[str], names: Sequence[str], program: Program) -> Tuple[str, ...]:
    """Modules of ours whose outputs a published configuration keeps for the backward pass.

    ``add_3`` is the fourth residual addition, so the output of the fourth block that has one. What follows the last
    block (``avgpool``, ``fc``) is small, and kept by the loss already: it has no module of its own here.

    Raises:
        ValueError: a name is not understood.
    """
    found, residual = [], residual_blocks(program)
    for text in texts:
        text = text.strip().replace(".", "/")
        addition = re.fullmatch(r"add(?:_(\d+))?", text)
        if addition:
            position = int(addition.group(1) or 0)
            if position >= len(residual):
                raise ValueError(
                    f"recomputation checkpoint {text!r}: the network has {len(residual)} additions"
                )
            found.append(residual[position])
        elif text in ("avgpool", "fc"):
            continue
        else:
            module = _module_of(text, names)
            if module is None or module not in names:
                raise ValueError(
                    f"recomputation checkpoint {text!r}: no module of this network answers to it"
                )
            found.append(module)
    return tuple(dict.fromkeys(found))
