"""What the host does between two calls of the device, as a share of a predicted device step.

    OMP_NUM_THREADS=1 python scripts/host_cost.py resnet50_gn_pn --steps 100 training.replicas=16

The training loop runs as it is: data loader, learning rate and loss scaling to the device, outputs, means, divergence
check, metrics file. Only the call of the device is replaced, by a sleep of the time that ``ipu-train plan`` predicts
for it, and the network is not compiled. Images are noise from a pool, so that decoding is not measured
(``data_rates.py`` does that); they are gathered, collated and handed over as ever. The first calls, in which workers
start, are left out. By the clock, waiting for workers counts, which a machine without idle cores has to; the main
thread's own processor time is what no number of workers takes away. Under torchrun, the figures are process 0's.
"""

import argparse
import os
import sys
import tempfile
import time

import torch

from ipu_train import config, planning, trainer
from ipu_train.emulator import PoplarExecutor
from ipu_train.training.keeper import Keeper
from ipu_train.training.reporter import Reporter

OVERRIDES = [
    "device.target=emulator", "data.name=synthetic", "data.path=null", "data.augment=none",
    "model.weights=null", "training.epochs=1", "schedule.warmup_epochs=0", "validation.every_epochs=0",
    "checkpoint.every_epochs=0", "logging.progress=false", "logging.plots=false",
    "training.micro_batch_size=16",
]  # fmt: skip
WARM_UP = 5


class Clock:
    """Wall clock and processor time of the main thread around the calls, and in parts of what lies between them."""

    def __init__(self):
        self.begun, self.ended, self.parts = [], [], {}

    @staticmethod
    def now():
        return torch.tensor([time.perf_counter(), time.thread_time()], dtype=torch.float64)

    def measured(self, name, function):
        def timed(*args, **kwargs):
            begun = self.now()
            result = function(*args, **kwargs)
            self.parts.setdefault(name, []).append(self.now() - begun)
            return result

        return timed

    def between(self):
        """[calls, 2]: from the end of each call to the beginning of the next."""
        return [begun - ended for begun, ended in zip(self.begun[1:], self.ended)]


def sleeping(clock, seconds, config):
    """In place of a call of the device."""

    def call(run, batch, rate):
        clock.begun.append(clock.now())
        time.sleep(seconds)
        clock.ended.append(clock.now())
        replicas = run.processes.local(config.training.replicas)
        return torch.full((replicas,), 1.0), torch.full((replicas,), 4.0)

    return call


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()

    shape = planning.images_of(config.load(options.recipe))
    data = [
        f"data.workers={options.workers}",
        f"data.image_size={shape.size}",
        f"data.channels={shape.channels}",
    ]

    def load(length):
        more = [*data, f"data.length={length}", f"data.num_classes={shape.classes}"]
        return config.load(options.recipe, [*OVERRIDES, *more, *options.overrides])

    resolved = planning.with_splits(load(1_000_000))
    cfg = resolved.config
    images = cfg.global_batch_size * cfg.training.device_iterations
    report = planning.predict(resolved)
    predicted = report.throughput.step_seconds * cfg.training.device_iterations
    clock = Clock()
    trainer._plan = lambda *_: None
    trainer._write_plan = trainer._write_page = trainer._average = lambda *_: None
    trainer._call = sleeping(clock, predicted, cfg)
    PoplarExecutor.compile = lambda *_: None
    Keeper.save = lambda *_: None  # nothing was trained
    Keeper.tell_device = clock.measured("learning rate to the device", Keeper.tell_device)
    Keeper.accepts = clock.measured("divergence check", Keeper.accepts)
    Reporter.training = clock.measured("metrics and logging", Reporter.training)
    with tempfile.TemporaryDirectory() as folder:
        run = load(images * (options.steps + WARM_UP + 1))
        trainer.train(run.changed([f"run_dir={folder}/run"]))
    if int(os.environ.get("RANK", 0)):
        return
    training, processes = cfg.training, os.environ.get("WORLD_SIZE", "1")
    print(
        f"{options.recipe}: {training.replicas} replicas x micro-batch {training.micro_batch_size} x gradient "
        f"accumulation {training.gradient_accumulation} x device iterations {training.device_iterations}: {images} "
        f"images of {shape.size} x {shape.size} a call, predicted {1e3 * predicted:.1f} ms; {processes} process(es), "
        f"{options.workers} worker(s) each; torch {torch.__version__}, Python {sys.version.split()[0]}"
    )
    rows = {"all between two calls": clock.between(), **clock.parts}
    print(
        f"  {'medians over ' + str(options.steps) + ' calls':<28}  by the clock         main thread's own work"
    )
    for name, times in rows.items():
        wall, own = (1e3 * torch.stack(times[WARM_UP:])).median(0).values.tolist()
        shares = [0.1 * value / predicted for value in (wall, own)]
        print(f"  {name:<28} {wall:9.3f} ms {shares[0]:6.2f} % {own:9.3f} ms {shares[1]:6.2f} %")


if __name__ == "__main__":
    main()
