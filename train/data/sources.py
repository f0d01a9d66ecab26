"""Image data by name or path, as arrays of bytes. Needs no torch, and torchvision only for the sets it reads.

digits is embedded (scikit-learn), digits-events are the same seen by a simulated event camera; cifar10, cifar100, svhn,
mnist and fashion-mnist are torchvision's, NAME:FOLDER where they lie in a folder of yours; a path is a folder of images
(`folders`), of recordings (`recordings`) or of MNIST-like idx files (`idx`); tonic:NAME is a set of tonic's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.train.data.folders import folder
from randhet.train.data.idx import idx_folder, is_idx_folder
from randhet.train.data.images import DataError, Images, Split, channel_statistics, held_out
from randhet.train.data.recordings import holds_recordings, parse, recordings
from randhet.train.data.simulated import record
from randhet.train.data.tonic_sets import from_tonic
from randhet.train.data.vision import VISION, from_torchvision

__all__ = ["NAMED", "DataError", "Images", "Split", "channel_statistics", "digits", "held_out", "load"]


def load(source: str | Path, split: Split = "test") -> Images:
    """Images of a named set or of a folder."""
    name, _, root = str(source).partition(":")
    if str(source) in NAMED:
        return NAMED[str(source)](split)
    if name in VISION:
        return from_torchvision(name, split, Path(root) if root else None)
    if name == "tonic":
        return from_tonic(str(source), split)
    if holds_recordings(str(source)):
        return recordings(parse(str(source)), split)
    if not Path(source).is_dir():
        raise DataError(
            f"data {str(source)!r} is neither a folder nor one of {', '.join((*NAMED, *VISION))}, tonic:NAME"
        )
    return idx_folder(Path(source), split) if is_idx_folder(Path(source)) else folder(Path(source), split)


def digits(split: Split) -> Images:
    """scikit-learn's 1,797 handwritten digits (UCI), 1x8x8, grey levels 0..16 spread over 0..255."""
    levels, labels = _digits()
    pixels = np.rint(levels[:, None] * (255 / 16)).astype(np.uint8)
    return held_out(Images("digits", pixels, labels.astype(np.int64), tuple(map(str, range(10)))), split)


def _digits() -> tuple[NDArray[np.floating], NDArray[Any]]:
    """Grey levels (N, 8, 8) and labels (N,) from scikit-learn's file, or by its function where it lies elsewhere.

    To import scikit-learn takes a third of the time in which a command starts.
    """
    spec = find_spec("sklearn")
    file = spec and spec.origin and Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file and file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    from sklearn.datasets import load_digits

    dataset = load_digits()
    return dataset.images, dataset.target


EVENT_STEPS = 18


def digits_events(split: Split) -> Images:
    """The digits, 16x16, seen by a simulated event camera (`simulated`): 18 frames of ON and OFF events, 2x20x20."""
    still = digits(split)
    return replace(still, name="digits-events", pixels=_recorded(split).copy())


@lru_cache
def _recorded(split: Split) -> NDArray[np.uint8]:
    """Recordings of the digits, a few seconds' work, done once in a program."""
    return record(enlarged(digits(split).pixels[:, 0] / 255.0), EVENT_STEPS)


def enlarged(pictures: NDArray[np.floating]) -> NDArray[np.floating]:
    """Pictures (N, Y, X) of twice the size, by linear interpolation with edges kept."""
    for axis in (1, 2):
        size = pictures.shape[axis]
        places = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
        low = np.floor(places).astype(int)
        part = np.expand_dims(places - low, tuple(other for other in range(3) if other != axis))
        first, second = (np.take(pictures, index, axis) for index in (low, np.minimum(low + 1, size - 1)))
        pictures = (1 - part) * first + part * second
    return pictures


NAMED: dict[str, Callable[[Split], Images]] = {"digits": digits, "digits-events": digits_events}
