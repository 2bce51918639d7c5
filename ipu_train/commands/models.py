"""``ipu-train models``: the models and norms there are, and what one network is made of."""

import argparse
from pathlib import Path
from typing import Any, List

from ..command_line import Parser
from ..config import load_text, quoted
from ..config.keys import keys_of

_USAGE = "ipu-train models [show NAME [section.key=value ...] [--image-size N] [--num-classes K]]"


def main(arguments: List[str]) -> int:
    """Print the lists, or the layers of the model after ``show``; gives the exit status 0.

    Raises:
        ConfigError: a model, norm or setting that does not exist, or images that the network does not take.
    """
    options = _parser().parse_intermixed_args(arguments)
    if options.action == "list" and (options.name is not None or options.image_size or options.num_classes):
        _parser().error("list takes no settings; `ipu-train models show NAME` does")
    lines = _show(options) if options.action == "show" else _list()
    print("\n".join(lines))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ipu-train models",
        usage=_USAGE,
        description="List models and norms, or show the layers of one model: shapes, parameters, "
        "multiply-accumulates of a forward pass of one image, and where Proxy Norm sits.",
    )
    parser.add_argument("action", nargs="?", choices=["list", "show"], default="list")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a model, such as resnet50")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="settings of the model, such as model.norm=layer or model.options.width=0.5",
    )
    parser.add_argument(
        "--image-size", type=_count, metavar="N", help="side in pixels; default: the model's own"
    )
    parser.add_argument(
        "--num-classes", type=_count, metavar="K", help="default: 1000, or 10 for models of 32 x 32 images"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more; got {text}")
    return int(text)


def _list() -> List[str]:
    from ..models import NORM_TRAITS, names, native_image_size, norm_names

    lines = ["models (side of the images in pixels)"]
    lines += [f"  {name:<26}{native_image_size(name):>4}" for name in names()]
    lines += ["norms (model.norm)"]
    for norm in norm_names():
        takes = "takes Proxy Norm" if NORM_TRAITS[norm].takes_proxy_norm else "has an activation of its own"
        lines.append(f"  {norm:<14}{takes if norm != 'none' else 'no normalisation'}")
    lines.append("Layers of one model: ipu-train models show NAME")
    return lines


def _show(options: Any) -> List[str]:
    if options.name is None:
        _parser().error("show needs the NAME of a model; `ipu-train models` lists them")
    for override in options.overrides:
        if not override.startswith("model."):
            near = f"; did you mean model.{override}?" if override.split("=")[0] in keys_of("model") else ""
            _parser().error(f"{override} is no setting of the model, and nothing else is shown here{near}")
    text = f"model: {{name: {quoted(options.name)}}}\ndata: {{name: synthetic}}\n"
    resolved = load_text(text, Path("models show"), options.overrides)

    from ..models import describe, names, native_image_size
    from ..network import build_network

    name = resolved.config.model.name
    side = native_image_size(name) if name in names() else 224
    if options.num_classes and resolved.config.model.num_classes:
        _parser().error("--num-classes and model.num_classes say the same; give one of them")
    classes = options.num_classes or (10 if side == 32 else 1000)
    network = build_network(resolved, classes, 3)
    side = options.image_size or side
    try:
        rows = describe(network, side)
    except Exception as error:  # whatever a network makes of images that it cannot take
        reason = (str(error).strip().splitlines() or ["without a word"])[0]
        raise resolved.error(
            "model.name",
            f"the network does not take images of 3 x {side} x {side}: {type(error).__name__}: {reason}; --image-size "
            "names another side",
        ) from error
    cells = [("layer", "kind", "output", "parameters", "MACs", "PN")]
    for row in rows:
        shape = " x ".join(map(str, row.shape))
        macs = f"{row.macs:,}" if row.macs else ""
        cells.append((row.name, row.kind, shape, f"{row.parameters:,}", macs, "PN" if row.proxy_norm else ""))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    macs = sum(row.macs for row in rows)
    total = f"{name} on 3 x {side} x {side}: {parameters:,} parameters, {macs:,} MACs"
    sites = sum(row.proxy_norm for row in rows)
    return [*_columns(cells), f"{total}, Proxy Norm at {sites} of {len(rows)} layers"]


def _columns(rows: List[Any]) -> List[str]:
    """Rows of text in columns; the second and third from the right hold numbers."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        numbers = {len(row) - 2, len(row) - 3}
        parts = [c.rjust(w) if i in numbers else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(parts).rstrip())
    return lines
