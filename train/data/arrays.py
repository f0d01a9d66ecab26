"""NumPy files from anyone: an array is allocated after what it says of itself was looked at; nothing is unpickled.

A header in a compressed .npz may claim terabytes, and a few MB unpack to gigabytes: an array may claim no more than its
bytes can hold, and an archive has the limits that HDF5 files have.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from randhet.base import hdf5
from randhet.train.data.images import DataError

Array = NDArray[Any]
HEADERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
PACKED = 1100
"""A byte of deflate stands for at most 1,032."""
MAX_ARRAYS = 1000


def read(file: Path, wanted: tuple[str, ...]) -> dict[str, Array]:
    """Arrays of a .npz by name, those of `wanted` that it has, or the one of a .npy under the name "".

    A .npy is mapped, and read where it is looked at. DataError for an array that claims more than there is or holds
    objects, and for an archive that unpacks to more than MAX_BYTES and its own size; other errors of NumPy for a
    damaged file pass.
    """
    size = file.stat().st_size
    if file.suffix.lower() == ".npy":
        with file.open("rb") as stream:
            shape, kind, order = _header(file, "it", stream, size)
            begin = stream.tell()
        return {"": np.memmap(file, kind, "r", begin, shape, order) if prod(shape) else np.zeros(shape, kind)}
    left, found = max(hdf5.MAX_BYTES, size), {}
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        if len(entries) > MAX_ARRAYS:
            raise DataError(f"{file} holds {len(entries)} arrays, the limit is {MAX_ARRAYS}")
        for name in wanted:
            if name in entries:
                found[name] = _unpacked(file, archive, entries[name], left)
                left -= found[name].nbytes
    return found


def _unpacked(file: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> Array:
    """One array of an archive, of at most so many bytes."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{file}: {entry.filename} is compressed by method {entry.compress_type}: use np.savez")
    held = min(entry.file_size, PACKED * file.stat().st_size)
    with archive.open(entry) as stream:
        shape, kind, order = _header(file, entry.filename, stream, held)
        if (size := prod(shape) * kind.itemsize) > left:
            raise DataError(f"{file}: {entry.filename} unpacks to {size} bytes, the limit is {left}: use np.savez")
        content = stream.read(size)
    return np.frombuffer(content, kind).reshape(shape, order=order)


def _header(file: Path, name: str, stream: IO[bytes], held: int) -> tuple[tuple[int, ...], np.dtype[Any], Any]:
    """Shape, type and order of the array that a stream goes on with, which has at most so many bytes."""
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise DataError(f"{file}: {name} has version {version} of NumPy's format, which is not read")
    shape, fortran, kind = HEADERS[version](stream)
    size = prod(shape) * kind.itemsize
    if kind.hasobject or min(shape, default=0) < 0:
        raise DataError(f"{file}: {name} is {kind} of shape {shape}, which is not read")
    if size > held:
        raise DataError(f"{file}: {name} says {size} bytes, it holds at most {held}")
    return shape, kind, "F" if fortran else "C"
