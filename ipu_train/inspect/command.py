"""``ipu-train inspect``: the arguments of its three forms, and what is said at the end."""

import argparse
import contextlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, TextIO

from .. import early_checks, outputs
from ..command_line import Parser
from ..config import Resolved, load, text_override
from ..tracking import tell
from ..tracking.powers import Layer, as_json
from ..tracking.powers_picture import draw_powers
from .errors import InspectError
from .settings import RandomNetSettings, names_of, sizes_of

_USAGE = """ipu-train inspect --config X [--checkpoint C] [--norms N,...] [section.key=value ...]
       ipu-train inspect random-net [--width W] [--depth D] [--norms N,...]
       ipu-train inspect batch-dependence --config X [--norms N,...] [--micro-batch-sizes 2,8,...]"""
_RANDOM_NET_NORMS = "batch,instance,layer,group,layer+pn,group+pn,layer+ws"


def main(arguments: List[str]) -> int:
    """Measure, tell and write; gives the exit status 0.

    Raises:
        InspectError, ConfigError, SweepError: bad input.
    """
    forms: Dict[str, Callable[[List[str]], int]] = {
        "random-net": _random_net,
        "batch-dependence": _batch_dependence,
    }
    first = arguments[0] if arguments else "-"
    if first not in forms and not first.startswith("-") and "=" not in first:
        raise InspectError(
            f"there is no form {first!r}; the forms are --config X, {' and '.join(forms)} (ipu-train inspect --help)"
        )
    return forms[first](arguments[1:]) if first in forms else _network(arguments)


# -- the three forms ---------------------------------------------------------------------------------------------


def _network(arguments: List[str]) -> int:
    parser = _parser(
        "",
        "The four power terms (squared mean and variance of instance means and of instance deviations) of each norm's\n"
        "output before its affine step, over training images, by depth (Labatie et al. 2021). Other forms:\n"
        "random-net, batch-dependence.",
    )
    parser.usage = _USAGE
    _config_arguments(parser)
    _count(parser, "--images", 512, "training images to measure over")
    options = parser.parse_intermixed_args(arguments)
    words = _check_outputs(options)
    bases = _by_norm(options)

    from ..data import open_data
    from . import records
    from .network import inspect_network

    poptorch = _device(bases[0])
    source = open_data(bases[0].config.data, bases[0].config.training.seed)
    layers: List[Layer] = []
    used = 0
    for resolved in bases:
        found, used = inspect_network(resolved, poptorch, source, options.images)
        layers += found
        _say(options, words, records.table(found) + "\n")
    title = f"{bases[0].name}: {bases[0].config.model.name}, {used:,} training images"
    title += f", {options.checkpoint}" if options.checkpoint else ", initial weights"
    if options.json:
        about = {"config": bases[0].name, "model": bases[0].config.model.name, "images": used}
        weights = {"checkpoint": options.checkpoint}
        records.write_json(options.json, {**about, **weights, "layers": as_json(layers)})
    _csv_and_picture(options, layers, lambda: draw_powers(options.plot, layers, title))
    return 0


