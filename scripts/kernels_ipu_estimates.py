"""Estimated cycles of group norm with Proxy Norm on an IPU, by what computes it, over a network's norms.

    python scripts/kernels_ipu_estimates.py [--micro-batches 1 2 4 8 16]

For ResNet-50 (ReLU, 32 groups) and EfficientNet-B0-G16 (SiLU, 4 groups) at 224 pixels: popnn's group norm with its
activation, Proxy Norm composed around it (statistics in every micro-batch, and once for each weight update), and the
fused operator. ``ipu_train.kernels.estimates`` says how they are counted. Paper figures, not measurements.
"""

import argparse
from collections import Counter

import torch

from ipu_train import models
from ipu_train.kernels import estimates
from ipu_train.models.norm_layers import GroupNorm, NormActivation

NETWORKS = {"resnet50": "relu", "efficientnet_b0_g16": "silu"}


def layers(name, micro_batch):
    """How often each normalised activation with Proxy Norm occurs."""
    found = Counter()

    def count(module, inputs, _):
        if module.proxy is not None and isinstance(module.norm, GroupNorm):
            n, c, *pixels = inputs[0].shape
            found[estimates.Layer(n, c, torch.Size(pixels).numel(), module.norm.num_groups)] += 1

    network = models.build(name, norm="group", proxy_norm=True).to("meta")
    for module in network.modules():
        if isinstance(module, NormActivation):
            module.register_forward_hook(count)
    network(torch.zeros(micro_batch, 3, 224, 224, device="meta"))
    return found


def totals(found, function):
    pairs = [(function(layer), times) for layer, times in found.items()]
    return [sum(getattr(cycles, half) * times for cycles, times in pairs) for half in ("forward", "backward")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    print(
        "| network | micro-batch | popnn GN + act: cycles | composed | composed, per_update | fused | fused: forward |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, activation in NETWORKS.items():
        for micro_batch in parser.parse_args().micro_batches:
            found = layers(name, micro_batch)
            ways = {
                "composed": lambda layer, a=activation: estimates.composed(layer, a),
                "per_update": lambda layer, a=activation: estimates.composed(layer, a, per_update=True),
                "fused": lambda layer, a=activation: estimates.fused(layer, a),
            }
            norm = totals(found, lambda layer, a=activation: estimates.popnn_group_norm(layer, a))
            cycles = {way: totals(found, function) for way, function in ways.items()}
            ratios = " | ".join(f"{sum(cycles[way]) / sum(norm):.2f}" for way in ways)
            forward = cycles["fused"][0] / norm[0]
            print(f"| {name} | {micro_batch} | {sum(norm):,} | {ratios} | {forward:.2f} |", flush=True)
    print(
        "\nBytes kept for the backward pass, beside the output that the next layer keeps, in tensors of its size:"
    )
    for activation in ("relu", "silu"):
        layer = estimates.Layer(1, 64, 3136)
        kept = {how: estimates.kept_bytes(layer, activation, how) for how in ("popnn", "composed", "fused")}
        print(activation, {how: size // (2 * layer.elements) for how, size in kept.items()})


if __name__ == "__main__":
    main()
