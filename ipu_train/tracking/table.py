"""Results of a run as text."""

import unicodedata
from typing import Any, Iterable, List, Optional, Sequence

from .metrics import TRAIN, VALIDATION, Record
from .patience import score


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as their widest entry; the first is set left, the others right. A row is a line."""
    lines = [[shown(str(cell)) for cell in row] for row in [header, *rows]]
    widths = [max(_columns(line[column]) for line in lines) for column in range(len(header))]

    def form(line: List[str]) -> str:
        gaps = [" " * (width - _columns(cell)) for cell, width in zip(line, widths)]
        first, *others = (
            cell + gap if i == 0 else gap + cell for i, (cell, gap) in enumerate(zip(line, gaps))
        )
        return "  ".join([first, *others]).rstrip()

    return "\n".join([form(lines[0]), "  ".join("-" * width for width in widths), *map(form, lines[1:])])


def _columns(text: str) -> int:
    """Columns of a terminal that printable text takes: two for East Asian wide characters, none for accents that are
    characters of their own (Unicode, annex 11)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def rate(images_per_second: float) -> str:
    """Images per second as text: whole numbers, and below ten with a digit that tells something."""
    return f"{images_per_second:,.0f}" if images_per_second >= 10 else f"{images_per_second:.2g}"


def shown(text: str) -> str:
    """Text in one line: line breaks and bytes that are no text, which names of files may hold, are escaped."""
    if text.isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _number(value: Optional[float], form: str) -> str:
    return "-" if value is None else format(value, form)


def _row(title: str, record: Record) -> List[str]:
    return [
        title,
        _number(record.get("epoch"), "g"),
        _number(record.get("step"), "d"),
        _number(record.get("loss"), ".4f"),
        _number(record.get("accuracy"), ".2%"),
        "-" if record.get("images_per_second") is None else rate(record["images_per_second"]),
    ]


def results(records: Sequence[Record], metric: str = "accuracy") -> str:
    """Last training line, last and best validation of a run, as a table; accuracy in per cent.

    Args:
        records: what ``metrics.jsonl`` holds. The best validation is the earliest of the best.
        metric: by which it is judged, see ``validation.metric``.
    """
    rows = []
    train = [record for record in records if record.get("split") == TRAIN]
    validation = [record for record in records if record.get("split") == VALIDATION]
    if train:
        rows.append(_row("train", train[-1]))
    if validation:
        rows.append(_row("validation", validation[-1]))
        judged = [record for record in validation if score(record, metric) is not None]
        if judged:
            best = max(judged, key=lambda record: score(record, metric) or 0.0)
            rows.append(_row("best validation", best))
    return table(["", "epoch", "step", "loss", "accuracy", "images/s"], rows)


def epoch_line(record: Record, epochs: int) -> str:
    """One record in one line, for a run without a progress bar."""
    parts = [f"epoch {record.get('epoch', 0):g}/{epochs}", f"{record.get('split', '')}"]
    for key, form in (("loss", ".4f"), ("accuracy", ".2%")):
        if record.get(key) is not None:
            parts.append(f"{key} {record[key]:{form}}")
    if record.get("images_per_second") is not None:
        parts.append(f"images/s {rate(record['images_per_second'])}")
    return "  ".join(parts)
