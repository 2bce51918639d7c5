"""What a sweep reports of each point: flat numbers with their units in the names."""

from typing import Any, Dict, List, Optional

from .points import Point
from .predicting import Answer

Record = Dict[str, Any]


def record(point: Point, answer: Answer) -> Record:
    """One point as plain values. Bytes are of one IPU; ``ipus`` has all of a replica, the fullest one is on top."""
    config = point.resolved.config
    found: Record = {
        "norm": point.norm,
        "settings": dict(point.settings),
        "micro_batch_size": point.micro_batch_size,
        "gradient_accumulation": config.training.gradient_accumulation,
        "replicas": config.training.replicas,
        "global_batch_size": config.global_batch_size,
        "keeps_global_batch": not point.note,
        "note": point.note,
        "ipus_per_replica": config.ipus_per_replica,
    }
    if answer.report is None:
        return {**found, "fits": False, "error": answer.error}
    # those of the plan: how many pipeline_splits: auto takes is found with it
    return {**found, "ipus_per_replica": len(answer.report["ipus"]), **_costs(answer.report)}


def _costs(report: Dict[str, Any]) -> Record:
    ipus = [_ipu(ipu) for ipu in report["ipus"]]
    fullest = max(ipus, key=lambda ipu: ipu["worst_tile_bytes"])
    return {
        "fits": report["fits"],
        "total_bytes": fullest["total_bytes"],
        "worst_tile_bytes": fullest["worst_tile_bytes"],
        "bytes_per_tile": report["bytes_per_tile"],
        "tiles": report["tiles"],
        "categories_bytes": fullest["categories_bytes"],
        "worst_tile_categories_bytes": fullest["worst_tile_categories_bytes"],
        "cycles": report["cycles"],
        "cycles_per_image_per_ipu": report["cycles_per_image_per_ipu"],
        "images_per_second": report["images_per_second"],
        "ipus": ipus,
    }


def _ipu(ipu: Dict[str, Any]) -> Record:
    """The worst tile holds each category in the share that the IPU does: the model spreads them evenly."""
    categories = ipu["categories_bytes"]
    worst, total = ipu["worst_tile_bytes"], max(1, ipu["total_bytes"])
    return {
        "ipu": ipu["ipu"],
        "fits": ipu["fits"],
        "total_bytes": ipu["total_bytes"],
        "worst_tile_bytes": worst,
        "categories_bytes": categories,
        "worst_tile_categories_bytes": apportion(
            {name: size / total for name, size in categories.items()}, worst
        ),
        "cycles": ipu["cycles"],
    }


def apportion(shares: Dict[str, float], whole: int) -> Dict[str, int]:
    """Whole numbers in the given shares that sum to ``whole`` exactly (largest remainders)."""
    parts = {name: int(share * whole) for name, share in shares.items()}
    rests = sorted(shares, key=lambda name: parts[name] - shares[name] * whole)
    for name in rests[: whole - sum(parts.values())]:
        parts[name] += 1
    return parts


def used_share(answer: Answer) -> float:
    """Worst tile over what a tile has, of the fullest IPU; infinite where there is no prediction."""
    if answer.report is None:
        return float("inf")
    return answer.report["worst_tile_bytes"] / answer.report["bytes_per_tile"]


def predicted(records: List[Record]) -> List[Record]:
    return [one for one in records if "total_bytes" in one]


def find(records: List[Record], norm: str, settings: Dict[str, str], size: int) -> Optional[Record]:
    """The predicted point at these coordinates."""
    for one in predicted(records):
        if (one["norm"], one["settings"], one["micro_batch_size"]) == (norm, settings, size):
            return one
    return None
