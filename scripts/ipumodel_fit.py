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
from typing import Dict, List, Sequence, Tuple

import numpy as np
from scipy.optimize import least_squares, lsq_linear

from ipu_train.ipumodel import constants as k
from ipu_train.ipumodel.convolution import cost as conv_cost
from ipu_train.ipumodel.published import layers as L
from ipu_train.ipumodel.published.tables import read_rows, write_rows
from ipu_train.ipumodel.target import Target


def kept_aside(row):
    """Whether a shape belongs to the validation share (30 %)."""
    digest = hashlib.sha256(f"{row['tool']} {row['parameters']}".encode()).digest()
    return digest[0] < 0.3 * 256


# The fitted constants that cycles and bytes are linear in, and how far a fit may move them.
CYCLES = (
    *(
        "CONV_PROGRAM_CYCLES",
        "FC_PROGRAM_CYCLES",
        "CONV_STEP_CYCLES",
        "WEIGHT_MOVE_CYCLES",
        "OPERAND_MOVE_CYCLES",
    ),
    *("POOL_STEP_CYCLES", "POOL_REGROUP_CYCLES", "REDUCE_STEP_CYCLES"),
)
BYTES = (
    *("LAYER_PROGRAM_BYTES", "FC_PROGRAM_BYTES", "OPERAND_COPY_SHARE", "SUM_STAGE_BYTES"),
    *("POOL_PROGRAM_BYTES", "POOL_TENSOR_SHARE", "POOL_WINDOW_SHARE"),
    *("REDUCE_PROGRAM_BYTES", "REDUCE_STRIDED_BYTES"),
)
CYCLE_BOUNDS = [(0.0, np.inf)] * len(CYCLES)
BYTE_BOUNDS = [(-np.inf if name == "FC_PROGRAM_BYTES" else 0.0, np.inf) for name in BYTES]


def supported(row: Dict[str, str]) -> bool:
    """Whether the model has an estimate for the row."""
    try:
        L.predict_layer(row["tool"], row["parameters"], Target.named(row["chip"]))
    except L.Unsupported:
        return False
    return True


def solve(
    a: np.ndarray, base: np.ndarray, actual: np.ndarray, bounds: Sequence[Tuple[float, float]]
) -> np.ndarray:
    """The constants that make ``base + a x`` meet the actual figures, by relative errors.

    Squares of small errors, the sizes of those well beyond a tenth: a few layers that the real planner plans in
    another way must not bend the constants.
    """
    used = np.flatnonzero(np.abs(a).sum(axis=0) > 0)
    low, high = np.array(bounds)[used].T
    scaled, wanted = a[:, used] / actual[:, None], (actual - base) / actual
    scale = 1.0 / np.maximum(np.abs(scaled).mean(axis=0), 1e-12)
    start = lsq_linear(scaled * scale, wanted, (low / scale, high / scale)).x
    inside = np.clip(start, low / scale + 1e-9, high / scale - 1e-9)
    found = least_squares(
        lambda x: scaled @ (x * scale) - wanted,
        inside,
        bounds=(low / scale, high / scale),
        loss="soft_l1",
        f_scale=0.1,
    )
    x = np.zeros(a.shape[1])
    x[used] = found.x * scale
    return x


def features(row: Dict[str, str]) -> Tuple[float, List[float], float, List[float]]:
    """(cycles without fitted constants, their factors, bytes without fitted constants, their factors) of a row.

    The factors are found by changing one constant at a time: the model is linear in all of them.
    """
    target = Target.named(row["chip"])

    def predicted(changed: Dict[str, float]) -> Tuple[float, float]:
        before = {name: getattr(k, name) for name in changed}
        for name, value in changed.items():
            setattr(k, name, value)
        conv_cost.conv_cost.cache_clear()
        try:
            found = L.predict_layer(row["tool"], row["parameters"], target)
        finally:
            for name, value in before.items():
                setattr(k, name, value)
        return float(found.cycles), float(found.total_bytes)

    none = dict.fromkeys(CYCLES + BYTES, 0.0)
    cycles, size = predicted(none)
    steps = {name: 1.0 if name in _SHARES else 1e4 for name in CYCLES + BYTES}
    changed = {name: predicted(dict(none, **{name: steps[name]})) for name in CYCLES + BYTES}
    return (
        cycles,
        [(changed[name][0] - cycles) / steps[name] for name in CYCLES],
        size,
        [(changed[name][1] - size) / steps[name] for name in BYTES],
    )


_SHARES = ("OPERAND_COPY_SHARE", "POOL_TENSOR_SHARE", "POOL_WINDOW_SHARE")


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


def fit(rows: Sequence[Dict[str, str]]) -> None:
    """Prints the least relative squares values of the constants on the fitting rows."""
    chosen = [r for r in rows if not kept_aside(r) and supported(r)]
    found = [features(r) for r in chosen]
    for names, column, base, matrix, bounds in (
        (CYCLES, "cycles_sdk2.0", 0, 1, CYCLE_BOUNDS),
        (BYTES, "total_bytes_sdk2.0", 2, 3, BYTE_BOUNDS),
    ):
        actual = np.array([float(r[column]) for r in chosen])
        start, a = np.array([f[base] for f in found]), np.array([f[matrix] for f in found])
        for name, value in zip(names, solve(a, start, actual, bounds)):
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
