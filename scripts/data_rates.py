"""Images per second that reach the main processes: processes x workers against one process, in one run.

    OMP_NUM_THREADS=1 python scripts/data_rates.py my_imagefolder.yaml --grid 1x0,1x1,2x0,2x1,1x2 data.path=/images

Each process loads its share of the same global batches as a training does (``EpochSampler``, ``loader``), and nothing
consumes them. All combinations are measured in turns, several rounds of them, so that the ratios are of one machine in
one state; what a training needs is in ``ipu-train plan``. The first batch of a process is not counted.
"""

import argparse
import multiprocessing
import statistics
import sys
import time

import torch

from ipu_train import config, emulator
from ipu_train.data import EpochSampler, loader, open_data


def load(resolved, processes, index, workers, calls, begin, results):
    """One process: so many combined batches of its share; tells when the first and the last one came."""
    torch.set_num_threads(1)
    cfg = resolved.config
    source = open_data(cfg.data, cfg.training.seed)
    local = cfg.training.replicas // processes
    options = emulator.Options()
    options.deviceIterations(cfg.training.device_iterations)
    options.replicationFactor(local)
    options.Training.gradientAccumulation(cfg.training.gradient_accumulation)
    combined = cfg.global_batch_size * cfg.training.device_iterations // processes
    sampler = EpochSampler(
        len(source.train),
        cfg.training.seed,
        combined,
        process_index=index,
        num_processes=processes,
        share=cfg.training.micro_batch_size * local,
        repeats=cfg.data.repeats,
    )
    data = loader(emulator, options, source.train, sampler, cfg.training.micro_batch_size, workers)
    items = endless(data)
    next(items)
    begin.wait()
    begun = time.perf_counter()
    for _ in range(calls):
        next(items)
    results.put(time.perf_counter() - begun)


def endless(data):
    while True:
        yield from data


def rate(resolved, processes, workers, calls):
    """Images per second of all processes together."""
    context = multiprocessing.get_context("fork")
    begin, results = context.Barrier(processes), context.Queue()
    children = [
        context.Process(target=load, args=(resolved, processes, i, workers, calls, begin, results))
        for i in range(processes)
    ]
    for child in children:
        child.start()
    seconds = max(results.get() for _ in children)
    for child in children:
        child.join()
    cfg = resolved.config
    return calls * cfg.global_batch_size * cfg.training.device_iterations / seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument(
        "--grid", default="1x0,1x1,1x2,2x0,2x1", help="PROCESSESxWORKERS, the first to compare with"
    )
    parser.add_argument(
        "--calls", type=int, default=20, help="combined batches of each process that are timed"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    resolved = config.load(options.recipe, options.overrides)
    grid = [tuple(int(number) for number in pair.split("x")) for pair in options.grid.split(",")]
    for processes, _ in grid:
        if resolved.config.training.replicas % processes:
            parser.error(f"{processes} processes do not divide training.replicas")
    rates = {pair: [] for pair in grid}
    for _ in range(options.rounds):
        for pair in grid:
            rates[pair].append(rate(resolved, *pair, options.calls))
    cfg = resolved.config
    images = cfg.global_batch_size * cfg.training.device_iterations
    print(
        f"{resolved.name}: {cfg.data.name}, {images} images a call of "
        f"all processes; torch {torch.__version__}, Python {sys.version.split()[0]}, "
        f"{multiprocessing.cpu_count()} cores, {options.rounds} rounds"
    )
    for (processes, workers), found in rates.items():
        ratios = [mine / first for mine, first in zip(found, rates[grid[0]])]
        print(
            f"  {processes} process(es) x {workers} worker(s): median {statistics.median(found):9,.0f} images/s "
            f"({min(found):,.0f} to {max(found):,.0f}), {statistics.median(ratios):5.2f} times the first"
        )


if __name__ == "__main__":
    main()
