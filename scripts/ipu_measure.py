"""The parts of ``scripts/ipu_check.py`` that need PopTorch: what is there, the PopART operator, one recipe.

python scripts/ipu_measure.py environment|operator|recipe NAME [--poptorch sdk|emulator] [--profile FOLDER]
"""

import argparse
import importlib
import sys
from typing import Any, Dict, List, Tuple

import torch
from torch import nn

from ipu_train import config, device, planning
from ipu_train.assembly import assemble, example_batch
from ipu_train.compiling.reports import memory_of
from ipu_train.data import open_data
from ipu_train.kernels.settings import Settings
from ipu_train.models.proxy_norm import ProxyNorm
from ipu_train.planning.images import Images

NOT_RUN = 77
SIZES = (1, 2, 4, 8, 16, 32, 64)
# the operator's float32 sums and float16 results, in units of the expected tensor's root mean square
LARGEST_ERROR = {torch.float32: 1e-3, torch.float16: 2e-2}


def poptorch_of(kind: str) -> Any:
    return importlib.import_module("ipu_train.emulator" if kind == "emulator" else "poptorch")


def environment(poptorch: Any) -> int:
    """Versions, and which numbers of IPUs can be had."""
    print(f"torch {torch.__version__}, PopTorch {poptorch.__version__} from {poptorch.__file__}")
    found = [size for size in SIZES if poptorch.ipuHardwareIsAvailable(size)]
    print(f"IPUs that can be had together: {', '.join(map(str, found)) or 'none'}")
    if found:
        print(f"hardware version: {poptorch.ipuHardwareVersion()}")
    return 0


