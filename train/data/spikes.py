"""Whole sets of spikes in one HDF5 file, as SHD and SSC (Cramer et al. 2020): spikes/times, spikes/units, labels.

Times and units are lists of any length, and HDF5 ends the program at a damaged one: the file is read `apart`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.train.data import apart
from randhet.train.data.event_files import Size
from randhet.train.data.events import MAX_EVENTS, MAX_SET_VALUES, Binning, By, Events, binned
from randhet.train.data.images import DataError

UNITS = 700
"""Cochlea channels of SHD and SSC."""
MICROSECONDS = 1e6
MOST_LABELS = 2**16


def of_set(file: Path, binning: Binning, size: Size | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Frames (N, T, 1, Y, X) and labels (N,) of a file; DataError for what is damaged."""
    rows, columns = size or (1, UNITS)
    chosen = (str(binning.frames), binning.by, str(rows), str(columns))
    found = apart.decoded("randhet.train.data.spikes", file, *chosen, what="spikes")
    return found["frames"], found["labels"]


def arrays(file: Path, frames: str, by: By, rows: str, columns: str) -> apart.Arrays:
    """Frames and labels, in a program of its own."""
    import h5py

    binning, size = Binning(int(frames), by, polarities=1), (int(rows), int(columns))
    try:
        with h5py.File(file, "r") as content:
            return _arrays(file, content, binning, size)
    except DataError:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise DataError(f"spikes {file} cannot be read: {apart.reason(error)}") from None


def _arrays(file: Path, content: Mapping[str, Any], binning: Binning, size: Size) -> apart.Arrays:
    times, units, labels = (_dataset(file, content, name) for name in ("spikes/times", "spikes/units", "labels"))
    if not len(times) == len(units) == len(labels) or not len(labels):
        raise DataError(f"spikes {file}: {len(times)} recordings have times, {len(units)} units, {len(labels)} labels")
    values = len(labels) * binning.frames * prod(size)
    if values > MAX_SET_VALUES:
        raise DataError(f"spikes {file}: frames of {values} values, the limit is {MAX_SET_VALUES}: use fewer frames")
    numbers = _numbers(file, labels)
    frames = np.empty((len(labels), binning.frames, 1, *size), np.uint8)
    for i in range(len(labels)):
        frames[i] = binned(_events(file, i, times[i], units[i], size), binning, f"{file}, {i}")
    return {"frames": frames, "labels": numbers}


def _dataset(file: Path, content: Mapping[str, Any], name: str) -> Any:
    """A dataset of one axis whose data is inside the file."""
    import h5py

    found = content.get(name)
    if not isinstance(found, h5py.Dataset) or found.ndim != 1 or found.external or found.is_virtual:
        raise DataError(f"spikes {file} has no dataset {name} of one axis inside the file")
    return found


def _numbers(file: Path, labels: Any) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu":
        raise DataError(f"spikes {file}: labels are {labels.dtype}, they must be integers")
    numbers = np.asarray(labels[()])
    if int(numbers.min()) < 0 or int(numbers.max()) >= MOST_LABELS:
        raise DataError(f"spikes {file}: labels lie in {numbers.min()}..{numbers.max()}, the limits are 0 to 65535")
    return numbers.astype(np.int64)


def _events(file: Path, number: int, times: Any, units: Any, size: Size) -> Events:
    """Events of one recording: a unit is a column, times are seconds."""
    name = f"spikes {file}, {number}"
    seconds, places = np.asarray(times), np.asarray(units)
    if seconds.dtype.kind not in "fiu" or places.dtype.kind not in "iu" or seconds.ndim != 1 or places.ndim != 1:
        raise DataError(f"{name}: times are {seconds.dtype} and units {places.dtype}, they must be lists of numbers")
    if len(seconds) > MAX_EVENTS:
        raise DataError(f"{name}: {len(seconds)} events, the limit is {MAX_EVENTS}")
    if len(places) and int(places.max()) >= 2**63:
        raise DataError(f"{name}: units reach {places.max()}, the limit is {prod(size) - 1}")
    seconds = seconds.astype(np.float64)
    if not np.isfinite(seconds).all() or (np.abs(seconds) > 1e6).any():
        raise DataError(f"{name}: times are not finite seconds below a million")
    t = np.rint(seconds * MICROSECONDS).astype(np.int64)
    order = np.argsort(t, kind="stable") if len(t) == len(places) else slice(None)
    zero = np.zeros(len(t), np.int64)
    return Events(t[order], places.astype(np.int64)[order], zero, zero, size)


if __name__ == "__main__":
    sys.exit(apart.serve(arrays))
