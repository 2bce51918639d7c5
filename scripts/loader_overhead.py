"""What a loader adds to reading, decoding and cropping: order, collation, handing over; with and without workers.

    OMP_NUM_THREADS=1 python scripts/loader_overhead.py FOLDER --batch 256 --batches 12

FOLDER has one sub-folder of photographs a class; epochs follow each other until all batches are there. Times are of the
processor, so that other programs count little. In a worker each batch brings along its clocks: the time in which images
were read, decoded and cropped, and all of its time; the difference from batch to batch is what the loader costs there.
To it comes what the main process does to take a batch. The first batches, which allocate memory, are left out.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

import ipu_train.emulator as poptorch
from ipu_train.config import section
from ipu_train.data import EpochSampler, loader, open_data
from ipu_train.data.datasets import ImageDataset

WARM_UP = 4


class Timed(ImageDataset):
    """The batches of a data set; counts the processor time that they take."""

    def __init__(self, dataset):
        super().__init__(dataset.labels)
        self.dataset, self.spent = dataset, 0.0

    def batch(self, keys, room=None):
        begun = time.process_time()
        item = self.dataset.batch(keys, room)
        self.spent += time.process_time() - begun
        return item

    def clocks(self, keys):
        return torch.tensor([[self.spent, time.process_time()]], dtype=torch.float64)


def measure(dataset, batch, batches, workers):
    """Milliseconds a batch: of images, of the rest where they are loaded, of the main process beside that."""
    timed = Timed(dataset)
    options = poptorch.Options().deviceIterations(batch // 16)
    data = loader(
        poptorch, options, timed, EpochSampler(len(timed), 0, batch), 16, workers, coefficients=timed.clocks
    )
    clocks, own = [], []
    while len(clocks) < batches + WARM_UP:
        for *_, there in data:
            clocks.append(there[0].clone())
            own.append(time.process_time())
    # the batches of one worker follow each other
    every = max(1, workers)
    images, all_there = (1e3 * (torch.stack(clocks[every:]) - torch.stack(clocks[:-every])))[WARM_UP:].T
    rest = [all_there[i].item() - images[i].item() for i in range(len(images))]
    main = [1e3 * (after - before) for before, after in zip(own[WARM_UP:], own[WARM_UP + 1 :])]
    return images.median().item(), statistics.median(rest), statistics.median(main) if workers else 0.0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=256, help="images of a call, a multiple of 16")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--workers", default="0,1,2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        photographs = sorted(options.folder.glob("*/*"))
        for i in range(-(-options.batch // len(photographs))):
            for path in photographs:
                for part in ("train", "val")[: 1 + (i == 0)]:
                    target = Path(place, part, path.parent.name, f"{i}_{path.name}")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.symlink_to(path.resolve())
        keys = {"augment": "random_resized_crop", "cache": False, "image_size": 224}
        images = open_data(section("data", name="imagefolder", path=place, **keys)).train
        print(
            f"{options.batch} photographs a batch, random crops of 224 x 224, medians of {options.batches} batches; "
            f"torch {torch.__version__}, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f} on "
            f"{os.cpu_count()} cores\n"
        )
        print("| workers | read, decode, crop | rest where they are loaded | main process | both |")
        print("|---|---|---|---|---|")
        for workers in map(int, options.workers.split(",")):
            made, rest, own = measure(images, options.batch, options.batches, workers)
            print(
                f"| {workers} | {made:.1f} ms | {rest:.2f} ms ({rest / made:.2%}) | {own:.2f} ms ({own / made:.2%}) "
                f"| {(rest + own) / made:.2%} |"
            )


if __name__ == "__main__":
    main()
