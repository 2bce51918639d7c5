"""What a sweep says in words: the saving of batch independence at an equal global batch."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .points import WITH_PROXY_NORM
from .records import Record, predicted
from .running import Series

# Wu and He 2018 (arXiv 1803.08494, table 2): with 16 images Batch Norm trains ResNet-50 as with 32 (error 23.7 against
# 23.6 %), with 8 it loses 1.2 and with 2 eleven points; Group Norm is the same from 32 down to 2.
BATCH_NORM_NEEDS = 16
_SHORT = {
    "batch": "BN",
    "sync_batch": "SyncBN",
    "group": "GN",
    "layer": "LN",
    "instance": "IN",
    "none": "no norm",
}


class Equal(NamedTuple):
    """A norm beside Batch Norm at each micro-batch size that both were swept at, and one global batch.

    Attributes:
        memory, speed: least and largest of the norm's bytes and images/s over Batch Norm's.
    """

    memory: Tuple[float, float]
    speed: Tuple[float, float]

    @property
    def words(self) -> str:
        return f"{_from_to(self.memory)} the memory of BN and makes {_from_to(self.speed)} its images/s"

    def to_json(self) -> Dict[str, Any]:
        return {
            "memory_ratios": [round(ratio, 3) for ratio in self.memory],
            "images_per_second_ratios": [round(ratio, 3) for ratio in self.speed],
        }


class Saving(NamedTuple):
    """Two points of one global batch: Batch Norm at a micro-batch that it needs, another norm at a small one.

    Attributes:
        words, headline: in a line each; both name what the small micro-batch costs in images/s.
        ratio: Batch Norm's bytes over the other norm's.
        equal: the same two norms at equal micro-batches, where nothing but the norm differs.
    """

    words: str
    headline: str
    ratio: float
    batch_norm: Dict[str, Any]
    other: Dict[str, Any]
    equal: Optional[Equal] = None

    @property
    def like_with_like(self) -> str:
        """What the norms alone make of it; empty where no micro-batch size was swept with both."""
        return (
            f"At equal micro-batches {short(self.other['norm'])} needs {self.equal.words}"
            if self.equal
            else ""
        )

    def to_json(self) -> Dict[str, Any]:
        return {
            "words": self.words,
            "memory_ratio": round(self.ratio, 3),
            "images_per_second_ratio": round(
                self.other["images_per_second"] / self.batch_norm["images_per_second"], 3
            ),
            "from": self.batch_norm,
            "to": self.other,
            "at_equal_micro_batches": self.equal.to_json() if self.equal else None,
        }


def short(norm: str) -> str:
    """``GN + PN`` for ``group+pn``."""
    plain = norm[: -len(WITH_PROXY_NORM)] if norm.endswith(WITH_PROXY_NORM) else norm
    return _SHORT.get(plain, plain) + (" + PN" if plain != norm else "")


def savings(records: List[Record], own_size: Optional[int] = None) -> List[Saving]:
    """For each batch-independent norm: its smallest micro-batch, and ``own_size``, against Batch Norm at what it needs.

    Only points that keep the global batch are compared. Empty where Batch Norm, or every other norm, is not in the
    sweep. Batch Norm's point is the swept micro-batch nearest to 16 images from below, or the largest.
    """
    found = []
    usable = [one for one in predicted(records) if one["keeps_global_batch"]]
    for settings in _distinct([one["settings"] for one in usable]):
        here = [one for one in usable if one["settings"] == settings]
        reference = _reference([one for one in here if one["norm"] == "batch"])
        if reference is None:
            continue
        for norm in _distinct(
            [one["norm"] for one in here if not one["norm"].startswith(("batch", "sync_batch"))]
        ):
            smaller = [
                one for one in here if one["norm"] == norm and one["micro_batch_size"] < _size(reference)
            ]
            equal = _equal(here, norm)
            for size in sorted({min(map(_size, smaller)), own_size or 0}) if smaller else ():
                found += [_saving(reference, one, equal) for one in smaller if _size(one) == size]
    return found


def equal_micro_batches(said: Sequence[Saving]) -> List[str]:
    """One line for each norm that was swept beside Batch Norm."""
    return list(dict.fromkeys(saving.like_with_like + "." for saving in said if saving.equal))


def _equal(points: List[Record], norm: str) -> Optional[Equal]:
    batch_norm = {_size(one): one for one in points if one["norm"] == "batch"}
    pairs = [
        (one, batch_norm[_size(one)]) for one in points if one["norm"] == norm and _size(one) in batch_norm
    ]
    if not pairs:
        return None
    memory = [one["total_bytes"] / other["total_bytes"] for one, other in pairs]
    speed = [one["images_per_second"] / other["images_per_second"] for one, other in pairs]
    return Equal((min(memory), max(memory)), (min(speed), max(speed)))


def _from_to(ratios: Tuple[float, float]) -> str:
    least, most = (f"{ratio:.2f}" for ratio in ratios)
    return f"{least}x" if least == most else f"{least} to {most}x"


def _saving(reference: Record, other: Record, equal: Optional[Equal]) -> Saving:
    ratio = reference["total_bytes"] / other["total_bytes"]
    compared = f"{ratio:.1f}x less" if ratio >= 1 else f"{1 / ratio:.1f}x more"
    speed = other["images_per_second"] / reference["images_per_second"]
    words = (
        f"{_place(reference)}: {_megabytes(reference)}; {_place(other)}: {_megabytes(other)}, {compared}, same "
        f"global batch {reference['global_batch_size']:,}, {speed:.2f}x the images/s"
    )
    settings = ", ".join(f"{path}={value}" for path, value in reference["settings"].items())
    keys = ("norm", "micro_batch_size", "total_bytes", "images_per_second", "fits")
    headline = (
        f"{_place(other)} instead of {short(reference['norm'])} at {_size(reference)}: {compared} memory, "
        f"{speed:.2f}x the images/s"
    )
    return Saving(
        words + (f" ({settings})" if settings else ""),
        headline,
        ratio,
        {key: reference[key] for key in keys},
        {key: other[key] for key in keys},
        equal,
    )


def _place(one: Record) -> str:
    return f"{short(one['norm'])} at micro-batch {one['micro_batch_size']}"


def _megabytes(one: Record) -> str:
    return f"{one['total_bytes'] / 1e6:,.0f} MB" + ("" if one["fits"] else " (does not fit)")


def _reference(points: List[Record]) -> Optional[Record]:
    if not points:
        return None
    trained = [one for one in points if _size(one) <= BATCH_NORM_NEEDS]
    return max(trained, key=_size) if trained else min(points, key=_size)


def _size(one: Record) -> int:
    return one["micro_batch_size"]


def _distinct(values: List[Any]) -> List[Any]:
    found: List[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def largest_words(all_series: List[Series]) -> List[str]:
    """One line a series: the largest micro-batch that fits."""
    lines = []
    for one in all_series:
        settings = ", ".join(f"{path}={value}" for path, value in one.settings.items())
        name = one.norm + (f" ({settings})" if settings else "")
        if one.largest_micro_batch_size == 0:
            lines.append(f"{name}: not even a micro-batch of 1 fits")
        elif one.limited_by == "configuration":
            lines.append(f"{name}: {one.largest_micro_batch_size}, the most that the configuration takes")
        elif one.limited_by == "memory":
            lines.append(f"{name}: {one.largest_micro_batch_size}")
        else:
            lines.append(f"{name}: {one.largest_micro_batch_size}, all images of a replica's global batch")
    return lines
