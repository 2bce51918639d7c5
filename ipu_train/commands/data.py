"""``ipu-train data``: check a data set before it is trained on, pack it, or measure how fast it is read."""

import argparse
import contextlib
import math
import os
import shlex
from pathlib import Path
from typing import Any, List, Optional

from .. import durable, outputs, places
from ..command_line import Parser
from ..config import text_override

_MOST_SHOWN = 20


class DataCommandError(ValueError):
    """Something that the command cannot do; the message says why."""


def main(arguments: List[str]) -> int:
    """Do what the first word says; gives the exit status: 0, or 2 when ``check`` finds images that cannot be used.

    Raises:
        DataError, DataCommandError: no data set there, or a file that cannot be written.
    """
    # argparse takes no words behind options after the name of an action
    options, rest = parser().parse_known_args(arguments)
    if options.action == "bench" and all("=" in word and not word.startswith("-") for word in rest):
        options.overrides += rest
    elif rest:
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    return options.run(options)


def parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="ipu-train data",
        description="Check a data set before it is trained on, pack it, or measure how fast it is read.\n\n"
        "  ipu-train data check PATH [--manifest FILE] [--train-split NAME] [--validation-split NAME]\n"
        "                          [--transparency error|black|white] [--processes N]\n"
        "  ipu-train data pack PATH --out DIR [--form pixels|files] [--shorter-side N] [--skip] [...]\n"
        "  ipu-train data bench PATH [--config X] [--seconds N] [section.key=value ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions: Any = result.add_subparsers(dest="action", required=True, metavar="check|pack|bench")
    check = actions.add_parser(
        "check",
        help="find everything that cannot be used, and write a manifest",
        description="Decode every image on all cores as training would, name what cannot be used, count what is made "
        "of pictures (turned upright, scaled from 16 bits, ...), find the same file in two classes or parts, and write "
        "a manifest: one JSON object a line with file, size, SHA-256, shape and problem. Where an earlier check has "
        "left one, files that are new, gone or have changed are named.",
    )
    check.add_argument("path", type=Path, metavar="PATH", help="the folder that data.path names")
    check.add_argument(
        "--manifest",
        type=outputs.place,
        metavar="FILE",
        help="where to write it; default: PATH/manifest.jsonl (-: standard output)",
    )
    check.add_argument("--processes", type=_count, metavar="N", help="processes; default: one a core")
    check.add_argument(
        "--transparency",
        choices=["error", "black", "white"],
        default="error",
        help="data.transparency (default error)",
    )
    _split_arguments(check)
    check.set_defaults(run=_check)
    pack = actions.add_parser(
        "pack",
        help="write a data set in one file that is mapped into memory",
        description="Decode every image once and write their pixels behind each other (data.name: packed), so that "
        "training decodes nothing. Images keep their size, and training sees the very same pixels, unless "
        "--shorter-side makes larger ones smaller. --form files keeps image files instead, which takes less room.",
    )
    pack.add_argument("path", type=Path, metavar="PATH", help="the folder that data.path names")
    pack.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    pack.add_argument(
        "--form", choices=["pixels", "files"], default="pixels", help="decoded (default), or as image files"
    )
    pack.add_argument(
        "--shorter-side",
        type=_side,
        metavar="N",
        help="side in pixels that larger images get, such as 256",
    )
    pack.add_argument("--skip", action="store_true", help="leave out what cannot be used")
    pack.add_argument("--processes", type=_count, metavar="N", help="processes; default: one a core")
    pack.add_argument(
        "--transparency",
        choices=["error", "black", "white"],
        default="error",
        help="data.transparency (default error)",
    )
    _split_arguments(pack)
    pack.set_defaults(run=_pack)
    bench = actions.add_parser(
        "bench",
        help="images per second of one core, and whether they feed the device",
        description="Prepare training images on one core as training would, and print images per second and what "
        "reading, decoding and the rest cost. With --config the plan's images per second tell how many data.workers "
        "feed the device.",
    )
    bench.add_argument("path", type=Path, metavar="PATH", help="the folder that data.path names")
    bench.add_argument("--config", metavar="X", help="a YAML file or a recipe that the images are for")
    bench.add_argument(
        "--seconds", type=_count, default=10, metavar="N", help="seconds to measure for (default 10)"
    )
    bench.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="changes, such as data.image_size=224",
    )
    bench.set_defaults(run=_bench)
    return result


def _split_arguments(action: argparse.ArgumentParser) -> None:
    for name in ("train", "validation"):
        words = f"data.{name}_split; the usual names are looked for if left out"
        action.add_argument(f"--{name}-split", metavar="NAME", help=words)


def _side(text: str) -> int:
    if not text.isdigit() or not 16 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"must be a whole number from 16 to 4096; got {text}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 1024; got {text}")
    return int(text)


def _check(options: argparse.Namespace) -> int:
    with contextlib.redirect_stdout(outputs.words(options.manifest)):
        return _checked(options)


