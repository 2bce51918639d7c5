"""Results of a run as text."""

from typing import Any, Iterable, List, Optional, Sequence

from .metrics import TRAIN, VALIDATION, Record
from .patience import score


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as their widest entry; the first is set left, the others right. A row is a line."""
    lines = [[shown(str(cell)) for cell in row] for row in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def form(line: List[str]) -> str:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        )
        return "  ".join([first, *others]).rstrip()

    return "\n".join([form(lines[0]), "  ".join("-" * width for width in widths), *map(form, lines[1:])])


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
        _number(record.get("images_per_second"), ",.0f"),
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
    for key, form in (("loss", ".4f"), ("accuracy", ".2%"), ("images_per_second", ",.0f")):
        if record.get(key) is not None:
            name = key if key != "images_per_second" else "images/s"
            parts.append(f"{name} {record[key]:{form}}")
    return "  ".join(parts)
