"""Matches a call's arguments to ``forward`` and checks later calls against the first.

PopTorch 3.4 fixes number, types, shapes and dtypes of the inputs at compilation; whatever differs afterwards is an
error that names the argument.
"""

import inspect
import warnings
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch

from ._impl import createPoptorchError
from ._logging import logger


class ICustomArgParser:
    """How PopTorch takes apart and rebuilds a user's own type that holds tensors."""

    def yieldTensors(self, struct: Any) -> Iterator[torch.Tensor]:
        """Every tensor of ``struct``, always in the same order."""
        raise createPoptorchError(f"{type(self).__name__} does not define yieldTensors()")

    def reconstruct(self, original_structure: Any, tensor_iterator: Iterator[torch.Tensor]) -> Any:
        """An object like ``original_structure`` with tensors taken from the iterator, in the same order."""
        raise createPoptorchError(f"{type(self).__name__} does not define reconstruct()")


_parsers: Dict[type, ICustomArgParser] = {}


def registerCustomArgParser(arg_data_type: type, arg_parser: Any) -> None:
    """Use ``arg_parser`` for instances of ``arg_data_type``; ``None`` removes it.

    Raises:
        poptorch.Error: ``arg_parser`` is no :class:`ICustomArgParser`.
    """
    if arg_parser is None:
        _parsers.pop(arg_data_type, None)
        return
    if not isinstance(arg_parser, ICustomArgParser):
        raise createPoptorchError(
            "The parser of a custom type must be an instance of poptorch.ICustomArgParser"
        )
    _parsers[arg_data_type] = arg_parser


def registered_parsers() -> Dict[type, ICustomArgParser]:
    """All parsers of custom types, to be handed to another process."""
    return dict(_parsers)


