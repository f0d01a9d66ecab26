"""Folders of recordings: files of events or of frames by class, and HDF5 files that hold a whole set of spikes.

PATH/train/<class>/* and PATH/test/<class>/* (Train and Test too), or PATH/<class>/* with a stratified fifth held out;
PATH/*train*.h5 and PATH/*test*.h5 with spikes/times (seconds), spikes/units and labels, as in SHD and SSC (`spikes`).
How events become frames is said behind the path: PATH,frames=16,by=time,size=34x34,polarities=2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.train.data import arrays
from randhet.train.data.apart import reason
from randhet.train.data.event_files import READERS, Size, events_of
from randhet.train.data.events import MAX_FRAME_VALUES, MAX_SET_VALUES, Binning, binned
from randhet.train.data.images import DataError, Images, Split, held_out, shuffled
from randhet.train.data.spikes import of_set

TONIC = "tonic:"
"""How the name of a set of tonic begins."""


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
            if min(rows, columns) < 1:
                raise ValueError
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
    ours = path.startswith(TONIC) or (Path(path).is_dir() and is_recordings(Path(path)))
    return ",".join([path, *others]) if ours and not own else data


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
    root = _part(source.path, split) or source.path
    classes = classes_in(root if root == source.path else _part(source.path, "train") or root)
    if foreign := set(classes_in(root)) - set(classes):
        raise DataError(f"folder {root} has the class {min(foreign)!r}, the training data has none of this name")
    names = [(name, i) for i, name in enumerate(classes) if (root / name).is_dir()]
    files = [(file, i) for name, i in names for file in sorted((root / name).iterdir()) if _known(file)]
    if not files:
        raise DataError(f"folder {root} holds no class folders with recordings ({', '.join(READERS)})")
    labels = np.array([label for _, label in files], np.int64)
    whole = Images(source.path.name, _stacked(source, [file for file, _ in files]), labels, classes)
    return held_out(whole, split) if root == source.path else shuffled(whole)


def _part(path: Path, split: Split) -> Path | None:
    """The folder of a part, where there is one."""
    names = (split, split.capitalize(), *(("val",) if split == "test" else ()))
    return next((path / name for name in names if (path / name).is_dir()), None)


def classes_in(root: Path) -> tuple[str, ...]:
    """The class folders, in the order of their numbers where all of them are whole numbers."""
    names = [entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return tuple(sorted(names, key=int if all(name.isdecimal() for name in names) else str))


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
    ready = _frames(file) if file.suffix.lower() in (".npy", ".npz") else None
    if ready is None:
        return binned(events_of(file, source.size), source.binning, str(file))
    return ready


def _frames(file: Path) -> NDArray[np.uint8] | None:
    """What a NumPy file holds as frames, under the name frames in .npz; None where it holds events."""
    try:
        array = next(iter(arrays.read(file, ("frames",)).values()), None)
    except DataError:
        raise
    except Exception as error:  # NumPy raises many kinds for a damaged file
        raise DataError(f"frames {file} cannot be read: {reason(error)}") from None
    if array is None or array.dtype.names:
        return None
    if array.ndim != 4 or array.dtype != np.uint8 or not 0 < array.size <= MAX_FRAME_VALUES:
        raise DataError(f"frames {file} are {array.dtype} of shape {array.shape}, they must be (T, C, Y, X) uint8")
    return np.array(array)


# --- whole sets of spikes -------------------------------------------------------------------------------------------


def _sets(path: Path) -> list[Path]:
    return [file for file in sorted(path.glob("*.h5")) if "train" in file.stem or "test" in file.stem]


def _whole_set(source: Source, sets: list[Path], split: Split) -> Images:
    file = next((file for file in sets if split in file.stem), None)
    if file is None:
        raise DataError(f"folder {source.path} has no file *{split}*.h5")
    frames, labels = of_set(file, source.binning, source.size)
    return Images(source.path.name, frames, labels, tuple(map(str, range(int(labels.max()) + 1))))
