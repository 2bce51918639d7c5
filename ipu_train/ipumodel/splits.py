"""Where a network is cut into pipeline stages: names from published configurations, and even cuts of our
own.
"""

import re

import numpy as np


def module_names(model):
    return [name for name, _ in model.named_modules()]


def _after(names, module):
    """The block that follows ``module`` (``layer2.3``) in execution order: where the next stage begins."""
    blocks = [n for n in names if re.fullmatch(r"(layer|stage)\d+\.\d+", n)]
    position = blocks.index(module)
    if position + 1 < len(blocks):
        return blocks[position + 1]
    raise ValueError(f"pipeline split after {module}: nothing but the head follows")


def _residual_name(text):
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


def translate(text, names):
    """The module of ours at which a stage begins, for one name of a published configuration.

    Raises ValueError for a name that is not understood or that the network does not have.
    """
    text = text.strip()
    after = _residual_name(text)
    if after is not None:
        if after not in names:
            raise ValueError(f"pipeline split {text!r}: the network has no block {after}")
        return _after(names, after)
    found = None
    path = re.fullmatch(
        r"(layer\d+)/(\d+)(?:/.*)?", text
    )  # PopTorch ResNets: the block itself begins the stage
    efficientnet = re.fullmatch(r"block(\d)([a-z])(?:[/_].*)?", text)  # TensorFlow: block3b
    timm = re.fullmatch(r"blocks/(\d+)/(\d+)(?:/.*)?", text)  # timm names: blocks/3/0/conv_pw
    flat = re.fullmatch(r"_blocks/(\d+)(?:/.*)?", text)  # efficientnet-pytorch names: _blocks/4
    if path:
        found = f"{path.group(1)}.{path.group(2)}"
    elif efficientnet:
        found = f"stage{efficientnet.group(1)}.{ord(efficientnet.group(2)) - ord('a')}"
    elif timm:
        found = f"stage{int(timm.group(1)) + 1}.{timm.group(2)}"
    elif flat:
        blocks = [n for n in names if re.fullmatch(r"stage\d+\.\d+", n)]
        found = blocks[int(flat.group(1))] if int(flat.group(1)) < len(blocks) else None
    elif text in names:
        found = text
    if found is None or found not in names:
        raise ValueError(f"pipeline split {text!r}: no module of this network answers to it")
    return found


def even_splits(program, names, stages):
    """``stages - 1`` block names that cut the forward work into parts whose largest is smallest (exact, by
    search).
    """
    blocks = [n for n in names if re.fullmatch(r"(layer|stage)\d+\.\d+", n)]
    if stages < 2 or len(blocks) < stages:
        return ()
    work = np.zeros(len(blocks) + 1)
    for op in program.forward():
        inside = [i for i, name in enumerate(blocks) if op.layer == name or op.layer.startswith(name + ".")]
        weight = float(op.attributes.get("out_elements", 0))
        if op.kind == "conv":
            shape = op.attributes["weight"]
            weight *= 1 + np.prod(shape[1:]) / 16.0
        work[inside[0] if inside else (0 if not op.layer.startswith(("fc", "head")) else -1)] += weight
    total = np.concatenate([[0.0], np.cumsum(work)])
    count = len(blocks)
    best = {(1, end): (total[end], ()) for end in range(1, count + 2)}
    for parts in range(2, stages + 1):
        for end in range(parts, count + 2):
            options = [
                (max(best[(parts - 1, cut)][0], total[end] - total[cut]), best[(parts - 1, cut)][1] + (cut,))
                for cut in range(parts - 1, min(end, count))
            ]
            best[(parts, end)] = min(options) if options else (float("inf"), ())
    return tuple(blocks[cut] for cut in best[(stages, count + 1)][1])
