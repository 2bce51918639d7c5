"""Times norm + Proxy Norm + activation (forward and backward, CPU) beside what it replaces.

    python scripts/kernels_cpu_benchmark.py [--threads 1 2] [--rounds 30] [--activation silu] [--clock processor]

All variants run interleaved in one process; a row shows the median and the quartiles of the time, the median
of its ratio to group norm + activation in the same round, the bytes saved for the backward pass, and the time
over the memory-traffic floor: reading x and writing y, then reading x and the gradient and writing dx, at the
copy bandwidth measured in the same rounds. Freed memory stays with the process (glibc): which variant would meet
the page faults of memory given back by another is chance, and no property of an operation.

``--clock processor`` counts the processor's time instead of the wall's, of all threads together: what another program
takes of a busy machine is then left out (but not what it takes of the caches). It ends with a table of the ratios.
"""

import argparse
import ctypes
import statistics
import time

import torch
import torch.nn.functional as F

from ipu_train.kernels import composed, cpu
from ipu_train.kernels.settings import Settings

SHAPES = [
    (8, 64, 56, 56),
    (8, 256, 14, 14),
    (8, 512, 28, 28),
    (8, 2048, 7, 7),
    (32, 64, 56, 56),
    (32, 256, 14, 14),
    (32, 2048, 7, 7),
]
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory():
    """Make malloc take large blocks from its own heap and give none back. Without effect elsewhere than on glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda option, value: None)
    mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes; above all tensors here
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def variants(x, groups, activation):
    """name -> function of x; each has fresh parameters of its own."""
    channels = x.shape[1]
    act = F.relu if activation == "relu" else F.silu
    vectors = [torch.full((channels,), v, dtype=x.dtype).requires_grad_() for v in (0.0, 1.0, 0.0, 0.0)]
    weight, bias = vectors[1], vectors[0]
    settings = Settings(groups, activation)
    return {
        "BN + act": lambda: act(F.batch_norm(x, None, None, weight, bias, training=True)),
        "GN + act": lambda: act(F.group_norm(x, groups, weight, bias)),
        "GN + PN + act composed": lambda: composed.norm_proxy_norm_act(x, *vectors, settings),
        "GN + PN + act kernel": lambda: cpu.norm_proxy_norm_act(x, *vectors, settings),
    }


def saved_bytes(run):
    """Bytes autograd keeps between forward and backward, each storage counted once."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = run()
    del y
    return sum(storages.values())


def seconds(run, x, grad, clock):
    x.grad = None
    start = clock()
    run().backward(grad)
    return clock() - start


def copy_seconds(source, target, clock):
    start = clock()
    target.copy_(source)
    return clock() - start


def measure(shape, groups, activation, dtype, rounds, clock):
    """Prints a block for the shape; returns the ratios of the kernel and of the composition to GN + act."""
    x = torch.randn(shape, dtype=dtype).requires_grad_()
    grad, source = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    target = torch.empty_like(source)
    runs = variants(x, groups, activation)
    kept = {name: saved_bytes(run) for name, run in runs.items()}
    times = {name: [] for name in runs}
    copies = []
    for index in range(rounds + 3):
        copied = copy_seconds(source, target, clock)
        order = sorted(runs, key=lambda name: (list(runs).index(name) * (index % 3 + 1) + index) % 5)
        row = {name: seconds(runs[name], x, grad, clock) for name in order}  # each comes after each other one
        if index >= 3:  # the first rounds warm up
            copies.append(copied)
            for name, value in row.items():
                times[name].append(value)
    size = x.numel() * x.element_size()
    floor = statistics.median(copies) / 2 * 5  # a copy moves the tensor twice; the floor moves it five times
    copy_rate = 2 * size / statistics.median(copies) / 1e9
    print(
        f"{tuple(shape)} {activation} {str(dtype)[6:]}, {groups} groups, {torch.get_num_threads()} threads, "
        f"copy {copy_rate:.1f} GB/s"
    )
    ratios = {}
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        ratio = ratios[name] = statistics.median(v / g for v, g in zip(values, times["GN + act"]))
        print(
            f"  {name:24s} {middle * 1e3:8.3f} ms [{low * 1e3:.3f}, {high * 1e3:.3f}]  {ratio:5.2f} x GN  "
            f"{middle / floor:5.2f} x floor  saves {kept[name] / size:.2f} x input",
            flush=True,
        )
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--activation", choices=("relu", "silu"), default="relu")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    arguments = parser.parse_args()
    keep_freed_memory()
    usable, reason = cpu.available()
    if not usable:
        raise SystemExit(f"The CPU kernel cannot be used: {reason}")
    found = {}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for shape in SHAPES:
            dtype, clock = getattr(torch, arguments.dtype), CLOCKS[arguments.clock]
            found[shape, threads] = measure(
                shape, arguments.groups, arguments.activation, dtype, arguments.rounds, clock
            )
    columns = [
        f"{name}, {n} thread{'s' * (n > 1)}" for name in ("kernel", "composed") for n in arguments.threads
    ]
    print("\n| shape | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for shape in SHAPES:
        cells = [
            f"{found[shape, n]['GN + PN + act ' + name]:.2f}"
            for name in ("kernel", "composed")
            for n in arguments.threads
        ]
        print(f"| {shape} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
