"""What the host does between two calls of the device, as a share of a predicted device step.

    OMP_NUM_THREADS=1 python scripts/host_cost.py resnet50_gn_pn --steps 100 training.replicas=16

The training loop runs as it is: data loader, learning rate and loss scaling to the device, outputs, means, divergence
check, metrics file. Only the call of the device is replaced, by a sleep of the time that ``ipu-train plan`` predicts
for it, and the network is not compiled. Images are noise from a pool, so that decoding is not measured
(``data_rates.py`` does that); they are gathered, collated and handed over as ever. The first calls, in which workers
start, are left out. By the clock, waiting for workers counts, which a machine without idle cores has to; the main
thread's own processor time is what no number of workers takes away; other threads of the process can run beside a
device call. Under torchrun, the figures are process 0's.
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
    """Marks around the calls, and times of parts of what lies between them.

    A mark is the wall clock, the main thread's processor time and that of all threads of the process, in seconds.
    """

    def __init__(self):
        self.begun, self.ended, self.parts = [], [], {}

    @staticmethod
    def now():
        return time.perf_counter(), time.thread_time(), time.process_time()

    def measured(self, name, function):
        def timed(*args, **kwargs):
            begun = self.now()
            result = function(*args, **kwargs)
            self.parts.setdefault(name, []).append((begun, self.now()))
            return result

        return timed

    def rows(self):
        """name: seconds [calls, 3]."""
        spans = {"all between two calls": list(zip(self.ended, self.begun[1:])), **self.parts}
        return {
            name: torch.tensor(pairs, dtype=torch.float64).diff(dim=1).squeeze(1)
            for name, pairs in spans.items()
        }


def sleeping(clock, seconds, replicas):
    """In place of a call of the device."""

    results = torch.full((replicas,), 1.0), torch.full((replicas,), 4.0)

    def call(run, batch, rate):
        clock.begun.append(clock.now())
        time.sleep(seconds)
        clock.ended.append(clock.now())
        return results

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
    processes = int(os.environ.get("WORLD_SIZE", 1))
    trainer._call = sleeping(clock, predicted, cfg.training.replicas // processes)
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
    training = cfg.training
    print(
        f"{options.recipe}: {training.replicas} replicas x micro-batch {training.micro_batch_size} x gradient "
        f"accumulation {training.gradient_accumulation} x device iterations {training.device_iterations}: {images} "
        f"images of {shape.size} x {shape.size} a call, predicted {1e3 * predicted:.1f} ms; {processes} process(es), "
        f"{options.workers} worker(s) each; torch {torch.__version__}, Python {sys.version.split()[0]}, load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print(
        f"  medians over {options.steps} calls        by the clock, the main thread's work (its lowest tenth), that of "
        "all threads"
    )
    for name, times in clock.rows().items():
        times = 1e3 * times[WARM_UP:]
        wall, own, every = times.median(0).values.tolist()
        low = times[:, 1].quantile(0.1).item()
        print(
            f"  {name:<28} {wall:9.3f} ms {own:9.3f} ms {0.1 * own / predicted:6.2f} % ({low:.3f} ms "
            f"{0.1 * low / predicted:.2f} %) {every:9.3f} ms {0.1 * every / predicted:6.2f} %"
        )


if __name__ == "__main__":
    main()