def _random_net(arguments: List[str]) -> int:
    usual = RandomNetSettings()
    parser = _parser(
        "random-net",
        "The power terms by depth in random networks: 3x3 convolutions with periodic boundaries, a norm, gamma ~\n"
        "N(1, gamma-std^2), beta ~ N(0, beta-std^2), an activation (Labatie et al. 2021, figure 2), beside the\n"
        "mean-field prediction for layer norm. +pn after a norm adds Proxy Norm, +ws standardises weights.",
    )
    parser.add_argument("--norms", default=_RANDOM_NET_NORMS, help=f"default: {_RANDOM_NET_NORMS}")
    _count(parser, "--width", usual.width, "channels of every layer")
    _count(parser, "--depth", usual.depth, "layers")
    _count(parser, "--groups", None, "groups of group norm (default 32)")
    _count(parser, "--group-size", None, "channels of each group of group norm, in place of --groups")
    parser.add_argument("--activation", default=usual.activation, help="default: relu")
    for name, what in (("gamma_std", "of gamma"), ("beta_std", "of beta")):
        _number(parser, name, getattr(usual, name), f"standard deviation {what}", 0.0)
    _number(parser, "norm_eps", usual.norm_eps, "added to the variance inside norms", 1e-12)
    _number(parser, "proxy_norm_eps", usual.proxy_norm_eps, "added to the proxy's variance", 1e-12)
    _count(parser, "--images", usual.images, "noise images of each network")
    _count(parser, "--image-size", usual.image_size, "their side in pixels")
    _count(parser, "--channels", usual.channels, "their channels")
    _count(parser, "--micro-batch-size", None, "images that batch norm sees at once (default: all)")
    _count(parser, "--networks", usual.networks, "random networks that the terms are means over")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the first network (default 0)")
    options = parser.parse_args(arguments)
    words = _check_outputs(options)
    if options.groups and options.group_size:
        raise InspectError("--groups and --group-size say the same in two ways; give one of them")
    norms = names_of(options.norms)

    from . import records
    from .collapse import measured_collapse
    from .random_net import check, inspect_random_net, mean_layers
    from .theory import Rate, predicted_collapse, predicted_rate

    settings = RandomNetSettings(**{name: getattr(options, name) for name in RandomNetSettings._fields})
    for norm in norms:  # what cannot be is refused before the first network is computed
        check(norm, settings)
    poptorch = _emulator_or_sdk()
    spreads = (options.activation, options.gamma_std, options.beta_std)
    layers: List[Layer] = []
    rate: Optional[Rate] = None
    rho = predicted_rate(*spreads)
    for norm in norms:
        networks = inspect_random_net(poptorch, norm, settings)
        layers += mean_layers(networks)
        _say(options, words, records.table(mean_layers(networks)) + "\n")
        if norm == "layer":
            rate, count = measured_collapse(poptorch, settings, networks)
            told = "its channels do not come near collapse"
            if rate is not None:
                told = f"a factor of {rate.value:.4f} ± {rate.error:.4f} a layer ({count} networks)"
            about = "layer norm, 1 - (squared mean of means) near collapse"
            _say(options, words, f"{about}: {told}; theory: {rho:.4f}\n")
    predicted = predicted_collapse(settings.depth, *spreads)
    if options.json:
        theory = {"layer_norm_squared_mean_of_means": predicted, "layer_norm_collapse_rate": rho}
        estimated = {"layer_norm_collapse_rate": rate.value if rate else None}
        estimated["standard_error"] = rate.error if rate else None
        content = {"settings": settings._asdict(), "theory": theory, "estimated": estimated}
        records.write_json(options.json, {**content, "layers": as_json(layers)})
    title = f"random networks of width {settings.width}, {settings.activation}, mean of {settings.networks}"
    shown_theory = predicted if "layer" in norms else None
    _csv_and_picture(options, layers, lambda: draw_powers(options.plot, layers, title, shown_theory))
    return 0


def _batch_dependence(arguments: List[str]) -> int:
    parser = _parser(
        "batch-dependence",
        "How much of the variance of an image's output the other images of its micro-batch make: the same image again\n"
        "and again among random companions, in training mode. Exactly zero for batch-independent norms.",
    )
    _config_arguments(parser)
    parser.add_argument(
        "--micro-batch-sizes",
        default="2,4,8,16,32",
        metavar="2,8,32",
        help="images that stand together (default 2,4,8,16,32)",
    )
    _count(parser, "--images", 16, "images to look at")
    _count(parser, "--draws", 16, "random companions for each of them")
    options = parser.parse_intermixed_args(arguments)
    words = _check_outputs(options)
    sizes = sizes_of(options.micro_batch_sizes)
    if options.draws < 2:
        raise InspectError("--draws: must be at least 2, as one draw has no variance")
    bases = _by_norm(options)

    from ..data import open_data
    from . import records
    from .companions import inspect_companions
    from .picture import draw_dependence

    poptorch = _device(bases[0])
    source = open_data(bases[0].config.data, bases[0].config.training.seed)
    points = []
    _say(options, words, f"{'norm':<14}{'micro-batch':>12}{'variance':>14}{'share':>10}")
    for resolved in bases:
        for size in sizes:
            sized = resolved.changed([f"training.micro_batch_size={size}"])
            points.append(inspect_companions(sized, poptorch, source, size, options.images, options.draws))
            point = points[-1]
            line = f"{point.norm:<14}{size:>12}{point.variance:>14.4g}{100 * point.relative_variance:>9.2f}%"
            _say(options, words, line)
    if options.json:
        content = {"config": bases[0].name, "model": bases[0].config.model.name, "images": options.images}
        rows = [point._asdict() for point in points]
        records.write_json(options.json, {**content, "draws": options.draws, "points": rows})
    title = f"{bases[0].name}: {bases[0].config.model.name}"
    _csv_and_picture(options, points, lambda: draw_dependence(options.plot, points, title))
    return 0