def _checked(options: argparse.Namespace) -> int:
    root = _folder(options.path)
    manifest = _manifest(options, root)

    from ..data import check
    from ..data import manifest as manifests
    from ..data.pixels import Rules

    parts = check.open_parts(root, options.train_split, options.validation_split)
    records = check.examine_all(parts, Rules(options.transparency), options.processes)
    found = check.find(parts, list(records))
    kept = options.manifest or root / manifests.NAME
    before = None if durable.is_no_file(kept) else manifests.read(kept)
    if manifest is not None:
        manifests.write(manifest, found)
    counts = ", ".join(f"{part.name} {len(part.files.labels):,}" for part in parts)
    print(f"{root}: {len(found.records):,} images in {len(parts[0].files.class_names):,} classes ({counts})")
    for note, count in sorted(found.notes.items(), key=lambda item: -item[1]):
        print(f"  {count:>9,}  {note}")
    if before is not None:
        _list("changed since the last check", manifests.changes(before, found.records))
    _list("in doubt", found.doubts)
    _list("not usable", found.problems)
    if not found.problems:
        print("every image can be used")
    print(f"manifest  {manifest or 'not written, the folder is read-only: name a file with --manifest'}")
    return 2 if found.problems else 0


def _pack(options: argparse.Namespace) -> int:
    root, out = _folder(options.path), Path(os.path.expanduser(options.out))
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise DataCommandError(f"--out {out}: is there already; name a new folder")
    why = places.unwritable(out)
    if why is not None:
        raise DataCommandError(f"--out {out}: {why}")

    from ..data import check, pack
    from ..data.errors import DataError
    from ..data.pixels import Rules

    skipped: List[str] = []

    def problem(error: DataError) -> None:
        if not options.skip:
            raise DataError(f"{error}. Nothing is packed; --skip leaves such images out")
        skipped.append(str(error))

    parts = check.open_parts(root, options.train_split, options.validation_split)
    how = pack.Packing(options.form, options.shorter_side, Rules(options.transparency))
    written = pack.pack(parts, out, how, problem, options.processes)
    for name, part in written.items():
        print(f"{name}  {part['images']:,} images, {part['bytes'] / 1e9:,.2f} GB")
    _list("left out", skipped)
    words = ["data.name=packed", text_override("data.path", str(out))]
    if options.form == "files" and options.transparency != "error":  # the files keep their bytes
        words.append(f"data.transparency={options.transparency}")
    print(f"Train on it with: ipu-train --config X {' '.join(map(shlex.quote, words))}")
    return 0


# What is measured where no configuration says otherwise.
_USUAL = """
model: {name: resnet50}
data: {name: imagefolder, path: ".", augment: random_resized_crop, image_size: 224}
"""


def _bench(options: argparse.Namespace) -> int:
    from ..config import load, load_text

    root = _folder(options.path)
    own = [f"data.name={places.source_name(root)}", text_override("data.path", str(root)), "data.cache=false"]
    if options.config is None:
        resolved = load_text(_USUAL, Path("bench"), [*own, *options.overrides])
    else:
        resolved = load(options.config, [*own, *options.overrides])

    from .. import planning
    from ..data import training_images
    from ..data.bench import measure

    data = resolved.config.data
    images = training_images(data, resolved.config.training.seed)
    speed = measure(images, options.seconds)
    print(
        f"{root}: {data.name}, {len(images):,} training images at {data.side} x {data.side}, augment {data.augment}"
        + (", none kept in memory (data.cache=false)" if data.cache is False else "")
    )
    previous = 0.0
    for what in speed.rounds:
        name = {"all": "cropping, resizing, augmenting"}.get(what, what) if len(speed.rounds) > 1 else "all"
        print(f"  {name:<32} {max(speed.median(what) - previous, 0.0):8.3f} ms an image")
        previous = speed.median(what)
    times = speed.rounds["all"]
    print(
        f"one core: {speed.images_per_second:,.0f} images/s ({1e3 / max(times):,.0f} to {1e3 / min(times):,.0f} in "
        f"{len(times)} rounds, {speed.images:,} images; {speed.waiting:.0%} of the time spent waiting)"
    )
    if options.config is not None:
        needed = planning.predict(resolved).images_per_second
        cores = math.ceil(needed / speed.images_per_second)
        have = os.cpu_count() or 1
        feeds = "feed" if cores <= have else "do not feed"
        print(
            f"the plan takes {needed:,.0f} images/s: {cores:,} cores (data.workers={cores}); the {have} cores of this "
            f"machine {feeds} it"
        )
    return 0


def _folder(path: Path) -> Path:
    """The folder of a data set, with something in it that can be one.

    Raises:
        DataCommandError: it is not there, cannot be read, or holds no images of any form.
    """
    root = Path(os.path.expanduser(path))
    why = places.without_images(root)
    if why is not None:
        raise DataCommandError(f"{path}: {why}")
    return root


def _list(what: str, lines: List[str]) -> None:
    if lines:
        print(f"{what}: {len(lines):,}")
        for line in lines[:_MOST_SHOWN]:
            print(f"  {line}")
        if len(lines) > _MOST_SHOWN:
            print(f"  and {len(lines) - _MOST_SHOWN:,} more in the manifest")


def _manifest(options: argparse.Namespace, root: Path) -> Optional[Path]:
    """Where the manifest goes; None: nowhere, because the data set's folder is read-only.

    Raises:
        DataCommandError: a file that was asked for cannot be written.
    """
    manifest: Path = options.manifest or root / "manifest.jsonl"
    if durable.is_no_file(manifest):  # such as /dev/null
        return manifest
    folder = manifest.absolute().parent
    if not manifest.is_dir() and folder.is_dir() and _takes_files(folder):
        return manifest
    if options.manifest is None:
        return None
    raise DataCommandError(f"--manifest {manifest}: must be a file in a folder that can be written to")


def _takes_files(folder: Path) -> bool:
    # the superuser may write anywhere, and a folder without any right to write is meant to stay as it is
    return durable.refusal(folder) is None and bool(folder.stat().st_mode & 0o222)
