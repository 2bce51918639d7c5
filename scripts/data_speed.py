"""How fast images become batches, side by side with torchvision on the same files, one core each.

    OMP_NUM_THREADS=1 python scripts/data_speed.py FOLDER --copies 4 --rounds 7

FOLDER has one sub-folder of photographs a class. Every round takes each of these once, in turns, over the same images:

    torchvision          ImageFolder + DataLoader: RandomResizedCrop(224), RandomHorizontalFlip, ToTensor, Normalize
    torchvision, bytes   the same without ToTensor and Normalize: uint8, as ours are (the device normalises)
    folder, shards       ipu-train's loader on image files, and on tar shards of them
    packed ...           ipu-train's loader on packs of them: pixels, pixels with a shorter side of 256, files of that
    batches alone        the folder's batches without a loader, whose overhead is the difference

Times are of the processor (this process, no workers), because the machine may be busy: median of the rounds, smallest
to largest. Ratios are medians of the ratios within a round.
"""

import argparse
import io
import os
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import PIL
import torch
import torchvision
from torchvision import transforms

import ipu_train.emulator as poptorch
from ipu_train.config import section
from ipu_train.data import EpochSampler, check, loader, open_data
from ipu_train.data.pack import Packing, pack

SIZE, BATCH = 224, 16
CROP = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
FLOAT = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]


def copies(folder, target, count):
    """``count`` copies of every image, in ``target/train``; and one of each class in ``target/val``."""
    for path in sorted(folder.glob("*/*")):
        for part, number in (("train", count), ("val", 1)):
            place = target / part / path.parent.name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(number):
                shutil.copy(path, place / f"{path.stem}_{i}{path.suffix}")
    return target


def shards(root, target):
    target.mkdir()
    for part in check.open_parts(root):
        name = "train" if part.name == "train" else "val"
        with tarfile.open(target / f"{name}-000000.tar", "w") as tar:
            for index, label in enumerate(part.files.labels):
                for ending, data in (("jpg", part.files.read(index)), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{index:06d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return target


def refuse(error):
    raise error


def of_torchvision(root, last):
    dataset = torchvision.datasets.ImageFolder(str(root / "train"), transforms.Compose([*CROP, *last]))
    return torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True)


def ours(name, path):
    keys = {"augment": "random_resized_crop", "cache": False, "image_size": SIZE}
    return open_data(section("data", name=name, path=str(path), **keys)).train


def loaded(dataset):
    options = poptorch.Options()
    return loader(poptorch, options, dataset, EpochSampler(len(dataset), 0, BATCH), BATCH)


def batches(dataset):
    keys = list(EpochSampler(len(dataset), 0, BATCH))
    return (dataset.batch(keys[start : start + BATCH]) for start in range(0, len(keys), BATCH))


def measure(iterate):
    """Milliseconds of the processor for an image."""
    begun, images = time.process_time(), 0
    for images_of_batch, *_ in iterate():
        images += len(images_of_batch)
    return 1e3 * (time.process_time() - begun) / images


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        tmp = Path(place)
        root = copies(options.folder, tmp / "images", options.copies)
        parts = check.open_parts(root)
        pack(parts, tmp / "pixels", Packing(), refuse, progress=False)
        pack(parts, tmp / "pixels256", Packing("pixels", 256), refuse, progress=False)
        pack(parts, tmp / "files256", Packing("files", 256), refuse, progress=False)
        folder = ours("imagefolder", root)
        tests = {
            "torchvision": lambda: of_torchvision(root, FLOAT),
            "torchvision, bytes": lambda: of_torchvision(root, [transforms.PILToTensor()]),
            "folder": lambda: loaded(folder),
            "shards": lambda: loaded(sharded),
            "packed pixels": lambda: loaded(pixels),
            "packed pixels, 256": lambda: loaded(pixels256),
            "packed files, 256": lambda: loaded(files256),
            "batches alone": lambda: batches(folder),
        }
        sharded = ours("webdataset", shards(root, tmp / "shards"))
        pixels, pixels256, files256 = (ours("packed", tmp / n) for n in ("pixels", "pixels256", "files256"))
        rounds = []
        for number in range(options.rounds + 1):
            times = {name: measure(test) for name, test in tests.items()}
            if number:  # the first one warms up
                rounds.append(times)
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {PIL.__version__}, ",
        end="",
    )
    print(
        f"{len(folder)} images, {options.rounds} rounds, {os.cpu_count()} cores, Python {sys.version.split()[0]}\n"
    )
    print(f"| {'':<20} | ms an image          | images/s | x torchvision | x torchvision, bytes |")
    print("|---|---|---|---|---|")
    for name in tests:
        ms = [times[name] for times in rounds]
        ratios = [
            statistics.median(times[other] / times[name] for times in rounds)
            for other in ("torchvision", "torchvision, bytes")
        ]
        middle = statistics.median(ms)
        print(
            f"| {name:<20} | {middle:6.3f} ({min(ms):.3f} to {max(ms):.3f}) | {1e3 / middle:8.0f} | "
            f"{ratios[0]:13.2f} | {ratios[1]:20.2f} |"
        )
    overhead = statistics.median(times["folder"] / times["batches alone"] - 1 for times in rounds)
    print(f"\nThe loader's own overhead: {overhead:.1%} of the folder's time.")


if __name__ == "__main__":
    main()
