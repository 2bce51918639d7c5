"""Data sets that torchvision downloads and reads."""

import contextlib
import io
import os
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from .errors import DataError

Part = Tuple[np.ndarray, np.ndarray]


class TorchVision(NamedTuple):
    """One of torchvision's data sets; mean and std are of the training pixels, in 0..1 units."""

    class_name: str
    title: str
    subfolder: str
    url: str
    mean: Tuple[float, ...]
    std: Tuple[float, ...]


_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
TORCHVISION = {
    "cifar10": TorchVision(
        "CIFAR10", "CIFAR-10", "", _CIFAR_URL, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    ),
    "cifar100": TorchVision(
        "CIFAR100", "CIFAR-100", "", _CIFAR_URL, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    ),
    "fashion_mnist": TorchVision(
        "FashionMNIST",
        "Fashion-MNIST",
        "FashionMNIST/raw",
        "https://github.com/zalandoresearch/fashion-mnist",
        (0.2860,),
        (0.3530,),
    ),
}


def users_cache() -> Optional[Path]:
    """What is kept for the user from run to run; None: no home folder is known."""
    cache = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return None if cache.startswith("~") else Path(cache) / "ipu-train"


def default_path() -> Path:
    """Where data sets are downloaded to unless data.path says otherwise: the user's cache folder.

    Raises:
        DataError: there is none.
    """
    cache = users_cache()
    if cache is None:
        raise DataError(
            "data.path: no home folder is known, and so none to download to; name a folder, or set the environment "
            "variable XDG_CACHE_HOME to one"
        )
    return cache


def read_torchvision(known: TorchVision, path: Optional[str], download: bool) -> Tuple[Part, Part, List[str]]:
    """Training part, validation part and class names.

    A part is images (uint8 ``[N, C, H, W]``) and labels (int64 ``[N]``).

    Raises:
        DataError: the files are not there, broken, or cannot be downloaded.
    """
    root = Path(os.path.expanduser(path)) if path is not None else default_path()
    if path is not None and not download and not root.is_dir():
        raise DataError(f"{root}: there is no such folder (data.path)")
    *train, class_names = _part(known, root, download, True)
    *validation, _ = _part(known, root, download, False)
    return tuple(train), tuple(validation), class_names


def _part(
    known: TorchVision, root: Path, download: bool, train: bool
) -> Tuple[np.ndarray, np.ndarray, List[str]]:
    import torchvision

    dataset_class = getattr(torchvision.datasets, known.class_name)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # "Files already downloaded and verified"
            dataset = dataset_class(str(root), train=train, download=download)
    except (
        Exception
    ) as error:  # no network, no space, no permission, a broken archive: there is no common class
        raise _not_there(known, root, download, error) from None
    images = np.asarray(dataset.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), np.asarray(dataset.targets, dtype=np.int64), list(dataset.classes)


def _not_there(known: TorchVision, root: Path, download: bool, error: Exception) -> DataError:
    reason = str(getattr(error, "reason", None) or error).strip().splitlines() or [type(error).__name__]
    place = root / known.subfolder
    if download:
        what = f"{known.title} is not in {place} and cannot be downloaded ({reason[0]})"
        then = f"get its files from {known.url} on a machine with network and put them there"
    else:
        what = f"{known.title} cannot be read from {place} ({reason[0]})"
        then = "set data.download to true"
    return DataError(
        f"{what}; {then}, set data.path to where they are, or take data.name=digits, which needs no files"
    )
