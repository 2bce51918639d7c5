"""What a page holds: a title, and the sections that there is something to show in.

Sections are ``head``, ``plan`` (one prediction in full), ``points`` (many predictions to choose between), ``curves``
(the metrics of a run) and ``words`` (what a sweep says).
"""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from ..config import Resolved
from ..ipumodel import constants as k
from ..ipumodel import ranges
from ..ipumodel.report import Report
from .ipus import ipu_contents
from .layers import layer_rows

# of every point, whatever it comes from
COSTS = ("fits", "total_bytes", "worst_tile_bytes", "bytes_per_tile", "images_per_second", "categories_bytes")

Contents = Dict[str, Any]
Point = Dict[str, Any]


def plan_contents(resolved: Resolved, report: Report, points: Sequence[Point] = ()) -> Contents:
    """A plan, and the predictions of configurations around it."""
    return {**_page(resolved, "plan"), "plan": _plan(report), "points": list(points)}


def run_contents(resolved: Resolved, report: Report, metrics: Sequence[Dict[str, Any]]) -> Contents:
    """A run: its plan and its metrics so far."""
    keys = ("split", "epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second")
    curves = [{key: line[key] for key in keys if key in line} for line in metrics]
    return {**_page(resolved, "run"), "plan": _plan(report), "points": [], "curves": curves}


def sweep_contents(resolved: Resolved, records: Sequence[Dict[str, Any]], words: Sequence[str]) -> Contents:
    """A sweep: its points and what it says of them."""
    points = [
        {
            "choice": {"norm": one["norm"], "micro_batch_size": one["micro_batch_size"], **one["settings"]},
            **_costs(one),
        }
        for one in records
        if "total_bytes" in one
    ]
    return {**_page(resolved, "sweep"), "points": points, "words": list(words)}


def choices_contents(resolved: Resolved, report: Report, choices: Sequence[Dict[str, Any]]) -> Contents:
    """A search: the plan of the best choice, and all that was looked at."""
    return {**_page(resolved, "tune"), "plan": _plan(report), "points": list(choices)}


def point(choice: Dict[str, Any], report: Dict[str, Any], given: bool = False) -> Point:
    """One prediction (``Report.to_json``) as a point to choose; ``given`` marks the configuration itself."""
    fullest = max(report["ipus"], key=lambda ipu: ipu["worst_tile_bytes"])
    costs = {**report, "categories_bytes": fullest["categories_bytes"]}
    return {"choice": choice, "given": given, **_costs(costs)}


def _costs(one: Dict[str, Any]) -> Dict[str, Any]:
    return {key: one[key] for key in COSTS}


def _page(resolved: Resolved, kind: str) -> Contents:
    config = resolved.config
    norm = config.model.norm + (" + Proxy Norm" if config.model.proxy_norm else "")
    head = {
        "model": config.model.name,
        "norm": norm,
        "chip": config.device.chip,
        "precision": config.training.precision,
        "micro-batch": config.training.micro_batch_size,
        "gradient accumulation": config.training.gradient_accumulation,
        "replicas": config.training.replicas,
        "global batch": config.global_batch_size,
    }
    return {
        "title": f"{resolved.name}: {kind}",
        "name": resolved.name,
        "kind": kind,
        "head": head,
        "error_ranges": ranges.shares(),
        "bounds": {"memory": ranges.MEMORY.text, "cycles": ranges.THROUGHPUT.text},
        "published": published_rates(),
    }


def _plan(report: Report) -> Dict[str, Any]:
    whole = report.to_json()
    keys = (
        "target", "micro_batch_size", "gradient_accumulation", "replicas", "schedule", "recompute", "fits", "verdict",
        "total_bytes", "worst_tile_bytes", "bytes_per_tile", "tiles", "cycles", "images_per_second",
        "seconds_per_weight_update", "pipeline_bubble_share",
    )  # fmt: skip
    return {
        **{key: whole[key] for key in keys},
        "worst_tile_share": k.WORST_TILE_SHARE,
        "clock_hz": report.target.clock_hz,
        "ipus": [ipu_contents(report, ipu) for ipu in report.ipus],
        "layers": layer_rows(report),
        "program_speedup": report.target.program_speedup,
    }


def published_rates(path: Optional[Path] = None) -> List[Dict[str, Any]]:
    """Predicted over published images/s of public runs, as recorded in ``scripts/results/ipumodel``."""
    text = (path or Path(__file__).with_name("published_rates.json")).read_text(encoding="utf-8")
    return json.loads(text)