class Operator(nn.Module):
    """The operator on an input that is a parameter, so that its gradient can be read from a weight update."""

    def __init__(
        self, poptorch: Any, kernel: Any, x: torch.Tensor, parameters: List[torch.Tensor], groups: int
    ):
        super().__init__()
        self.names = ["x", "beta", "gamma", "proxy_beta", "proxy_gamma"]
        for name, tensor in zip(self.names, [x, *parameters]):
            self.register_parameter(name, nn.Parameter(tensor.clone()))
        self.kernel, self.groups, self.identity_loss = kernel, groups, poptorch.identity_loss

    def forward(self, cotangent: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        x, *parameters = (getattr(self, name) for name in self.names)
        y = self.kernel(x, *parameters, Settings(self.groups))
        return self.identity_loss((y.float() * cotangent.view(y.shape)).sum(), "sum"), y


def operator(poptorch: Any) -> int:
    """Outputs and gradients of the PopART operator against plain torch in float64."""
    try:
        kernel = device.popart_kernel(poptorch)
    except device.DeviceError as error:
        print(error)
        return NOT_RUN
    worst = 0.0
    for dtype in (torch.float32, torch.float16):
        generator = torch.Generator().manual_seed(0)
        x = (torch.randn(2, 16, 9, 7, generator=generator) * 1.7 + 0.3).to(dtype)
        parameters = [m + 0.3 * torch.randn(16, generator=generator) for m in (0.0, 1.0, 0.0, 0.0)]
        cotangent = torch.randn(1, x.numel(), generator=generator)
        model = Operator(poptorch, kernel, x, parameters, 4)
        executor = poptorch.trainingModel(
            model, poptorch.Options(), poptorch.optim.SGD(model.parameters(), lr=1.0)
        )
        _, y = executor(cotangent)
        executor.detachFromDevice()
        expected = truth(x, parameters, cotangent, 4)
        compared: List[Tuple[str, torch.Tensor, torch.Tensor]] = [("y", y, expected[0])]
        if dtype == torch.float32:  # a float16 weight is too coarse to read a gradient from
            before = [x, *parameters]
            gradients = [b.double() - p.detach().double() for b, p in zip(before, model.parameters())]
            compared += list(zip((f"d{name}" for name in model.names), gradients, expected[1:]))
        for name, got, wanted in compared:
            scale = wanted.square().mean().sqrt().clamp_min(1e-30)
            error = ((got.double() - wanted).abs().max() / scale).item()
            verdict = "" if error <= LARGEST_ERROR[dtype] else "  TOO LARGE"
            print(f"{dtype!s:14s} {name:12s} largest error / root mean square: {error:.2e}{verdict}")
            worst = max(worst, error / LARGEST_ERROR[dtype])
        executor.destroy()
    return 0 if worst <= 1 else 1


def truth(
    x: torch.Tensor, parameters: List[torch.Tensor], cotangent: torch.Tensor, groups: int
) -> List[torch.Tensor]:
    """y and the gradients of x and the parameters, by torch in float64."""
    leaves = [tensor.double().requires_grad_() for tensor in (x, *parameters)]
    named = dict(zip(("beta", "gamma", "proxy_beta", "proxy_gamma"), leaves[1:]))
    site = ProxyNorm(x.shape[1]).double()
    y = torch.func.functional_call(site, named, (nn.functional.group_norm(leaves[0], groups, eps=1e-5),))
    gradients = torch.autograd.grad((y * cotangent.double().view(y.shape)).sum(), leaves)
    return [y.detach(), *gradients]


def recipe(poptorch: Any, kind: str, name: str, profile: str) -> int:
    """One weight update of one replica: predicted beside measured memory and cycles."""
    resolved = config.load(name, overrides(name, kind))
    resolved = planning.with_splits(resolved)
    poptorch, where = device.choose(resolved.config)
    source = open_data(resolved.config.data, resolved.config.training.seed)
    report = planning.predict(resolved, Images(source.channels, source.image_size, source.num_classes))
    training_options = device.training_options

    def counting_cycles(*args: Any, **kwargs: Any) -> Any:
        return training_options(*args, **kwargs).logCycleCount(True)

    device.training_options = counting_cycles
    run = assemble(resolved, poptorch, source)
    batch = example_batch(resolved.config, source)
    with device.errors_of(poptorch, "training"):
        run.training_model.compile(*batch)
    run.training_model(*batch)
    run.training_model(*batch)  # the first call also moves the weights
    cycles = run.training_model.cycleCount()
    run.training_model.destroy()
    training = resolved.config.training
    print(
        f"{where}; {len(report.ipus)} IPU(s), micro-batch {training.micro_batch_size} x "
        f"{training.gradient_accumulation}"
    )
    predicted_cycles = round(report.throughput.step_seconds * report.target.clock_hz)
    memory, why = memory_of(profile) if profile else ({}, "Poplar wrote no profile")
    rows: Dict[str, Tuple[int, Any]] = {
        "cycles of a weight update": (predicted_cycles, cycles),
        "bytes, all IPUs": (sum(ipu.memory.total_bytes for ipu in report.ipus), memory.get("total")),
        "bytes, fullest tile": (report.worst_tile_bytes, memory.get("worst tile")),
    }
    print(f"{'':28s}{'predicted':>22s}{'measured':>22s}{'ratio':>8s}")
    for key, (predicted, measured) in rows.items():
        given = f"{measured:>22,}{measured / predicted:>8.2f}" if measured is not None else f"{'-':>22s}"
        print(f"{key:28s}{predicted:>22,}{given}")
    if why:
        print(f"memory was not measured: {why}")
    if kind == "emulator":
        print(
            "cycles on the emulator are the time that it took here, at an IPU's clock: no measurement of an IPU"
        )
    return 0


def overrides(name: str, kind: str) -> List[str]:
    """The recipe on one replica, with as few micro-batches as its pipeline takes, on images that need no download."""
    given = config.load(name).config
    stages = given.ipus_per_replica
    changes = [
        "training.replicas=1",
        "training.device_iterations=1",
        "device.replicated_tensor_sharding=false",
    ]
    changes += [
        f"training.gradient_accumulation={2 * stages - 1}",
        f"device.target={'emulator' if kind == 'emulator' else 'auto'}",
    ]
    if given.data.name != "digits":
        side = given.data.image_size or 32
        classes = given.model.num_classes or (1000 if given.data.name == "imagefolder" else 10)
        changes += [
            "data.name=generated",
            "data.length=64",
            f"data.image_size={side}",
            f"data.num_classes={classes}",
        ]
        changes += [f"data.{key}=null" for key in ("path", "cache", "augment") if hasattr(given.data, key)]
    return changes


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("environment", "operator", "recipe"))
    parser.add_argument("name", nargs="?")
    parser.add_argument("--poptorch", choices=("sdk", "emulator"), default="emulator")
    parser.add_argument("--profile", default="")
    options = parser.parse_args()
    if options.part == "recipe" and options.name is None:
        parser.error("recipe needs a NAME, as in: recipe quickstart")
    poptorch = poptorch_of(options.poptorch)
    if options.part == "environment":
        return environment(poptorch)
    if options.part == "operator":
        return operator(poptorch)
    try:
        return recipe(poptorch, options.poptorch, options.name, options.profile)
    except ValueError as error:
        print(f"{type(error).__name__}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
