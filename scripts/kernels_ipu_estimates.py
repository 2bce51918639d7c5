"""Estimated cycles and bytes of the fused PopART operator on an IPU's tiles, with Proxy Norm and without.

    python scripts/kernels_ipu_estimates.py [--tiles 1472] [--groups 32] [--mappings linear grouped]

Both are the same operator, once with its attribute ``proxy=0``: a group norm with its activation in the
fewest passes. Cycles are the vertices' own estimates with exchange and synchronisation (see
kernels/host_poplar/README.md): paper figures, not measurements.
"""

import argparse

import torch

from ipu_train.kernels import host

SHAPES = [(8, 64, 56, 56), (8, 256, 14, 14), (4, 2048, 7, 7)]


def reports(shape, groups, activation, options):
    """The host's report with Proxy Norm and without."""
    kinds = [(torch.float16, shape)] + [(torch.float16, (shape[1],))] * 4
    attributes = {"groups": groups, "activation": activation}
    return [
        host.Session("GroupNormProxyNormAct", kinds, {**attributes, "proxy": proxy}, options).report()
        for proxy in (1, 0)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=1472)
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--mappings", nargs="+", default=["linear", "grouped"])
    arguments = parser.parse_args()
    print(
        "| shape (half) | layout | act | forward | ratio | backward | ratio | both | worst tile | temporary |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        for mapping in arguments.mappings:
            for activation in ("relu", "silu"):
                options = host.Options(arguments.tiles, mapping)
                with_proxy, without = reports(shape, arguments.groups, activation, options)
                cycles = [[r[p]["cycles"] for p in ("forward", "backward")] for r in (with_proxy, without)]
                ratios = [a / b for a, b in zip(*cycles)]
                worst = max(with_proxy[p]["worst_tile_bytes"] for p in ("forward", "backward"))
                temporary = max(with_proxy[p]["worst_tile_temporary_bytes"] for p in ("forward", "backward"))
                print(
                    f"| {shape} | {mapping} | {activation} | {cycles[0][0]:,} | {ratios[0]:.3f} | "
                    f"{cycles[0][1]:,} | {ratios[1]:.3f} | {sum(cycles[0]) / sum(cycles[1]):.3f} | "
                    f"{worst:,} B | {temporary:,} B |"
                )


if __name__ == "__main__":
    main()
