"""Sets of events that tonic downloads and reads: tonic:NAME, tonic:NAME:FOLDER, with options as for folders.

NAME is a class of tonic.datasets, such as NMNIST, DVSGesture, CIFAR10DVS or SHD. tonic is imported when one is asked
for, and not before.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from randhet.train.data.apart import reason
from randhet.train.data.events import MAX_SET_VALUES, Binning, Events, binned
from randhet.train.data.images import DataError, Images, Split, held_out, shuffled
from randhet.train.data.recordings import TONIC, with_options
from randhet.train.data.vision import home


def from_tonic(text: str, split: Split) -> Images:
    """The recordings that tonic:NAME[:FOLDER][,key=value,...] names."""
    place, *options = text.removeprefix(TONIC).split(",")
    name, _, folder = place.partition(":")
    binning = with_options(options).binning
    try:
        import tonic.datasets
    except ImportError:
        raise DataError(f"data {text!r} needs tonic: install the extra `randhet[events]`") from None
    kind = getattr(tonic.datasets, name, None)
    if not isinstance(kind, type) or not hasattr(kind, "sensor_size"):
        raise DataError(
            f"data {text!r}: tonic has no set of events {name!r}, it has NMNIST, DVSGesture, SHD and others"
        )
    try:
        dataset, whole = _opened(kind, folder or str(home()), split)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"data {text!r} could not be read or downloaded: {reason}") from None
    images = of_dataset(dataset, binning, name)
    return held_out(images, split) if whole else shuffled(images)


def _opened(kind: Any, folder: str, split: Split) -> tuple[Any, bool]:
    """The set, and whether it has no split of its own."""
    try:
        return kind(save_to=folder, train=split == "train"), False
    except TypeError:
        return kind(save_to=folder), True


def of_dataset(dataset: Any, binning: Binning, name: str) -> Images:
    """Frames of every recording of a set of (structured events, label); its sensor_size is (x, y, polarities)."""
    columns, rows, polarities = dataset.sensor_size
    chosen = Binning(binning.frames, binning.by, min(binning.polarities, polarities))
    shape = (len(dataset), chosen.frames, chosen.polarities, rows, columns)
    if not len(dataset) or prod(shape) > MAX_SET_VALUES:
        raise DataError(f"data {name}: frames of shape {shape}, the limit is {MAX_SET_VALUES} values: use fewer frames")
    pixels, labels = np.empty(shape, np.uint8), np.empty(len(dataset), np.int64)
    for i in range(len(dataset)):
        events, labels[i] = _recording(dataset, i, (rows, columns), name)
        pixels[i] = binned(events, chosen, f"{name}, {i}")
    return Images(name, pixels, labels, _classes(dataset, int(labels.max())))


def _recording(dataset: Any, number: int, size: tuple[int, int], name: str) -> tuple[Events, int]:
    """One recording and its label; DataError where tonic cannot read its file."""
    try:
        found, label = dataset[number]
        return _events(found, size), int(label)
    except (KeyboardInterrupt, SystemExit):
        raise
    # tonic's readers raise many kinds for a damaged file, and its decoder of AEDAT 4 panics, which is no Exception
    except BaseException as error:
        raise DataError(f"data {name}: recording {number} cannot be read: {reason(error)}") from None


def _events(found: Any, size: tuple[int, int]) -> Events:
    """Arrays by field; sets of one row have no y, and spikes of sound no polarity."""
    zero = np.zeros(len(found), np.int64)
    t, x, y, p = (found[key].astype(np.int64) if key in found.dtype.names else zero for key in "txyp")
    # polarity of spikes of sound is always 1, and of some sensors -1 and 1
    return Events(t, x, y, (p > 0).astype(np.int64), size)


def _classes(dataset: Any, largest: int) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None)
    if isinstance(names, dict):
        names = sorted(names, key=names.__getitem__)
    words = [name.decode() if isinstance(name, bytes) else str(name) for name in (names if names is not None else [])]
    return tuple(words if len(words) > largest else map(str, range(largest + 1)))
