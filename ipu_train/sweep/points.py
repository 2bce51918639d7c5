"""The points of a sweep: norm x micro-batch size x further settings, at one global batch size.

The micro-batch changes what must be in memory at once; gradient accumulation makes up for it, so that every point makes
the same weight updates from the same number of images.
"""

import itertools
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..config import ConfigError, Resolved, nearest
from ..config.network import ModelConfig
from ..models import norm_names, takes_norms
from ..planning import check_filled
from .errors import SweepError

# Set by the sweep itself.
_OWN = {
    "model.norm": "--norms",
    "model.proxy_norm": "--norms, such as group+pn",
    "training.micro_batch_size": "--micro-batch-sizes",
    "training.gradient_accumulation": "nothing: it follows from the global batch size",
}
WITH_PROXY_NORM = "+pn"
_USUAL_SIZES = (1, 2, 4, 8, 16, 32)


class Setting(NamedTuple):
    """One key of ``--set`` and its values, as written."""

    path: str
    values: Tuple[str, ...]


class Point(NamedTuple):
    """One configuration of the sweep.

    Attributes:
        norm: name in tables, ``group+pn`` for group norm with Proxy Norm.
        settings: the further settings of this point, path -> value as written.
        resolved: the configuration.
        note: why its global batch size is not that of the sweep; empty when it is.
    """

    norm: str
    settings: Dict[str, str]
    resolved: Resolved
    note: str = ""

    @property
    def micro_batch_size(self) -> int:
        return self.resolved.config.training.micro_batch_size


def series(norm: str, settings: Mapping[str, str]) -> str:
    """Name of what points that differ only in micro-batch size share."""
    return " ".join([norm, *(f"{path}={value}" for path, value in settings.items())])


class Grid(NamedTuple):
    """What is swept over."""

    base: Resolved
    norms: List[str]
    micro_batch_sizes: List[int]
    settings: List[Setting]
    global_batch_size: int