# -- parts -------------------------------------------------------------------------------------------------------


def _parser(form: str, description: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"ipu-train inspect {form}".strip(),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json",
        type=outputs.place,
        metavar="PATH",
        help="write what was measured as JSON (-: standard output)",
    )
    parser.add_argument(
        "--csv", type=outputs.place, metavar="PATH", help="write it as CSV (-: standard output)"
    )
    parser.add_argument("--plot", metavar="PATH", help="draw it (needs matplotlib)")
    return parser


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="X", help="a YAML file, or the name of a recipe")
    parser.add_argument(
        "--checkpoint",
        metavar="C",
        help="weights: a run folder, a checkpoint or a file; default: initial ones",
    )
    parser.add_argument(
        "--norms", metavar="batch,group+pn", help="+pn adds Proxy Norm; default: the configuration's own"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration"
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more; got {text}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 4294967295; got {text}")
    return int(text)


def _count(parser: argparse.ArgumentParser, flag: str, default: Optional[int], what: str) -> None:
    shown = what if default is None else f"{what} (default {default})"
    parser.add_argument(flag, type=_positive, default=default, metavar="N", help=shown)


def _number(parser: argparse.ArgumentParser, name: str, default: float, what: str, least: float) -> None:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= 1e3:
            raise argparse.ArgumentTypeError(f"must be a number from {least:g} to 1000; got {text}")
        return value

    flag = "--" + name.replace("_", "-")
    parser.add_argument(flag, type=number, default=default, metavar="S", help=f"{what} (default {default:g})")


def _by_norm(options: argparse.Namespace) -> List[Resolved]:
    """The configuration with each of the norms, and with the weights of the checkpoint."""
    from .. import planning
    from ..sweep.points import change_norm, grid

    weights = [] if options.checkpoint is None else [text_override("model.weights", options.checkpoint)]
    base = load(options.config, [*options.overrides, *weights])
    if options.norms is None:
        early_checks.check_weights(base)
        return [planning.with_splits(base)]
    names = grid(base, names_of(options.norms), [base.config.training.micro_batch_size]).norms
    changed = [change_norm(base, name) for name in names]
    if options.checkpoint is not None:
        if any(resolved.config.model != base.config.model for resolved in changed):
            raise InspectError(
                "--checkpoint holds the weights of one norm, so --norms cannot change it; inspect each run by itself"
            )
        early_checks.check_weights(base)
    return [planning.with_splits(resolved) for resolved in changed]


def _device(resolved: Resolved) -> Any:
    import torch

    from .. import device

    if resolved.config.device.threads is not None:
        torch.set_num_threads(resolved.config.device.threads)
    poptorch, running_on = device.choose(resolved.config)
    tell(running_on)
    return poptorch


def _emulator_or_sdk() -> Any:
    """PopTorch for programs without a configuration."""
    from ..config import load_text

    text = "model: {name: resnet20}\ndata: {name: synthetic}\n"
    return _device(load_text(text, Path("random-net"), []))


def _check_outputs(options: argparse.Namespace) -> TextIO:
    """Refuse what cannot be written before anything is measured; gives where words go."""
    for option in ("json", "csv"):
        outputs.check(f"--{option}", getattr(options, option), streams=True)
    outputs.check_picture(options.plot)
    return outputs.words(options.json, options.csv)


def _say(options: argparse.Namespace, words: TextIO, text: str) -> None:
    """Words as they come; where a file is asked for as well, it is made though nobody reads them any more."""
    wanted = options.json or options.csv or options.plot
    with outputs.going_on(words) if wanted else contextlib.nullcontext():
        print(text, file=words, flush=True)


def _csv_and_picture(options: argparse.Namespace, rows: Sequence[Any], draw: Callable[[], None]) -> None:
    from . import records

    if options.csv:
        records.write_csv(options.csv, rows)
    if options.plot:
        draw()
    for flag in ("json", "csv", "plot"):
        if getattr(options, flag):
            tell(f"{flag:<8}{getattr(options, flag)}")
