"""How fast one weight update is on the emulator, beside a plain PyTorch loop as a user would write it.

All variants train the same model on the same 128 images and are interleaved in one process, so that whatever else the
machine does hits them alike; the figures are ratios of neighbouring measurements (median, and the middle half).

    python scripts/benchmark_step.py --model resnet20 --repeats 15 --threads 2
"""

import argparse
import json
import platform
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch
from ipu_train.kernels import rounding
from ipu_train.models import build

BATCH, REPLICAS = 128, 4


class TrainingProgram(nn.Module):
    """The loss of a micro-batch and a hit for each image, as the trainer computes them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images, labels):
        logits = self.network(images)
        losses = F.nll_loss(F.log_softmax(logits, 1), labels, reduction="none")
        return poptorch.identity_loss(losses, "mean"), (logits.argmax(1) == labels).float()


def plain_loop(network, images, labels, micro_batch):
    """A weight update in plain PyTorch with gradients accumulated over micro-batches."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    count = len(images) // micro_batch

    def update():
        optimizer.zero_grad()
        for k in range(count):
            at = slice(k * micro_batch, (k + 1) * micro_batch)
            (F.cross_entropy(network(images[at]), labels[at]) / count).backward()
        optimizer.step()

    return update


def emulator_step(
    network, images, labels, accumulation, replicas, fuse, half=False, stochastic=False, generated=False
):
    """The same weight update as one call of a training executor."""
    options = poptorch.Options().replicationFactor(replicas).outputMode(poptorch.OutputMode.Sum)
    options.Training.gradientAccumulation(accumulation)
    options.Precision.enableStochasticRounding(stochastic)
    if fuse:
        options._Emulator.fuseMicroBatches(True)
    if generated:
        options._Emulator.torchCompile()
    optimizer = poptorch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    executor = poptorch.trainingModel(TrainingProgram(network), options, optimizer)
    given = images.half() if half else images
    return lambda: executor(given, labels)


def variants(model, norm, size, micro_batch, generated):
    """name -> (callable, name of the variant it is divided by)."""
    images, labels = torch.randn(BATCH, 3, size, size), torch.randint(0, 10, (BATCH,))
    name, _, proxy = norm.partition("+")
    accumulation = BATCH // (micro_batch * REPLICAS)
    whole, small = f"plain, batch {BATCH}", f"plain, micro-batch {micro_batch}"
    factors = f"{micro_batch} x {accumulation} x {REPLICAS}"

    def network():
        return build(model, num_classes=10, norm=name, proxy_norm=proxy == "pn")

    def emulator(fuse, **how):
        return emulator_step(network(), images, labels, accumulation, REPLICAS, fuse, **how)

    made = {
        whole: (plain_loop(network(), images, labels, BATCH), None),
        f"emulator, batch {BATCH}": (emulator_step(network(), images, labels, 1, 1, False), whole),
        small: (plain_loop(network(), images, labels, micro_batch), whole),
        f"emulator, {factors} one by one": (emulator(False), small),
        # with batch norm this computes what the plain loop over micro-batches does, else what the whole batch does
        f"emulator, {factors} fused": (emulator(True), small if name == "batch" else whole),
    }
    if name != "batch":
        made[f"emulator 16.32, {factors} fused"] = (emulator(True, half=True), whole)
        made[f"emulator 16.32 stochastic, {factors} fused"] = (
            emulator(True, half=True, stochastic=True),
            whole,
        )
    if generated:
        step = emulator_step(network(), images, labels, 1, 1, False, generated=True)
        made[f"emulator, batch {BATCH}, torch.compile"] = (step, whole)
    return made


def measure(made, repeats):
    """Seconds of every variant in every round, one after the other within a round."""
    for update, _ in made.values():
        update()
        update()
    seconds = {name: [] for name in made}
    for round_ in range(repeats):
        names = list(made)
        for name in names if round_ % 2 == 0 else reversed(names):
            started = time.perf_counter()
            made[name][0]()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--norms", default="batch,group,group+pn")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--micro-batch", type=int, default=4, choices=(1, 2, 4, 8, 16, 32))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--torch-compile", action="store_true", help="also measure generated code")
    parser.add_argument(
        "--torch-rounding",
        action="store_true",
        help="round by torch's operations, as where there is no compiler",
    )
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.torch_rounding:
        rounding.serves = lambda x: False
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {options.threads} threads")
    rows = []
    for norm in options.norms.split(","):
        made = variants(options.model, norm, options.image_size, options.micro_batch, options.torch_compile)
        seconds = measure(made, options.repeats)
        for name, (_, base) in made.items():
            row = {"model": options.model, "norm": norm, "variant": name}
            row["seconds_median"] = round(statistics.median(seconds[name]), 4)
            if base:
                ratios = sorted(a / b for a, b in zip(seconds[name], seconds[base]))
                quarter = len(ratios) // 4
                row.update(
                    over=base,
                    ratio_median=round(statistics.median(ratios), 3),
                    ratio_middle_half=[round(ratios[quarter], 3), round(ratios[-1 - quarter], 3)],
                )
            rows.append(row)
            text = f"{norm:9} {name:44} {row['seconds_median']:7.4f} s"
            if base:
                low, high = row["ratio_middle_half"]
                text += f"   {row['ratio_median']:.3f} x {base}  ({low:.3f} .. {high:.3f})"
            print(text, flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"torch": torch.__version__, "threads": options.threads, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
