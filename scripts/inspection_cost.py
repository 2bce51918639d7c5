"""What recording the norms' power terms costs: processor time of a weight update with and without, taking turns.

OMP_NUM_THREADS=1 python scripts/inspection_cost.py --config cifar10_resnet20v2_gn_pn --updates 20
"""

import argparse
import statistics
import tempfile
import time

from ipu_train import config, trainer

_REST = [
    "data.name=generated", "data.augment=none", "data.image_size=32", "training.epochs=1",
    "training.replicas=1", "training.micro_batch_size=64", "training.gradient_accumulation=2", "device.threads=1",
    "device.allow_out_of_memory=true", "logging.progress=false", "logging.plots=false",
]  # fmt: skip


def milliseconds(name, updates, settings):
    """Processor time of each weight update after the first two, the handling of outputs included."""
    stamps = []
    call = trainer._call

    def timed(*arguments):
        stamps.append(time.process_time())
        return call(*arguments)

    trainer._call = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            length = f"data.length={128 * (updates + 3)}"
            trainer.train(config.load(name, [*_REST, length, *settings, f"run_dir={folder}/run"]))
    finally:
        trainer._call = call
    return [1e3 * (b - a) for a, b in zip(stamps[2:], stamps[3:])]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="cifar10_resnet20v2_gn_pn")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    off, on = [], []
    for _ in range(options.rounds):
        off += milliseconds(options.config, options.updates, options.settings)
        on += milliseconds(options.config, options.updates, [*options.settings, "logging.inspect_every=1"])
    for word, of in (("medians", statistics.median), ("minima", min)):
        without, recorded = of(off), of(on)
        print(
            f"{options.config}: {without:.1f} ms a weight update without, {recorded:.1f} ms with: "
            f"{100 * (recorded / without - 1):+.1f} %, {word} of {len(off)} each"
        )


if __name__ == "__main__":
    main()
