"""How well the IPU model predicts what it was not fitted to: layers by shape family, throughput by network, fits.

    python scripts/ipumodel_validation.py LAYERS.csv CONFIGS.csv --output scripts/results/ipumodel

LAYERS.csv and CONFIGS.csv are the tables of ``ipumodel_fit.py`` and ``ipumodel_networks.py``. Each family of layers is
predicted with constants fitted to all other families (bounded least squares of relative errors; the planner has no
fitted constants), and each network's throughput with constants fitted to all other networks, starting from what the
public codelets take at best. ``scripts/results/ipumodel/further_runs.csv`` holds further public configurations that
ran; those it marks as kept aside were put aside by a hash of their names before any was predicted. Writes
``validation.csv`` (the ranges that predictions carry) and one table a part: ``validation_layers.md`` with every family,
``validation_rates.md`` and ``validation_networks.md`` with every run, ``validation_fits.md``. On one core the four
parts take about one, two, six and fifteen minutes.
"""

import argparse
import csv
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import ipumodel_fit
import numpy as np
import torch
from ipumodel_networks import FURTHER, PUBLISHED, network, sized
from scipy.optimize import lsq_linear

from ipu_train.ipumodel import constants as k
from ipu_train.ipumodel.published.configs import read_config
from ipu_train.ipumodel.published.parameters import parse_parameters
from ipu_train.ipumodel.published.predictor import Predictor

# Fitted to throughput, and what poplibs' codelets (for links: the hardware) do at best: the start of every fit here.
AT_BEST = {
    "NETWORK_LAYER_CYCLES": 2500.0,
    "BINARY_CYCLES": 3.0,
    "RECTIFIER_CYCLES": 2.0,
    "TRANSCENDENTAL_CYCLES": 7.0,
    "NORM_FORWARD_CYCLES": 16.0,
    "NORM_BACKWARD_CYCLES": 22.0,
    "RING_LINKS": 2.0,
    "LATER_SDK_SPEEDUP": 1.25,
}
# Weight of staying with the start against meeting the published rates, both as logarithms.
_STAY = 0.02
Error = Tuple[str, str, str, float]  # chip, figure, family, predicted / published - 1


def family(row: Dict[str, str]) -> str:
    """The shape family of a layer: what is left out together."""
    tool, p = row["tool"], parse_parameters(row["parameters"])
    if tool in ("pooling", "reduction", "fc"):
        return f"{tool} {row['benchmark'].split('_')[0]} {p.get('field') or p.get('shape') or p.get('batch-size')}"
    kernel = "x".join(sorted(set(p.get("kernel-size", "1").strip("{}").split(","))))
    strided = " strided" if p.get("stride", "1").strip("{}").split(",")[0] != "1" else ""
    grouped = "grouped " if int(p.get("conv-groups", "1")) > 1 else ""
    return f"{tool} {grouped}{kernel}{strided}"


def leave_one_family_out(rows: Sequence[Dict[str, str]]) -> Iterator[Error]:
    """Errors of every layer, predicted with constants fitted to the other families."""
    kept = [row for row in rows if ipumodel_fit.supported(row)]
    names = [family(row) for row in kept]
    found = [ipumodel_fit.features(row) for row in kept]
    for figure, column, base, matrix, bounds in (
        ("cycles", "cycles_sdk2.0", 0, 1, ipumodel_fit.CYCLE_BOUNDS),
        ("total_bytes", "total_bytes_sdk2.0", 2, 3, ipumodel_fit.BYTE_BOUNDS),
    ):
        actual = np.array([float(row[column]) for row in kept])
        start = np.array([f[base] for f in found])
        a = np.array([f[matrix] for f in found])
        for name in sorted(set(names)):
            out = np.array([n == name for n in names])
            x = ipumodel_fit.solve(a[~out], start[~out], actual[~out], bounds)
            predicted = start[out] + a[out] @ x
            for row, value, true in zip(np.array(kept, dtype=object)[out], predicted, actual[out]):
                yield row["chip"], figure, name, float(value / true - 1)


Case = Tuple[str, str, Any, float]  # network, what, configuration, published images/s


def throughput_cases(rows: Dict[str, Dict[str, str]], fitted: bool) -> Iterator[Case]:
    """Every published rate that constants are ``fitted`` to, or every other one."""
    for name, chip, published, _, may_fit in PUBLISHED:
        if may_fit == fitted:
            config = replace(read_config(rows[name], sized), chips=(chip,))
            yield config.model, f"{name} {chip}", config, float(published)


def _rates(predictor: Predictor, cases: Sequence[Any], changed: Dict[str, float]) -> np.ndarray:
    """log images/s of every case with some constants changed."""
    before = {name: getattr(k, name) for name in changed}
    for name, value in changed.items():
        setattr(k, name, value)
    try:
        predictor.forget_reports()
        return np.log([predictor.predict(config).images_per_second for _, _, config, _ in cases])
    finally:
        for name, value in before.items():
            setattr(k, name, value)