def grid(
    base: Resolved,
    norms: Optional[Sequence[str]] = None,
    micro_batch_sizes: Optional[Sequence[int]] = None,
    settings: Sequence[Setting] = (),
    global_batch_size: Optional[int] = None,
) -> Grid:
    """Fill in what is left out: norms batch, group and group+pn and the configuration's own; sizes 1 to 32.

    A registered network that has its norms itself is swept with these alone.

    Raises:
        SweepError: an unknown norm, a size below 1, or a key that the sweep sets itself.
    """
    for setting in settings:
        if setting.path in _OWN:
            raise SweepError(f"--set {setting.path}: the sweep sets it; use {_OWN[setting.path]}")
    own = norm_of(base)
    usual = ["batch", "group", "group+pn"] if takes_norms(base.config.model.name) else []
    chosen = list(dict.fromkeys(norms if norms else [*usual, own]))
    for norm in chosen:
        _check_norm(norm)
    whole = base.config.global_batch_size if global_batch_size is None else global_batch_size
    most = max(1, whole // base.config.training.replicas)
    if micro_batch_sizes is None:
        sizes = {size for size in _USUAL_SIZES if size <= most} | {base.config.training.micro_batch_size}
    else:
        sizes = set(micro_batch_sizes)
    if not sizes or min(sizes) < 1:
        raise SweepError(f"--micro-batch-sizes: must be whole numbers of at least 1, got {sorted(sizes)}")
    if whole < 1:
        raise SweepError(f"--global-batch-size: must be at least 1, got {whole}")
    return Grid(base, chosen, sorted(sizes), list(settings), whole)


def points(sweep: Grid) -> Tuple[List[Point], List[str]]:
    """All points, in the order of the table: settings, then norms, then micro-batch sizes.

    Returns:
        The points, and one line for each kind of refusal by the configuration (such as mixup in micro-batches of one
        image): those points are left out.

    Raises:
        SweepError: no point can keep the global batch size.
        ConfigError: a setting that the configuration does not take.
    """
    found = []
    left_out: Dict[Tuple[str, int], ConfigError] = {}
    for values in itertools.product(*(setting.values for setting in sweep.settings)):
        chosen = {setting.path: value for setting, value in zip(sweep.settings, values)}
        base = sweep.base.changed([f"{path}={value}" for path, value in chosen.items()])
        for norm in sweep.norms:
            with_norm = change_norm(base, norm)
            for size in sweep.micro_batch_sizes:
                try:
                    resolved, note = at_micro_batch(with_norm, size, sweep.global_batch_size)
                except ConfigError as error:
                    left_out[(norm, size)] = error
                    continue
                found.append(Point(norm, chosen, resolved, note))
    if not found and left_out:
        raise next(iter(left_out.values()))
    if found and all(point.note for point in found):
        raise SweepError(
            f"No micro-batch size of the sweep ({', '.join(map(str, sweep.micro_batch_sizes))}) can make a global "
            f"batch of {sweep.global_batch_size:,} images: {found[0].note}. Choose --micro-batch-sizes that divide "
            "it, or another --global-batch-size."
        )
    sizes: Dict[str, List[int]] = {}
    for (_, size), refusal in left_out.items():
        for problem in refusal.problems:
            known = sizes.setdefault(f"{problem.path}: {problem.message}", [])
            known += [size] if size not in known else []
    return found, [
        f"micro-batch {', '.join(map(str, refused))}: {message}" for message, refused in sizes.items()
    ]


def norm_of(resolved: Resolved) -> str:
    """A configuration's norm as sweeps and tables name it."""
    model = resolved.config.model
    return model.norm + (WITH_PROXY_NORM if model.proxy_norm else "")


def _check_norm(norm: str) -> None:
    plain = norm[: -len(WITH_PROXY_NORM)] if norm.endswith(WITH_PROXY_NORM) else norm
    known = norm_names()
    if plain not in known:
        near = nearest(plain, known)
        hint = f"; did you mean {near}?" if near else "."
        raise SweepError(
            f"--norms: there is no norm {plain!r}{hint} Norms are {', '.join(known)}; {WITH_PROXY_NORM} after one "
            "adds Proxy Norm."
        )


def change_norm(base: Resolved, norm: str) -> Resolved:
    """The configuration with another norm; settings that only its own norm or Proxy Norm reads go back to defaults.

    Raises:
        ConfigError: the norm cannot be had, such as Proxy Norm without a norm.
    """
    proxy = norm.endswith(WITH_PROXY_NORM)
    plain = norm[: -len(WITH_PROXY_NORM)] if proxy else norm
    model = base.config.model
    changes = []
    if plain != model.norm:
        changes.append(f"model.norm={plain}")
        for key in ("norm_groups", "norm_group_size", "norm_replicas"):
            if getattr(model, key, None) is not None:
                changes.append(f"model.{key}=null")
    if changes or proxy != model.proxy_norm:  # said outright: its default depends on the norm
        changes.append(f"model.proxy_norm={'true' if proxy else 'false'}")
    if not proxy:
        changes += _without_proxy_norm(model)
    return base.changed(changes) if changes else base


def _without_proxy_norm(model: ModelConfig) -> List[str]:
    changes = []
    for key, field in ModelConfig.model_fields.items():
        if key.startswith("proxy_norm_") and getattr(model, key) != field.default:
            default = field.default
            changes.append(f"model.{key}={'null' if default is None else default}")
    return changes


def at_micro_batch(base: Resolved, size: int, global_batch_size: int) -> Tuple[Resolved, str]:
    """The configuration at a micro-batch size, with the gradient accumulation that makes the global batch.

    Returns:
        The configuration, and why its global batch is another one: the nearest that can be made is taken then.

    Raises:
        ConfigError: it cannot be had, or leaves a pipeline without enough micro-batches.
    """
    replicas = base.config.training.replicas
    images = size * replicas
    accumulation = max(1, round(global_batch_size / images))
    note = ""
    if accumulation * images != global_batch_size:
        over = (
            f"micro-batch {size} x replicas {replicas} = {images}" if replicas > 1 else f"micro-batch {size}"
        )
        reason = "is already more" if images > global_batch_size else "does not divide it"
        note = f"{over} {reason}; the nearest is {accumulation * images:,}"
    changes = [f"training.micro_batch_size={size}", f"training.gradient_accumulation={accumulation}"]
    resolved = base.changed(changes)
    check_filled(resolved)
    return resolved, note


def parse_settings(texts: Sequence[str]) -> List[Setting]:
    """``section.key=a,b,c``; commas inside brackets do not separate.

    Raises:
        SweepError: no ``=``, no value, or a key given twice.
    """
    found: List[Setting] = []
    for text in texts:
        path, equals, values = text.partition("=")
        parts = [value.strip() for value in _split(values)]
        if not equals or not path.strip() or not all(parts):
            raise SweepError(
                f"--set {text}: is not of the form section.key=a,b,c, such as device.partials=half,float"
            )
        if any(setting.path == path.strip() for setting in found):
            raise SweepError(f"--set {path.strip()}: given twice; give all its values at once")
        found.append(Setting(path.strip(), tuple(dict.fromkeys(parts))))
    return found


def _split(text: str) -> List[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
