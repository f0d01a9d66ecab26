"""Sets that torchvision downloads and reads. It is imported when one of them is asked for, and not before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.train.data.images import DataError, Images, Split

Open = Callable[[Any, str, Split], Any]


def _by_train(name: str) -> Open:
    return lambda datasets, root, split: getattr(datasets, name)(root, train=split == "train", download=True)


def _svhn(datasets: Any, root: str, split: Split) -> Any:
    return datasets.SVHN(root, split=split, download=True)


VISION: dict[str, Open] = {
    "cifar10": _by_train("CIFAR10"),
    "cifar100": _by_train("CIFAR100"),
    "svhn": _svhn,
    "mnist": _by_train("MNIST"),
    "fashion-mnist": _by_train("FashionMNIST"),
}


def home() -> Path:
    """Where downloaded sets are kept: $RANDHET_DATA, or the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RANDHET_DATA") or Path(cache) / "randhet" / "data")


def from_torchvision(name: str, split: Split, root: Path | None = None) -> Images:
    """The images of a set, downloaded to `root` where they are not there yet."""
    try:
        from torchvision import datasets
    except ImportError:
        raise DataError(
            f"data {name!r} needs torchvision: install the extra `randhet[vision]`, or give a folder of images"
        ) from None
    try:
        dataset = VISION[name](datasets, str(root or home()), split)
    except (OSError, RuntimeError, EOFError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"data {name!r} could not be read or downloaded to {root or home()}: {reason}") from None
    labels = np.asarray(dataset.labels if hasattr(dataset, "labels") else dataset.targets, np.int64)
    classes = getattr(dataset, "classes", None) or [str(label) for label in range(10)]
    return Images(name, channels_first(np.asarray(dataset.data, np.uint8)), labels, tuple(map(str, classes)))


def channels_first(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, C, Y, X) of (N, Y, X), (N, Y, X, C) or (N, C, Y, X); C is 3."""
    if pixels.ndim == 3:
        return pixels[:, None]
    return pixels if pixels.shape[1] == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
