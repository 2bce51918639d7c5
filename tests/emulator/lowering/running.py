"""Runs one of :mod:`.programs` over whatever PopTorch is given, and says what came of it."""

import math
from typing import Any, Dict, List, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from .programs import DTYPES


class Own(torch.autograd.Function):
    """Rounds, and lets the gradient through."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class OwnUnsupported(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.erfinv()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x, x, x)[0]


class Layer(nn.Module):
    """What the sequences train and infer with."""

    def __init__(self, poptorch: Any) -> None:
        super().__init__()
        self.l = nn.Linear(3, 2)
        self.poptorch = [poptorch]

    def forward(self, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        out = self.l(x)
        return out, self.poptorch[0].identity_loss(out, "mean")


def make_input(dtype: str, shape: List[int]) -> torch.Tensor:
    """Values that no function of the tables minds: between 0.1 and 0.9, or ones."""
    if dtype in ("f", "h", "d", "bf"):
        count = math.prod(shape)
        return torch.linspace(0.1, 0.9, count).reshape(shape).to(DTYPES[dtype])
    return torch.ones(shape, dtype=DTYPES[dtype])


def _model(program: Dict[str, Any], poptorch: Any) -> nn.Module:
    names = {
        "torch": torch, "F": F, "nn": nn, "poptorch": poptorch, "Own": Own, "OwnUnsupported": OwnUnsupported,
        "Attention": Attention,
    }  # fmt: skip
    if program["kind"] == "module":
        return eval(program["forward"], names)
    *statements, result = program["forward"].split("; ")
    body = "".join(f"        {line}\n" for line in statements)
    exec(
        "class Model(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.w = nn.Parameter(torch.full((1,), 0.5))\n"
        "        self.register_buffer('b', torch.zeros(1))\n"
        f"    def forward(self, {', '.join(program['inputs'])}):\n{body}        return {result}\n",
        names,
    )
    return names["Model"]()


def _sequence(program: Dict[str, Any], poptorch: Any) -> Any:
    *statements, result = program["forward"].split("; ")
    model = Layer(poptorch)
    names = {
        "torch": torch, "m": model, "x": make_input("f", [4, 3]),
        "t": poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=0.1)),
        "e": poptorch.inferenceModel(model),
    }  # fmt: skip
    for line in statements:
        exec(line, names)
    return eval(result, names)


def described(result: Any) -> Any:
    """Dtypes and shapes of the tensors in a result; anything else as Python prints it."""
    if isinstance(result, torch.Tensor):
        return [str(result.dtype).split(".")[-1], list(result.shape)]
    if isinstance(result, (tuple, list)):
        return [described(item) for item in result]
    if isinstance(result, dict):
        return {key: described(item) for key, item in result.items()}
    return repr(result)


def outcome(program: Dict[str, Any], poptorch: Any) -> Tuple[str, Any, str]:
    """``accepted`` or ``refused``, the description of the result, and the error."""
    torch.manual_seed(0)
    executor = None
    try:
        if program["kind"] == "sequence":
            return "accepted", described(_sequence(program, poptorch)), ""
        model = _model(program, poptorch)
        inputs = [make_input(*spec) for spec in program["inputs"].values()]
        if program["kind"] == "training":
            executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=0.1))
        else:
            executor = poptorch.inferenceModel(model)
        return "accepted", described(executor(*inputs)), ""
    except Exception as error:
        return "refused", None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        if executor is not None:
            executor.destroy()
