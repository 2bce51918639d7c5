"""Networks of the user's own, under names that stand beside those of the zoo. Imports no torch.

A network is made by a function::

    def build(num_classes: int, in_channels: int, norms: Norms, *, width: float = 1.0) -> nn.Module: ...

* It maps images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``, in the dtype of the images.
* ``norms`` (may be left out) gives norms by their place: ``norms.activated(channels, "relu")`` is norm, activation and
  Proxy Norm; ``norms.before_addition(channels)`` a norm that feeds an addition; ``norms.convolution(in, out, kernel,
  stride, groups)`` a convolution that a norm follows. ``model.norm`` and all that belongs to it then works. A function
  without ``norms`` makes a network of norm none: whatever norms it has are its own affair.
* Keyword-only arguments of type bool, int, float or str are ``model.options``, checked before anything is built.
* It is *planned* by being run once on tensors without values: shapes may depend on shapes, nothing on values.
* Images of a batch may meet (batch statistics by hand): the trainer finds that out, see ``properties.meets_elsewhere``.
* It is *pipelined* at its modules: each that ``device.pipeline_splits`` may name is called once, in one order.
* The last layer is called ``fc``, or by the name that ``classifier`` says, for ``model.new_classifier``.
"""

import inspect
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from .option_kinds import OptionKind
from .zoo import MODELS

_GIVEN = ("num_classes", "in_channels", "norms")


class RegistrationError(ValueError):
    """Something that cannot be registered; the message says why."""


class OwnModel(NamedTuple):
    """One registered network.

    Attributes:
        build: makes it, see above.
        image_size: side in pixels of the images that it is made for.
        classifier: name of its last layer.
        takes_norms: whether ``build`` takes ``norms``.
        options: its options by name.
    """

    build: Callable[..., Any]
    image_size: int
    classifier: str
    takes_norms: bool
    options: Dict[str, OptionKind]


OWN: Dict[str, OwnModel] = {}
_WRAPPERS = {  # by the full names of their classes: torch is not imported here
    "torch.jit._script.ScriptModule": "torch.jit has compiled",
    "torch._dynamo.eval_frame.OptimizedModule": "torch.compile has compiled",
    "torch.nn.parallel.data_parallel.DataParallel": "DataParallel has wrapped",
    "torch.nn.parallel.distributed.DistributedDataParallel": "DistributedDataParallel has wrapped",
}


def register_model(
    name: str,
    build: Optional[Callable[..., Any]] = None,
    *,
    image_size: int = 224,
    classifier: str = "fc",
) -> Callable[..., Any]:
    """Make a network known as ``model.name: NAME``; also as a decorator, ``@register_model("mine", image_size=32)``.

    Args:
        name: of the model; registering a name again replaces it.
        build: makes the network, see the head of this file.
        image_size: side in pixels of the images that it is made for.
        classifier: name of its last layer.

    Returns:
        ``build``.

    Raises:
        RegistrationError: the name of a model of ipu-train, or a function with other arguments.
    """
    if name in MODELS:
        raise RegistrationError(f"ipu-train has a model {name} itself; register yours under another name")
    if not name or name != name.strip():
        raise RegistrationError(f"a model needs a name without spaces around it, got {name!r}")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        takes_norms, options = _signature(name, function)
        OWN[name] = OwnModel(function, image_size, classifier, takes_norms, options)
        return function

    return register if build is None else register(build)


def _signature(name: str, function: Callable[..., Any]) -> Tuple[bool, Dict[str, OptionKind]]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"model {name}: {function!r} is no function that makes a network") from error
    for needed in _GIVEN[:2]:
        if needed not in parameters:
            raise RegistrationError(
                f"model {name}: the function that makes it must take {needed}; it takes "
                f"{', '.join(parameters) or 'nothing'}"
            )
    options = {}
    for key, parameter in parameters.items():
        if key in _GIVEN:
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY:
            raise RegistrationError(f"model {name}: {key} must be keyword-only (after a *), as options are")
        options[key] = _option(name, key, parameter)
    return "norms" in parameters, options


def _option(name: str, key: str, parameter: inspect.Parameter) -> OptionKind:
    annotation = parameter.annotation
    kind = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if kind not in ("bool", "int", "float", "str") or parameter.default is parameter.empty:
        raise RegistrationError(
            f"model {name}: the option {key} needs a type (bool, int, float or str) and a default value"
        )
    return OptionKind(key, kind, parameter.default, False)


def build_own(name: str, num_classes: int, in_channels: int, norms: Any, options: Dict[str, Any]) -> Any:
    """The registered network in float32, as those of the zoo are made; ``norms`` where it takes them.

    Raises:
        ValueError: what the function made is no network or no plain one, or has parameters that wait for a first batch.
    """
    own = OWN[name]
    given: Dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels}
    if own.takes_norms:
        given["norms"] = norms
    network = own.build(**given, **options)
    if not (hasattr(network, "named_parameters") and callable(getattr(network, "forward", None))):
        raise ValueError(f"model {name}: its function must return an nn.Module, not {type(network).__name__}")
    wrapped = [words for one in network.modules() for words in [_wrapper(one)] if words]
    if wrapped:
        raise ValueError(
            f"model {name}: has a module that {wrapped[0]}, and PopTorch compiles plain modules alone; use the module "
            "itself"
        )
    unknown = [key for key, one in network.named_parameters() if hasattr(one, "materialize")]
    if unknown:
        raise ValueError(
            f"model {name}: {', '.join(unknown)} get their shapes from a first batch; say how many features go in "
            "(Conv2d for LazyConv2d, Linear for LazyLinear)"
        )
    return network.float()


def _wrapper(module: Any) -> Optional[str]:
    """What was made of a module that is no plain one any more, to follow "that"; None: nothing."""
    kinds = {base.__module__ + "." + base.__name__ for base in type(module).__mro__}
    return next((words for kind, words in _WRAPPERS.items() if kind in kinds), None)
