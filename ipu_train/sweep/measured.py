"""Runs one configuration for a few weight updates and measures it: ``-m ipu_train.sweep.measured IN.yaml N OUT``.

A process of its own, so that nothing of another point is in memory.

* Peak memory is that of one micro-batch on one replica, in precision 32.32 and with Proxy Norm in plain torch (no
  kernel): forward, backward and weight update. On a CPU it is the highest sum of the blocks that torch's allocator
  handed out during the step and had not got back (its own events, recorded by ``torch.profiler``), on CUDA
  ``torch.cuda.max_memory_allocated`` beyond what was allocated before. Weights, buffers, optimizer state and images
  were there before the step and do not count. That is what ``ipumodel.plain_torch`` predicts.
* Accuracy is that of the training images of the last of N weight updates with the configuration as it is.
* On IPUs, PopTorch tells the latency; tile memory stands in the PopVision report only.
"""

import json
import os
import sys
import tempfile
from typing import Any, Callable, Dict, List

import torch

from .. import device
from ..config import Resolved, load
from ..data import EpochSampler, loader, open_data
from ..device_options import returned_share
from ..ipumodel.plain_torch import plain_torch_memory
from ..ipumodel.tracer import trace
from ..network import build_network
from ..training.assembly import assemble, example_batch, mixing_draws

# One micro-batch of one replica on one device, nothing fused: what the micro-batch size alone puts into memory.
_ONE_MICRO_BATCH = (
    "training.gradient_accumulation=1",
    "training.replicas=1",
    "training.device_iterations=1",
    "training.precision=32.32",
    "training.stochastic_rounding=false",
    "device.pipeline_splits=[]",
    "device.ipus_per_replica=null",
    "device.available_memory_proportion=null",
    "device.fuse_micro_batches=off",
    "device.output_mode=sum",
    "device.output_every=null",
    # what only several micro-batches, replicas or IPUs, or half precision, can have
    "device.io_tiles=null",
    "device.sync_pattern=full",
    "device.deterministic_workers=null",
    "model.norm_replicas=null",
    "optimizer.automatic_loss_scaling=false",
    "optimizer.learning_rate_batch_size=null",
)


def measure_here(resolved: Resolved, steps: int) -> Dict[str, Any]:
    """Measurements of a configuration, in this process.

    Raises:
        ValueError: the configuration cannot run here (data, device).
    """
    poptorch, running_on = device.choose(resolved.config)
    found: Dict[str, Any] = {"measured_on": running_on, "measured_steps": steps}
    if device.is_emulated(poptorch):
        plain = ["model.proxy_norm_kernel=torch"] if resolved.config.model.proxy_norm else []
        optimizer = resolved.config.optimizer
        if optimizer.learning_rate_batch_size is not None:  # the rate stays that of the global batch
            rate = (
                optimizer.learning_rate
                * resolved.config.global_batch_size
                / optimizer.learning_rate_batch_size
            )
            plain.append(f"optimizer.learning_rate={rate!r}")
        found.update(_memory(resolved.changed([*_ONE_MICRO_BATCH, *plain]), poptorch))
    found.update(_training(resolved, poptorch, steps))
    return found


def _memory(resolved: Resolved, poptorch: Any) -> Dict[str, Any]:
    """Peak bytes of the third weight update: compilation and optimizer state lie before it."""
    source = open_data(resolved.config.data, resolved.config.training.seed)
    run = assemble(resolved, poptorch, source)
    batch = example_batch(resolved.config, source)
    for _ in range(2):
        run.training_model(*batch)

    def step() -> None:
        run.training_model(*batch)

    on_cuda = resolved.config.device.compute == "cuda"
    measured = peak_on_cuda(step) if on_cuda else peak_on_cpu(step)
    network = build_network(resolved, source.num_classes, source.channels)
    images = torch.zeros(
        resolved.config.training.micro_batch_size, source.channels, source.image_size, source.image_size
    )
    predicted = plain_torch_memory(trace(network, [images], record_backward=True))
    return {
        "measured_peak_bytes": measured,
        "predicted_plain_torch_bytes": predicted.peak_bytes,
        "predicted_plain_torch_saved_bytes": predicted.saved_bytes,
    }


def peak_on_cpu(step: Callable[[], Any]) -> int:
    """Highest sum of the bytes of blocks that torch's CPU allocator handed out during ``step`` and had not got back."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        recorded.export_chrome_trace(path)
        with open(path, encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
    memory = [
        event for event in events if event.get("name") == "[memory]" and "Bytes" in event.get("args", {})
    ]
    own: Dict[int, int] = {}  # address -> bytes; what was there before was never counted
    live = most = 0
    for event in sorted(memory, key=lambda event: event["ts"]):
        arguments = event["args"]
        if arguments.get("Device Type", 0) != 0:
            continue
        if arguments["Bytes"] > 0:
            own[arguments["Addr"]] = arguments["Bytes"]
            live += arguments["Bytes"]
            most = max(most, live)
        else:
            live -= own.pop(arguments["Addr"], 0)
    return int(most)


def peak_on_cuda(step: Callable[[], Any]) -> int:
    """Highest number of bytes allocated on the current CUDA device while ``step`` runs, beyond those at its start."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def _training(resolved: Resolved, poptorch: Any, steps: int) -> Dict[str, Any]:
    """Training accuracy and loss of the last weight updates (a call makes ``device_iterations`` of them)."""
    config = resolved.config
    source = open_data(config.data, config.training.seed)
    per_call = config.global_batch_size * config.training.device_iterations
    if len(source.train) < per_call:
        return {
            "measured_note": f"{len(source.train)} training images do not fill a call of {per_call}: no accuracy"
        }
    run = assemble(resolved, poptorch, source)
    sampler = EpochSampler(
        len(source.train),
        config.training.seed,
        per_call,
        repeats=config.data.repeats,
        micro_batch_size=config.training.micro_batch_size,
    )
    batches = loader(
        poptorch,
        run.training_options,
        source.train,
        sampler,
        config.training.micro_batch_size,
        coefficients=mixing_draws(config, source.image_size),
    )
    done, epoch, correct = 0, 0, torch.zeros(1)
    while done < steps:
        sampler.set_position(epoch, 0)
        for batch in batches:
            correct = run.call(batch, run.base_learning_rate)[1]
            done += config.training.device_iterations
            if done >= steps:
                break
        epoch += 1
    found: Dict[str, Any] = {
        "measured_accuracy": float(correct.double().sum()) / (per_call * returned_share(config)),
        "measured_steps": done,
    }
    if not device.is_emulated(poptorch):
        found["measured_latency_seconds"] = list(run.training_model.getLatency())
    return found


def main(arguments: List[str]) -> int:
    """Measure IN.yaml for N weight updates and write the result, or why there is none, to OUT as JSON."""
    source, steps, target = arguments
    try:
        found = measure_here(load(source), int(steps))
    except (ValueError, OSError) as error:
        found = {"measured_error": str(error)}
    with open(target, "w", encoding="utf-8") as file:
        json.dump(found, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