def custom_parser(value: Any) -> Any:
    """The registered parser for a value: its exact type first, then its bases; None without one."""
    exact = _parsers.get(type(value))
    if exact is not None:
        return exact
    return next((parser for kind, parser in _parsers.items() if isinstance(value, kind)), None)


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor of a nested structure, in a fixed order (dictionaries by sorted key text)."""
    if isinstance(value, torch.Tensor):
        yield value
    elif custom_parser(value) is not None:
        yield from custom_parser(value).yieldTensors(value)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_of(item)
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from tensors_of(value[key])


def rebuild(value: Any, tensors: Iterator[torch.Tensor]) -> Any:
    """The same structure with its tensors replaced, in the order of :func:`tensors_of`."""
    if isinstance(value, torch.Tensor):
        return next(tensors)
    if custom_parser(value) is not None:
        return custom_parser(value).reconstruct(value, tensors)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[rebuild(item, tensors) for item in value])
    if isinstance(value, (tuple, list)):
        return type(value)(rebuild(item, tensors) for item in value)
    if isinstance(value, dict):
        replaced = {key: rebuild(value[key], tensors) for key in sorted(value, key=str)}
        same_order = type(value)()
        for key in value:
            same_order[key] = replaced[key]
        return same_order
    return value


class Arguments:
    """One call's arguments by parameter name, in the order of the signature.

    ``variadic`` names the ``*args`` and ``**kwargs`` parameters ("" without), which hold a tuple and a dict.
    """

    def __init__(
        self, values: Dict[str, Any], var_positional: str, var_keyword: str, keyword_only: List[str]
    ) -> None:
        self.values = values
        self.var_positional = var_positional
        self.var_keyword = var_keyword
        self.keyword_only = keyword_only

    def tensors(self) -> List[torch.Tensor]:
        return [tensor for value in self.values.values() for tensor in tensors_of(value)]

    def tensor_names(self) -> List[str]:
        """For each of :meth:`tensors` the parameter of forward that it came with."""
        return [name for name, value in self.values.items() for _ in tensors_of(value)]

    def with_tensors(self, tensors: List[torch.Tensor]) -> "Arguments":
        iterator = iter(tensors)
        values = {name: rebuild(value, iterator) for name, value in self.values.items()}
        return Arguments(values, self.var_positional, self.var_keyword, self.keyword_only)

    def call(self, function: Callable[..., Any]) -> Any:
        """``function`` called with these arguments."""
        positional: List[Any] = []
        keywords: Dict[str, Any] = {}
        for name, value in self.values.items():
            if name == self.var_positional:
                positional.extend(value)
            elif name == self.var_keyword:
                keywords.update(value)
            elif name in self.keyword_only:
                keywords[name] = value
            else:
                positional.append(value)
        return function(*positional, **keywords)


class ArgsParser:
    """Binds calls to the signature of a model's forward."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._warned_dicts = False
        self._parameters = list(inspect.signature(model.forward).parameters.values())
        kinds = {parameter.kind: parameter.name for parameter in self._parameters}
        self._var_positional = kinds.get(inspect.Parameter.VAR_POSITIONAL, "")
        self._var_keyword = kinds.get(inspect.Parameter.VAR_KEYWORD, "")
        self._keyword_only = [p.name for p in self._parameters if p.kind == inspect.Parameter.KEYWORD_ONLY]

    def bind(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Arguments:
        """Match a call, fill in defaults and prepare the tensors (contiguous, without autograd history).

        Raises:
            AssertionError: too many arguments, an unknown keyword, or a parameter given twice.
            poptorch.Error: a mandatory parameter is missing; a tensor has no elements.
        """
        plain = [
            p.name
            for p in self._parameters
            if p.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ]
        assert self._var_positional or len(args) <= len(plain), (
            f"Too many arguments provided: expected at most {len(plain)} ({', '.join(plain)}) but got {len(args)}"
        )
        given = dict(zip(plain, args))
        rest = dict(kwargs)
        values: Dict[str, Any] = {}
        for parameter in self._parameters:
            name = parameter.name
            if name == self._var_positional:
                values[name] = tuple(args[len(plain) :])
            elif name == self._var_keyword:
                continue
            elif name in given:
                assert name not in rest, f"The parameter {name} was provided twice: by position and by name"
                values[name] = given[name]
            elif name in rest:
                values[name] = rest.pop(name)
            elif parameter.default is not inspect.Parameter.empty:
                values[name] = parameter.default
            else:
                raise createPoptorchError(f"Mandatory parameter {name} missing")
        if self._var_keyword:
            values[self._var_keyword] = rest
        else:
            assert not rest, f"Unknown keyword argument(s): {', '.join(sorted(rest))}"
        plain_values = [value for name, value in values.items() if name != self._var_keyword]
        if not self._warned_dicts and _holds_dict(plain_values):
            self._warned_dicts = True
            logger.warning(
                "Dictionaries as inputs are partially supported: the order of their keys must not matter, and their "
                "keys are fixed at compilation."
            )
        bound = Arguments(values, self._var_positional, self._var_keyword, self._keyword_only)
        return bound.with_tensors([_prepare(tensor) for tensor in bound.tensors()])


def _holds_dict(value: Any) -> bool:
    if isinstance(value, dict):
        return True
    return isinstance(value, (tuple, list)) and any(_holds_dict(item) for item in value)


_warned_contiguous = False


def _prepare(tensor: torch.Tensor) -> torch.Tensor:
    global _warned_contiguous
    if tensor.numel() == 0:
        raise createPoptorchError(
            f"Zero-sized tensors are unsupported (Got shape {list(tensor.shape)}): every input needs an element"
        )
    if tensor.is_complex():
        raise createPoptorchError(f"Unsupported input type {tensor.dtype}: the IPU has no complex numbers")
    if tensor.requires_grad:
        logger.warning(
            "Input tensor has requires_grad=True set. This tensor will be detached because backward pass via inputs is "
            "not supported."
        )
        tensor = tensor.detach()
    if not tensor.is_contiguous():
        if not _warned_contiguous:
            _warned_contiguous = True
            logger.warning(
                "At least one input tensor is not contiguous: non-contiguous tensors will be converted."
            )
        tensor = tensor.contiguous()
    return tensor


# -- later calls -------------------------------------------------------------------------------------------------


def validate(expected: Arguments, got: Arguments) -> None:
    """Check a call against the compiled signature.

    Raises:
        poptorch.Error: the first difference found, naming the argument.
        ValueError: a value that is no tensor and cannot be compared.
    """
    for name, value in expected.values.items():
        other = got.values[name]
        if name == expected.var_positional:
            if len(value) != len(other):
                by_name = (name, expected.var_keyword, *expected.keyword_only)
                plain = len([n for n in expected.values if n not in by_name])
                raise createPoptorchError(
                    "Number of positional arguments mismatch: expected "
                    f"{plain + len(value)} arguments but got {plain + len(other)}"
                )
            for i, (item, other_item) in enumerate(zip(value, other)):
                _compare(f"*{name}[{i}]", item, other_item)
        elif name == expected.var_keyword:
            _compare_keys("keyword arguments", value, other)
            for key in value:
                _compare(key, value[key], other[key])
        else:
            _compare(name, value, other)


def _compare_keys(name: str, expected: Dict[Any, Any], got: Dict[Any, Any]) -> None:
    missing = [str(key) for key in expected if key not in got]
    unexpected = [str(key) for key in got if key not in expected]
    if missing or unexpected:
        parts = [f"Keys mismatch for {name}:"]
        parts += [f"Missing arguments: {', '.join(missing)}."] if missing else []
        parts += [f"Unexpected arguments: {', '.join(unexpected)}."] if unexpected else []
        raise createPoptorchError(" ".join(parts))


def _compare(name: str, expected: Any, got: Any) -> None:
    same_kind = isinstance(expected, torch.Tensor) and isinstance(got, torch.Tensor)
    if not same_kind and type(expected) is not type(got):
        raise createPoptorchError(
            f"Type mismatch for {name}: expected {_type_name(expected)} but got {_type_name(got)}"
        )
    if isinstance(expected, torch.Tensor):
        if expected.dtype != got.dtype:
            raise createPoptorchError(
                f"Data type mismatch for {name}: expected {expected.dtype} but got {got.dtype}"
            )
        if expected.shape != got.shape:
            raise createPoptorchError(
                f"Shape mismatch for {name}: expected {expected.shape} but got {got.shape}"
            )
    elif custom_parser(expected) is not None:
        parser = custom_parser(expected)
        pairs = zip(parser.yieldTensors(expected), parser.yieldTensors(got))
        for i, (item, other) in enumerate(pairs):
            _compare(f"{name}[{i}]", item, other)
    elif isinstance(expected, (tuple, list)):
        if len(expected) != len(got):
            raise createPoptorchError(
                f"Length mismatch for {name}: expected {len(expected)} elements but got {len(got)}"
            )
        for i, (item, other) in enumerate(zip(expected, got)):
            _compare(f"{name}[{i}]", item, other)
    elif isinstance(expected, dict):
        _compare_keys(name, expected, got)
        for key in expected:
            _compare(f"{name}[{key}]", expected[key], got[key])
    elif _differ(name, expected, got):
        raise createPoptorchError(f"Value mismatch for {name}: expected {expected} but got {got}")


def _differ(name: str, expected: Any, got: Any) -> bool:
    try:
        return bool(expected != got)
    except Exception as error:  # a numpy array, for one
        raise ValueError(
            f"{name} is a {_type_name(got)}, whose values cannot be compared ({error}). What is no tensor is compiled "
            "in, and compared at every call: pass a tensor, or plain numbers"
        ) from error


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}" if value is not None else "None"


def signature_only(arguments: Arguments) -> Arguments:
    """The same arguments with tensors that hold shapes and dtypes but no memory, for keeping."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return arguments.with_tensors(
            [torch.empty(t.shape, dtype=t.dtype, device="meta") for t in arguments.tensors()]
        )
