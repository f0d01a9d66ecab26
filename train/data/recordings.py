"""Folders of recordings: files of events or of frames by class, and HDF5 files that hold a whole set of spikes.

PATH/train/<class>/* and PATH/test/<class>/* (Train and Test too), or PATH/<class>/* with a stratified fifth held out;
PATH/*train*.h5 and PATH/*test*.h5 with spikes/times (seconds), spikes/units and labels, as in SHD and SSC (Cramer et
al. 2020). How events become frames is said behind the path: PATH,frames=16,by=time,size=34x34,polarities=2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.train.data.event_files import READERS, Size, events_of
from randhet.train.data.events import MAX_EVENTS, MAX_FRAME_VALUES, Binning, Events, binned
from randhet.train.data.images import DataError, Images, Split, held_out, shuffled

MAX_SET_VALUES = 2**32
"""Values of all frames of a set, 4 GiB."""
UNITS = 700
"""Cochlea channels of SHD and SSC."""
MICROSECONDS = 1e6


@dataclass(frozen=True)
class Source:
    """A folder, how its events become frames, and the size (y, x) of the sensor where the files do not say it."""

    path: Path
    binning: Binning = field(default_factory=Binning)
    size: Size | None = None


def parse(text: str) -> Source:
    """The source that PATH,key=value,... names; DataError for a key that there is not."""
    if Path(text).is_dir():  # a comma may belong to the name
        return Source(Path(text))
    path, *options = text.split(",")
    return with_options(options, Path(path))


def with_options(options: list[str], path: Path = Path()) -> Source:
    """A source with options, each key=value."""
    source = Source(path)
    for option in options:
        key, _, value = option.partition("=")
        source = _with(source, key.strip(), value.strip())
    return source


def _with(source: Source, key: str, value: str) -> Source:
    known = [entry.name for entry in fields(Binning)]
    try:
        if key == "size":
            rows, columns = (int(number) for number in value.split("x"))
            return replace(source, size=(rows, columns))
        if key in known:
            chosen: dict[str, Any] = {key: value if key == "by" else int(value)}
            return replace(source, binning=replace(source.binning, **chosen))
    except ValueError:
        raise DataError(f"{key} is {value!r}, it must be {'ROWSxCOLUMNS' if key == 'size' else 'a number'}") from None
    raise DataError(f"recordings have no option {key!r}, they have {', '.join((*known, 'size'))}")


def like(data: str, recorded: str) -> str:
    """The data, with the options of those that a network was made from where it names none of its own."""
    (path, *own), (_, *others) = data.split(","), recorded.split(",")
    is_folder = Path(path).is_dir() and is_recordings(Path(path))
    return ",".join([path, *others]) if is_folder and not own else data


def holds_recordings(text: str) -> bool:
    """Whether this names a folder of recordings, with or without options behind it."""
    path = parse_path(text)
    return path.is_dir() and (str(path) != text or is_recordings(path))


def parse_path(text: str) -> Path:
    """The folder of PATH,key=value,..."""
    return Path(text) if Path(text).is_dir() else Path(text.split(",")[0])


def is_recordings(path: Path) -> bool:
    """Whether a folder holds recordings: whole sets, or the first file in its folders is one."""
    folders = (entry for entry in sorted(path.iterdir()) if entry.is_dir())
    first = next((file for folder in folders for file in _below(folder, 2)), None)
    return bool(_sets(path)) or (first is not None and _known(first))


def recordings(source: Source, split: Split) -> Images:
    """Frames (N, T, C, Y, X) of a folder; every recording must have frames of one shape."""
    if not source.path.is_dir():
        raise DataError(f"data {source.path} is not a folder")
    if sets := _sets(source.path):
        return _whole_set(source, sets, split)
    root = next((source.path / name for name in _names(split) if (source.path / name).is_dir()), source.path)
    classes = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    files = [(file, i) for i, name in enumerate(classes) for file in sorted((root / name).iterdir()) if _known(file)]
    if not files:
        raise DataError(f"folder {root} holds no class folders with recordings ({', '.join(READERS)})")
    labels = np.array([label for _, label in files], np.int64)
    whole = Images(source.path.name, _stacked(source, [file for file, _ in files]), labels, classes)
    return held_out(whole, split) if root == source.path else shuffled(whole)


def _names(split: Split) -> tuple[str, ...]:
    return (split, split.capitalize(), *(("val",) if split == "test" else ()))


def _known(file: Path) -> bool:
    return file.suffix.lower() in READERS and file.is_file()


def _below(path: Path, depth: int) -> Iterator[Path]:
    """Files below a folder, in order; hidden ones are left out."""
    for entry in sorted(entry for entry in path.iterdir() if not entry.name.startswith(".")):
        if entry.is_dir() and depth:
            yield from _below(entry, depth - 1)
        elif entry.is_file():
            yield entry


def _stacked(source: Source, files: list[Path]) -> NDArray[np.uint8]:
    first = frames_of(source, files[0])
    if len(files) * first.size > MAX_SET_VALUES:
        raise DataError(
            f"{source.path}: {len(files)} recordings of {first.size} values, the limit is {MAX_SET_VALUES} together: "
            "use fewer frames, or fewer files"
        )
    whole = np.empty((len(files), *first.shape), np.uint8)
    for i, file in enumerate(files):
        frames = first if i == 0 else frames_of(source, file)
        if frames.shape != first.shape:
            raise DataError(f"{file} has frames {frames.shape}, {files[0].name} has {first.shape}")
        whole[i] = frames
    return whole


def frames_of(source: Source, file: Path) -> NDArray[np.uint8]:
    """Frames (T, C, Y, X) of one file: as it holds them, or of its events."""
    ready = _frames(file) if file.suffix in (".npy", ".npz") else None
    if ready is None:
        return binned(events_of(file, source.size), source.binning, str(file))
    return ready


def _frames(file: Path) -> NDArray[np.uint8] | None:
    """What a NumPy file holds as frames, under the name frames in .npz; None where it holds events."""
    try:
        loaded: Any = np.load(file, allow_pickle=False, mmap_mode="r" if file.suffix == ".npy" else None)
        array = loaded if file.suffix == ".npy" else (loaded["frames"] if "frames" in loaded.files else None)
    except Exception as error:  # NumPy raises many kinds for a damaged file
        raise DataError(f"frames {file} cannot be read: {str(error).splitlines()[0][:100]}") from None
    if array is None or array.dtype.names:
        return None
    if array.ndim != 4 or array.dtype != np.uint8 or not 0 < array.size <= MAX_FRAME_VALUES:
        raise DataError(f"frames {file} are {array.dtype} of shape {array.shape}, they must be (T, C, Y, X) uint8")
    return np.array(array)


# --- whole sets of spikes -------------------------------------------------------------------------------------------


def _sets(path: Path) -> list[Path]:
    return [file for file in sorted(path.glob("*.h5")) if "train" in file.stem or "test" in file.stem]


def _whole_set(source: Source, sets: list[Path], split: Split) -> Images:
    import h5py

    file = next((file for file in sets if split in file.stem), None)
    if file is None:
        raise DataError(f"folder {source.path} has no file *{split}*.h5")
    try:
        with h5py.File(file, "r") as content:
            return _spikes(source, file, content)
    except DataError:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise DataError(f"spikes {file} cannot be read: {str(error).splitlines()[0][:100]}") from None


def _spikes(source: Source, file: Path, content: Mapping[str, Any]) -> Images:
    times, units, labels = content["spikes/times"], content["spikes/units"], np.asarray(content["labels"], np.int64)
    if not len(times) == len(units) == len(labels) or not len(labels):
        raise DataError(f"spikes {file}: {len(times)} recordings have times, {len(units)} units, {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= 2**16:
        raise DataError(f"spikes {file}: labels lie in {labels.min()}..{labels.max()}, the limits are 0 to {2**16 - 1}")
    size = source.size or (1, UNITS)
    values = len(labels) * source.binning.frames * prod(size)
    if values > MAX_SET_VALUES:
        raise DataError(f"spikes {file}: frames of {values} values, the limit is {MAX_SET_VALUES}: use fewer frames")
    one = replace(source.binning, polarities=1)
    frames = np.stack(
        [binned(_unit_events(file, i, times[i], units[i], size), one, f"{file}, {i}") for i in range(len(labels))]
    )
    return Images(source.path.name, frames, labels, tuple(map(str, range(int(labels.max()) + 1))))


def _unit_events(file: Path, number: int, times: Any, units: Any, size: Size) -> Events:
    """Events of one recording: a unit is a column, times are seconds."""
    seconds, places = np.asarray(times, np.float64), np.asarray(units).astype(np.int64)
    if len(seconds) > MAX_EVENTS or not np.isfinite(seconds).all() or (np.abs(seconds) > 1e6).any():
        raise DataError(
            f"spikes {file}, {number}: times are not finite seconds below a million, or more than {MAX_EVENTS}"
        )
    t = np.rint(seconds * MICROSECONDS).astype(np.int64)
    order = np.argsort(t, kind="stable")
    zero = np.zeros(len(t), np.int64)
    return Events(t[order], places[order], zero, zero, size)
