"""Fits the convolution constants of the IPU model to published single-layer results and reports the errors.

    python scripts/ipumodel_fit.py LAYERS.csv [--output FOLDER]

LAYERS.csv holds ``benchmark,chip,tool,parameters`` and what Graphcore's IPUModel reported
(``cycles_sdk2.0,total_bytes_sdk2.0,max_tile_bytes_incl_gaps_sdk2.0``). Thirty per cent of the shapes, chosen
by a hash of tool and parameters, are kept aside: both chips of a shape fall on the same side, and no constant
sees them.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

from ipu_train.ipumodel import constants as k
from ipu_train.ipumodel.convolution import cost as conv_cost
from ipu_train.ipumodel.convolution.params import PASSES, ConvParams
from ipu_train.ipumodel.convolution.plan import plan_pass
from ipu_train.ipumodel.published import layers as L
from ipu_train.ipumodel.published.parameters import Reader
from ipu_train.ipumodel.published.tables import read_rows, write_rows
from ipu_train.ipumodel.target import Target


def kept_aside(row):
    """Whether a shape belongs to the validation share (30 %)."""
    digest = hashlib.sha256(f"{row['tool']} {row['parameters']}".encode()).digest()
    return digest[0] < 0.3 * 256


def layers_of(row):
    r = Reader(row["parameters"])
    if row["tool"] == "conv":
        return [L.conv_params(r)]
    if row["tool"] == "oct_conv":
        alpha = r.get("alpha", default="0")
        return L.octave_layers(
            L.conv_params(r),
            float(r.get("alpha-in", default=alpha)),
            float(r.get("alpha-out", default=alpha)),
        )
    if row["tool"] == "fc":
        size = r.whole("batch-size")
        return [ConvParams(1, 1, r.whole("input-size"), r.whole("output-size"), (1, size), (1, 1))]
    return None


def features(row):
    """(planned cycles, cycle features, known bytes, byte features) of a convolution-like row."""
    target = Target.named(row["chip"])
    base, weights, operands, known = 0.0, 0.0, 0.0, 0.0
    temporary, copies, used = 0.0, 0.0, 0
    messages = np.zeros(2)
    for p in layers_of(row):
        acts = (p.input_elements + p.output_elements) * 2.0
        weights += p.weight_elements * 2.0
        known += 2 * acts
        for name in PASSES:
            plan = plan_pass(p, name, target)
            base += plan.total_cycles
            operands += acts * 2 / 3 / target.tiles
            temporary, copies = max((temporary, copies), (plan.typical_temporary_bytes, acts))
            known += plan.tiles * (
                k.VERTEX_STATE_SCALE * conv_cost.vertex_state_bytes(plan) + k.CONV_PASS_BYTES
            )
            used = max(used, plan.tiles)
            a, b, c = conv_cost.messages(plan, target, 2)
            messages += plan.tiles * np.array([a + b, c])
    steps = 3.0 * len(layers_of(row))
    cycles = [1.0, steps, weights / target.tiles, operands]
    return base, cycles, known + temporary, [used, weights, copies] + list(messages)


def report(name, rows, actual, predicted):
    ratio = np.array(predicted, float) / np.array(actual, float)
    error = np.abs(ratio - 1)
    rank = _rank_correlation(np.array(actual, float), np.array(predicted, float))
    return (
        f"{name:34s} rows {len(ratio):3d}  median {np.median(error):6.1%}  "
        f"p90 {np.percentile(error, 90):6.1%}  max {error.max():6.1%}  rank {rank:.4f}"
    )


def _rank_correlation(a, b):
    def ranks(x):
        return np.array([(x < v).sum() + ((x == v).sum() - 1) / 2 for v in x])

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def fit(rows):
    """Prints the least relative squares values of the convolution constants on the fitting rows."""
    from scipy.optimize import nnls

    chosen = [r for r in rows if not kept_aside(r) and r["tool"] != "fc" and layers_of(r)]
    found = [features(r) for r in chosen]
    cycles = np.array([float(r["cycles_sdk2.0"]) for r in chosen])
    size = np.array([float(r["total_bytes_sdk2.0"]) for r in chosen])
    base = np.array([f[0] for f in found])
    a = np.array([f[1] for f in found])
    x, _ = nnls(a / cycles[:, None], (cycles - base) / cycles)
    for name, value in zip(
        ("CONV_PROGRAM_CYCLES", "CONV_STEP_CYCLES", "WEIGHT_MOVE_CYCLES", "OPERAND_MOVE_CYCLES"), x
    ):
        print(f"{name:24s} {value:10.3f}   in use {float(getattr(k, name)):10.3f}")
    tensors = np.array([f[2] for f in found])
    a = np.array([f[3] for f in found])
    x, _ = nnls(a / size[:, None], (size - tensors) / size)
    names = (
        "LAYER_PROGRAM_BYTES",
        "WEIGHT_COPIES",
        "OPERAND_COPY_SHARE",
        "MESSAGE_BYTES",
        "PARTIAL_MESSAGE_BYTES",
    )
    for name, value in zip(names, x):
        print(f"{name:24s} {value:10.3f}   in use {float(getattr(k, name)):10.3f}")


def evaluate(rows):
    """[(row, prediction)] of all rows the model supports."""
    done = []
    for row in rows:
        try:
            done.append((row, L.predict_layer(row["tool"], row["parameters"], Target.named(row["chip"]))))
        except L.Unsupported as error:
            print(f"unsupported: {row['benchmark']}: {error}")
    return done


def plot(done, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 5))
    columns = (
        ("cycles", "cycles_sdk2.0", "cycles"),
        ("total_bytes", "total_bytes_sdk2.0", "bytes over all tiles"),
    )
    for axis, (mine, theirs, label) in zip(axes, columns):
        for chip, colour in (("Mk1", "tab:orange"), ("Mk2", "tab:blue")):
            for aside, marker in ((False, "o"), (True, "x")):
                pairs = [
                    (float(r[theirs]), getattr(p, mine))
                    for r, p in done
                    if r["chip"] == chip and kept_aside(r) == aside
                ]
                label_ = f"{chip}, {'kept aside' if aside else 'fitted'}"
                axis.scatter(*zip(*pairs), s=18, marker=marker, color=colour, alpha=0.7, label=label_)
        low, high = axis.get_xlim()[0], axis.get_xlim()[1]
        low = max(low, min(float(r[theirs]) for r, _ in done) * 0.8)
        for factor, style in ((1, "-"), (1.1, ":"), (1 / 1.1, ":")):
            axis.plot([low, high], [low * factor, high * factor], style, color="grey", linewidth=1)
        axis.set(
            xscale="log", yscale="log", xlabel=f"IPUModel, SDK 2.0: {label}", ylabel=f"predicted: {label}"
        )
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("layers")
    parser.add_argument("--output", help="folder for the picture and the table of errors")
    parser.add_argument("--worst", type=int, default=0, help="list so many rows with the largest errors")
    options = parser.parse_args()
    _, rows = read_rows(options.layers, ["benchmark", "chip", "tool", "parameters", "cycles_sdk2.0"])
    fit(rows)
    done = evaluate(rows)
    lines = []
    for chip in ("Mk2", "Mk1"):
        for aside in (False, True):
            part = [(r, p) for r, p in done if r["chip"] == chip and kept_aside(r) == aside]
            for mine, theirs in (
                ("cycles", "cycles_sdk2.0"),
                ("total_bytes", "total_bytes_sdk2.0"),
                ("max_tile_bytes", "max_tile_bytes_incl_gaps_sdk2.0"),
            ):
                actual = [float(r[theirs]) for r, _ in part]
                name = f"{chip} {mine} {'kept aside' if aside else 'fitted'}"
                lines.append(report(name, part, actual, [getattr(p, mine) for _, p in part]))
    print("\n".join(lines))
    for mine in ("cycles", "total_bytes"):
        off = sorted(done, key=lambda d: -abs(getattr(d[1], mine) / float(d[0][mine + "_sdk2.0"]) - 1))
        for r, p in off[: options.worst]:
            ratio = getattr(p, mine) / float(r[mine + "_sdk2.0"])
            print(
                f"{mine:12s} {ratio:5.2f} {r['chip']} {r['benchmark']} {'(aside)' if kept_aside(r) else ''}"
            )
    if options.output:
        folder = Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "layers.txt").write_text("\n".join(lines) + "\n")
        columns = ["benchmark", "chip", "tool", "parameters", "cycles_sdk2.0", "total_bytes_sdk2.0"]
        columns += [
            "max_tile_bytes_incl_gaps_sdk2.0",
            "cycles",
            "total_bytes",
            "max_tile_bytes",
            "kept_aside",
        ]
        for row, found in done:
            row.update(
                cycles=found.cycles, total_bytes=found.total_bytes, max_tile_bytes=found.max_tile_bytes
            )
            row["kept_aside"] = "yes" if kept_aside(row) else "no"
        write_rows(folder / "layers.csv", columns, [row for row, _ in done])
        plot(done, folder / "layers.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