@dataclass(frozen=True)
class Rates:
    """Published rates near the constants in use: log images/s there, and its slopes along the logs of the constants."""

    cases: Sequence[Case]
    names: Sequence[str]
    at: np.ndarray
    slope: np.ndarray

    @staticmethod
    def of(predictor: Predictor, rows: Dict[str, Dict[str, str]]) -> "Rates":
        cases = list(throughput_cases(rows, fitted=True))
        names = [name for name in AT_BEST if name != "LATER_SDK_SPEEDUP"]
        here = {name: float(getattr(k, name)) for name in names}
        at = _rates(predictor, cases, here)
        slope = [(_rates(predictor, cases, {n: here[n] * 1.1}) - at) / np.log(1.1) for n in names]
        return Rates(cases, names, at, np.array(slope).T)

    @property
    def missing(self) -> np.ndarray:
        return np.log([case[3] for case in self.cases]) - self.at

    def fitted(self, used: np.ndarray) -> np.ndarray:
        """log (constants / those in use) that meet the rates ``used``, from ``AT_BEST`` on, which saw none of them."""
        start = np.log([AT_BEST[n] / float(getattr(k, n)) for n in self.names])
        # minimise |slope d - missing|^2 over the rates used + _STAY |d - start|^2
        a = np.concatenate([self.slope[used], np.sqrt(_STAY) * np.eye(len(self.names))])
        return lsq_linear(a, np.concatenate([self.missing[used], np.sqrt(_STAY) * start])).x


def leave_one_network_out(rates: Rates) -> Iterator[Tuple[str, str, float]]:
    """(network, what, error) of every published rate, with constants fitted to the other networks.

    Rates are linear enough in the logarithms of the constants around the fit to all.
    """
    networks = np.array([case[0].split("_g16")[0] for case in rates.cases])
    for name in sorted(set(networks)):
        d = rates.fitted(networks != name)
        for i in np.flatnonzero(networks == name):
            error = np.exp(rates.slope[i] @ d - rates.missing[i]) - 1
            yield rates.cases[i][0], rates.cases[i][1], float(error)


def fits(predictor: Predictor, rows: Sequence[Dict[str, str]]) -> Iterator[Tuple[str, str, float, float]]:
    """(id, kept aside, worst tile / capacity as published, at eight times the batch; nan where unsupported)."""
    for row in rows:
        try:
            config = read_config(row, sized)
            here, far = (
                predictor.predict(config),
                predictor.predict(replace(config, micro_batch=8 * config.micro_batch)),
            )
        except ValueError:
            yield row["id"], row.get("kept_aside", ""), float("nan"), float("nan")
            continue
        shares = [report.worst_tile_bytes / report.target.bytes_per_tile for report in (here, far)]
        yield row["id"], row.get("kept_aside", ""), shares[0], shares[1]


def summary(errors: Sequence[float]) -> Tuple[int, float, float, float]:
    """(count, median, ninety per cent within, largest) of absolute errors."""
    size = np.abs(np.array(errors))
    return len(size), float(np.median(size)), float(np.percentile(size, 90)), float(size.max())


def _line(what: str, errors: Sequence[float]) -> str:
    count, median, ninety, largest = summary(errors)
    return f"| {what} | {count} | {median:.1%} | {ninety:.1%} | {largest:.1%} |"


HEAD = ["| what | number | median error | 90 % within | largest |", "|---|---|---|---|---|"]


def layers_part(layers: Sequence[Dict[str, str]]) -> Tuple[Dict[str, List[float]], List[str]]:
    """(errors by kind, lines of the table) of single layers."""
    found = list(leave_one_family_out(layers))
    kinds = {}
    for figure in ("cycles", "total_bytes"):
        for chip in ("Mk2", "Mk1"):
            kinds[f"layers, {figure}, {chip}"] = [e for c, f, _, e in found if (c, f) == (chip, figure)]
        kinds[f"layers, {figure}"] = [e for _, f, _, e in found if f == figure]
    families = defaultdict(list)
    for _, figure, name, error in found:
        families[f"{name}, {figure}"].append(error)
    lines = [*HEAD, *(_line(name, errors) for name, errors in kinds.items())]
    lines += ["", "Each family, left out as a whole (both chips):", "", *HEAD]
    lines += [_line(name, families[name]) for name in sorted(families)]
    return kinds, lines


def _errors(predictor: Predictor, cases: Iterator[Case]) -> List[Tuple[str, str, float]]:
    """(network, what, error) with the constants as they are."""
    return [
        (name, what, predictor.predict(config).images_per_second / published - 1)
        for name, what, config, published in cases
    ]


