"""Files of events, one recording each, by suffix. Sizes are looked at before anything is read; nothing is unpickled.

.bin: N-MNIST and N-Caltech101 (Orchard et al. 2015), 40 bits an event. .aedat: AEDAT 2.0 and 3.1 of a DVS128 (DVS128
Gesture). .aedat4: the package aedat (CIFAR10-DVS as published for tonic). .npy, .npz: structured events t, x, y, p.
.h5, .hdf5: datasets events/t, x, y, p as in DSEC. Written here, since tonic 1.7's readers take a time that grows with
the square of the number of overflow marks, and fail on AEDAT (three values where two are unpacked).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.base import hdf5
from randhet.base.errors import FileError
from randhet.train.data import arrays
from randhet.train.data.apart import reason
from randhet.train.data.events import MAX_EVENTS, Events
from randhet.train.data.images import DataError

Size = tuple[int, int]
NMNIST: Size = (34, 34)
DVS128: Size = (128, 128)
OVERFLOW_ROW, OVERFLOW_TIME = 240, 2**13
"""In .bin an event of row 240 says that the clock of later ones has gone round once more."""
MARK = 2**15
AEDAT3_HEADER = 28
POLARITY = 1
"""Kind of a packet of AEDAT 3.1."""


def events_of(file: Path, size: Size | None) -> Events:
    """Read one file; size (y, x) of the sensor where the format does not say it. DataError for what is damaged."""
    try:
        return READERS[file.suffix.lower()](file, size)
    except DataError:
        raise
    except FileError as error:  # of HDF5
        raise DataError(f"events {error}") from None
    except Exception as error:  # decoders raise many kinds for a damaged file, all mean the same to the user
        raise DataError(f"events {file} cannot be read: {reason(error)}") from None


def _sized(file: Path, size: Size | None, default: Size | None = None) -> Size:
    if size is None and default is None:
        raise DataError(f"events {file}: the file does not say the size of the sensor: give it as size=ROWSxCOLUMNS")
    return size or default or NMNIST


def _few(file: Path, count: int) -> None:
    if count > MAX_EVENTS:
        raise DataError(f"events {file}: {count} events, the limit is {MAX_EVENTS}")


def _bin(file: Path, size: Size | None) -> Events:
    length = file.stat().st_size
    if length % 5:
        raise DataError(f"events {file}: {length} bytes are no whole number of events of 5 bytes")
    _few(file, length // 5)
    raw = np.fromfile(file, np.uint8).reshape(-1, 5).astype(np.int64)
    x, y, p = raw[:, 0], raw[:, 1], raw[:, 2] >> 7
    marks = y == OVERFLOW_ROW
    # a mark counts for itself and all that follow it
    t = ((raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4]) + OVERFLOW_TIME * np.cumsum(marks)
    return Events(t[~marks], x[~marks], y[~marks], p[~marks], _sized(file, size, NMNIST))


def _aedat(file: Path, size: Size | None) -> Events:
    """Comment lines, the first of which says the version, then binary events."""
    _few(file, file.stat().st_size // 8)
    content = file.read_bytes()
    version, start = _header(file, content)
    if version.startswith("2"):
        words = _dvs128(file, content, start)
        address, t = words[:, 0].astype(np.int64), words[:, 1].astype(np.int64)
        return Events(t, address >> 8 & 127, address >> 1 & 127, address & 1, _sized(file, size, DVS128))
    if version.startswith("3"):
        words = _packets(file, content, start)
        address, t = words[:, 0].astype(np.int64), words[:, 1].astype(np.int32).astype(np.int64)
        return Events(t, address >> 17 & 8191, address >> 2 & 8191, address >> 1 & 1, _sized(file, size, DVS128))
    raise DataError(f"events {file} are AEDAT {version}, versions 2 and 3 are read: convert it, or give an .aedat4")


def _header(file: Path, content: bytes) -> tuple[str, int]:
    version, start = "", 0
    while content[start : start + 1] == b"#":
        end = content.find(b"\n", start)
        if end < 0:
            break
        line = content[start:end].decode("ascii", "replace").strip()
        version = line.removeprefix("#!AER-DAT") if line.startswith("#!AER-DAT") else version
        start = end + 1
        if line == "#!END-HEADER":
            break
    if not version:
        raise DataError(f"events {file} has no line #!AER-DAT that says its version")
    return version, start


def _dvs128(file: Path, content: bytes, start: int) -> NDArray[np.uint32]:
    """(n, 2) address and time of AEDAT 2.0; marks from outside, bit 15 of the address, are left out."""
    if (len(content) - start) % 8:
        raise DataError(f"events {file}: {len(content) - start} bytes are no whole number of events of 8 bytes")
    words = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2)
    if (words[:, 0] >= 2 * MARK).any():
        raise DataError(f"events {file}: addresses reach {int(words[:, 0].max())}, those of a DVS128 end at {MARK - 1}")
    return words[words[:, 0] < MARK]


def _packets(file: Path, content: bytes, start: int) -> NDArray[np.uint32]:
    """(n, 2) address and time of the valid polarity events of AEDAT 3.1: packets with a header of 28 bytes."""
    found = [np.zeros((0, 2), np.uint32)]
    while start < len(content):
        if start + AEDAT3_HEADER > len(content):
            raise DataError(f"events {file}: the last packet's header is cut off")
        kind, _, each, _, overflow, capacity, number, _ = struct.unpack_from("<HHIIIIII", content, start)
        end = start + AEDAT3_HEADER + each * number
        if end > len(content) or capacity != number or (kind == POLARITY and each != 8):
            raise DataError(f"events {file}: a packet of {number} events of {each} bytes does not fit the file")
        if overflow:
            raise DataError(f"events {file}: its clock has gone round {overflow} times, which is not read: cut it")
        if kind == POLARITY:
            words = np.frombuffer(content, "<u4", offset=start + AEDAT3_HEADER, count=2 * number).reshape(-1, 2)
            found.append(words[words[:, 0] & 1 == 1])
        start = end
    return np.concatenate(found)


def _aedat4(file: Path, size: Size | None) -> Events:
    from importlib.util import find_spec

    from randhet.train.data.aedat4 import decode

    if find_spec("aedat") is None:
        raise DataError(f"events {file} needs the package aedat: install the extra `randhet[events]`")
    _few(file, file.stat().st_size // 4)
    found = decode(file)
    return found._replace(size=size or found.size)


def _numpy(file: Path, size: Size | None) -> Events:
    found = arrays.read(file, tuple("txyp"))
    loaded: Any = found.get("", found)
    names = (loaded.dtype.names or ()) if "" in found else tuple(found)
    if not {"t", "x", "y", "p"} <= set(names):
        raise DataError(
            f"events {file} holds no t, x, y, p: save a structured array, or frames of shape (T, C, Y, X) as uint8"
        )
    return _columns(file, {key: loaded[key] for key in "txyp"}, _sized(file, size))


def _hdf5(file: Path, size: Size | None) -> Events:
    import h5py

    hdf5.verify(file)
    with h5py.File(file, "r") as content:
        group = content.get("events", content)
        columns = {key: group.get(key) if isinstance(group, h5py.Group) else None for key in "txyp"}
        for key, found in columns.items():
            if not isinstance(found, h5py.Dataset):
                raise DataError(f"events {file} has no dataset events/{key}")
            if found.ndim != 1:
                raise DataError(f"events {file}: events/{key} has {found.ndim} axes, it must have one")
            _few(file, len(found))
        whole = {key: found[()] for key, found in columns.items() if found is not None}
        return _columns(file, whole, _sized(file, size))


def _columns(file: Path, columns: dict[str, Any], size: Size) -> Events:
    for key, values in columns.items():
        if values.dtype.kind not in "iub" or values.ndim != 1:
            raise DataError(f"events {file}: {key} is {values.dtype} of shape {values.shape}, it must be integers (n,)")
        _few(file, len(values))
        if values.dtype == np.uint64 and len(values) and int(values.max()) >= 2**63:
            raise DataError(f"events {file}: {key} reaches {int(values.max())}, the limit is 2^63 - 1")
    t, x, y, p = (np.asarray(columns[key]).astype(np.int64) for key in "txyp")
    return Events(t, x, y, p, size)


READERS: dict[str, Callable[[Path, Size | None], Events]] = {
    ".bin": _bin,
    ".aedat": _aedat,
    ".aedat4": _aedat4,
    ".npy": _numpy,
    ".npz": _numpy,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
