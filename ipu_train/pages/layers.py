"""One row for each layer of an IPU: cycles by phase, bytes, and how its convolution was planned."""

from typing import Any, Dict, List, Tuple

from ..ipumodel import constants as k
from ..ipumodel.convolution.plan import AXES, ConvPlan, plan_pass
from ..ipumodel.estimators import conv_params_of, matmul_params_of
from ..ipumodel.planner import plan_options
from ..ipumodel.program import PARAMETER, Operation, Program
from ..ipumodel.report import IpuReport, Report
from ..ipumodel.schedule import BACKWARD, RECOMPUTE
from ..ipumodel.settings import OPTIMIZERS

_CYCLES = {BACKWARD: "backward_cycles", RECOMPUTE: "recompute_cycles"}


def layer_rows(report: Report) -> List[Dict[str, Any]]:
    """Rows of all IPUs, in the order of execution; their cycles sum to those of the report."""
    proportions = report.settings.proportions(len(report.ipus))
    return [
        row for ipu, proportion in zip(report.ipus, proportions) for row in _rows_of(report, ipu, proportion)
    ]


def _rows_of(report: Report, ipu: IpuReport, proportion: float) -> List[Dict[str, Any]]:
    rows: Dict[str, Dict[str, Any]] = {}
    operators: Dict[str, Dict[str, None]] = {}
    plans: Dict[str, Dict[str, None]] = {}
    for step, cost in zip(ipu.schedule.steps, ipu.costs):
        name = step.op.layer
        row = rows.setdefault(name, _empty(ipu.ipu, name))
        row[_CYCLES.get(step.phase, "forward_cycles")] += cost.total_cycles / report.target.program_speedup
        row["temporary_bytes"] = max(row["temporary_bytes"], cost.temporary_bytes)
        operators.setdefault(name, {})[step.op.operator.split("::")[-1]] = None
        if step.op.kind in ("conv", "matmul"):
            text = _plan_of(report, step.op, step.phase == BACKWARD, proportion)
            plans.setdefault(name, {})[text] = None
    for name, (weights, kept) in _bytes_by_layer(report, ipu).items():
        rows[name]["weight_elements"] += weights
        rows[name]["kept_bytes"] += kept
    found = []
    for name, row in rows.items():
        vectors = row["weight_elements"] / report.computing.tiles * 4 / 8
        row["update_cycles"] = k.UPDATE_CYCLES * vectors * (2 + OPTIMIZERS[report.settings.optimizer][0])
        row["operators"] = ", ".join(operators[name])
        row["plan"] = "; ".join(plans.get(name, {}))
        found.append({key: round(value) if isinstance(value, float) else value for key, value in row.items()})
    return found


def _empty(ipu: int, layer: str) -> Dict[str, Any]:
    return {
        "ipu": ipu,
        "layer": layer or "(outside of any module)",
        "operators": "",
        "forward_cycles": 0.0,
        "recompute_cycles": 0.0,
        "backward_cycles": 0.0,
        "update_cycles": 0.0,
        "weight_elements": 0,
        "kept_bytes": 0.0,
        "temporary_bytes": 0.0,
        "plan": "",
    }


def _bytes_by_layer(report: Report, ipu: IpuReport) -> Dict[str, Tuple[int, float]]:
    """Trainable weights that each layer reads first, and bytes of what it makes that the backward pass finds kept."""
    program = report.program
    found: Dict[str, Tuple[int, float]] = {}
    seen = set()
    for op in _operations(program, ipu):
        weights, kept = found.get(op.layer, (0, 0.0))
        for index in op.reads:
            tensor = program.tensors[index]
            if tensor.kind == PARAMETER and tensor.requires_grad and index not in seen:
                seen.add(index)
                weights += tensor.elements
        for index in op.writes:
            if index in ipu.schedule.stored and index not in seen:
                seen.add(index)
                kept += ipu.schedule.stored[index]
        found[op.layer] = (weights, kept)
    return found


def _operations(program: Program, ipu: IpuReport) -> List[Operation]:
    return [op for op in program.forward() if ipu.stage is None or op.stage == ipu.stage]


def _plan_of(report: Report, op: Operation, backward: bool, proportion: float) -> str:
    """``forward amp on 1,440 tiles: oy 4 x co 2`` for each pass of one operation, from the cache."""
    params = conv_params_of(op.attributes) if op.kind == "conv" else matmul_params_of(op.attributes)
    options = plan_options(report.settings, proportion)
    first = 1 if op.operator.endswith("addmm") else 0
    needs_input = len(op.reads) > first and op.reads[first] in op.differentiable
    passes = (["backward"] if needs_input else []) + ["weights"] if backward else ["forward"]
    return "; ".join(
        f"{which} {plan_words(plan_pass(params, which, report.computing, options))}" for which in passes
    )


def plan_words(plan: ConvPlan) -> str:
    """Codelet, tiles and splits of a plan in one line."""
    splits = " x ".join(f"{axis} {parts}" for axis, parts in zip(AXES, plan.splits) if parts > 1)
    serial = f", {plan.serial} times in series" if plan.serial > 1 else ""
    return f"{plan.codelet.method} on {plan.tiles:,} tiles" + (f" ({splits})" if splits else "") + serial