def networks_part(
    predictor: Predictor, configs: Sequence[Dict[str, str]]
) -> Tuple[Dict[str, List[float]], List[str]]:
    """(errors by kind, lines of the table) of published throughput."""
    rows = {row["id"]: row for row in configs}
    near = Rates.of(predictor, rows)
    predictor.forget_reports()
    aside = _errors(predictor, throughput_cases(rows, fitted=False))
    rates = list(leave_one_network_out(near))
    kinds = {
        "networks, images per second, left out of the fit one at a time": [e for _, _, e in rates],
        "networks, images per second, never fitted to": [e for _, _, e in aside],
        "networks, images per second": [e for _, _, e in rates + aside],
    }
    lines = [*HEAD, *(_line(name, errors) for name, errors in kinds.items())]
    lines += ["", "| network left out | run | error |", "|---|---|---|"]
    lines += [f"| {name} | {what} | {error:+.1%} |" for name, what, error in rates]
    lines += ["", "| network never fitted to | run | error |", "|---|---|---|"]
    lines += [f"| {name} | {what} | {error:+.1%} |" for name, what, error in aside]
    lines += ["", "| constant | in use | fitted to all networks but those |", "|---|---|---|"]
    everything = np.exp(near.fitted(np.ones(len(rates), dtype=bool)))
    for name, factor in zip(near.names, everything):
        here = float(getattr(k, name))
        lines.append(f"| {name} | {here:.4g} | {here * factor:.4g} |")
    return kinds, lines


def rates_part(
    predictor: Predictor, configs: Sequence[Dict[str, str]]
) -> Tuple[Dict[str, List[float]], List[str]]:
    """As ``networks_part`` with the constants as they are, most of which saw most of the runs they were fitted to."""
    rows = {row["id"]: row for row in configs}
    seen, aside = (_errors(predictor, throughput_cases(rows, fitted)) for fitted in (True, False))
    kinds = {"networks, images per second, constants as fitted": [e for _, _, e in seen]}
    lines = [*HEAD, *(_line(name, errors) for name, errors in kinds.items())]
    lines += ["", "| network | run | error | |", "|---|---|---|---|"]
    lines += [f"| {name} | {what} | {error:+.1%} | |" for name, what, error in seen]
    lines += [f"| {name} | {what} | {error:+.1%} | nothing was fitted to it |" for name, what, error in aside]
    return kinds, lines


def fits_part(
    predictor: Predictor, configs: Sequence[Dict[str, str]], further: Sequence[Dict[str, str]]
) -> Tuple[Dict[str, List[float]], List[str]]:
    """The table of runs that fitted: how many are refused, and how many are let through far beyond."""
    lines = [
        "| runs that fitted | supported | refused | let through at eight times the batch |",
        "|---|---|---|---|",
    ]
    for title, rows in (
        (
            "of the survey, one of each memory class",
            list({row["memory_class"]: row for row in configs}.values()),
        ),
        ("further, seen", [row for row in further if row["kept_aside"] == "no"]),
        ("further, kept aside", [row for row in further if row["kept_aside"] == "yes"]),
    ):
        rows = [row for row in rows if row["fits"] == "yes"]
        known = [(i, a, b) for i, _, a, b in fits(predictor, rows) if a == a]
        refused = [f"{i} {a:.2f}" for i, a, _ in known if a > 1]
        through = [f"{i} {b:.2f}" for i, _, b in known if b <= 1]
        lines.append(
            f"| {title}: {len(rows)} | {len(known)} | {len(refused)} {', '.join(refused)} | "
            f"{len(through)} {', '.join(through)} |"
        )
    return {}, lines


def _read(path: str) -> List[Dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("layers")
    parser.add_argument("configs")
    parser.add_argument("--output", required=True, help="folder for the tables")
    parts = ["layers", "rates", "networks", "fits"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    configs, further, predictor = _read(options.configs), _read(str(FURTHER)), Predictor(network)
    ranges = folder / "validation.csv"
    table = {row["what"]: row for row in _read(str(ranges))} if ranges.exists() else {}
    for part in options.parts:
        if part == "layers":
            kinds, lines = layers_part(_read(options.layers))
        elif part == "rates":
            kinds, lines = rates_part(predictor, [*configs, *further])
        elif part == "networks":
            kinds, lines = networks_part(predictor, [*configs, *further])
        else:
            kinds, lines = fits_part(predictor, configs, further)
        for what, errors in kinds.items():
            values = [what, *(round(value, 4) for value in summary(errors))]
            table[what] = dict(zip(COLUMNS, values))
        text = "\n".join(lines) + "\n"
        (folder / f"validation_{part}.md").write_text(text)
        print(text, flush=True)
    with open(ranges, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table.values())
    return 0


COLUMNS = ["what", "number", "median", "ninety_per_cent_within", "largest"]


if __name__ == "__main__":
    sys.exit(main())
