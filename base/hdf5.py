"""What an HDF5 file from anyone must be before it is read: hard links only, no loops, and no more than it says it is.

A chunk of 64 kB that unpacks to gigabytes, a shape without data behind it, data in another file: each is refused from
the headers alone, before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from struct import Struct

import h5py
import numpy as np

from randhet.base.errors import FileError

MAX_ENTRIES = 100_000
"""Groups and datasets of one file, and texts of one dataset."""
MAX_DEPTH = 12
MAX_PLACES = 10_000
"""Places of one file that may read like the same attribute."""
MAX_BYTES = 2**30
"""Unpacked bytes of one file that may be had whatever its size; beyond that, at most the file's own size of data."""
KINDS = "biufSUO"
ENTRY = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
"""How a dataset or an attribute holds a text of any length: its bytes, and where in the file's heap they are."""
MESSAGE = Struct("<BBHHH")
"""How an attribute begins in the file: version, flags, sizes of its name, its type and its shape."""
TEXT = 9
"""Class of the type of texts and lists of any length."""
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
"""Filters that are undone, by their registered numbers; the rest of HDF5's and all plug-ins are not."""


def verify(path: str | Path, packed: bool = True) -> None:
    """FileError where the file is missing, not HDF5, or could cost more memory or time than its size is worth.

    packed: whether datasets may be compressed, up to MAX_BYTES; without, every byte that is read lies in the file.
    """
    if not Path(path).is_file():
        raise FileError(f"cannot read {path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            _bounded(file, path, packed)
    except FileError:
        raise
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError, ValueError for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise FileError(f"{path} is not an undamaged HDF5 file ({reason})") from None


def _bounded(file: h5py.File, path: str | Path, packed: bool) -> None:
    """The sum of what reading every dataset takes stays within the limit."""
    size = Path(path).stat().st_size
    allowed, spent = max(MAX_BYTES, size), 0
    for name, dataset in datasets(file, path):
        _place(name, dataset, path, packed)
        _few_texts(name, dataset, path)
        spent += _bytes(dataset, size, allowed - spent)
        if spent > allowed:
            raise FileError(f"{path}: {name} unpacks to more than the {allowed} bytes that are allowed")


def datasets(file: h5py.File, path: str | Path) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset with its name; groups are walked once, so that a group inside itself is found."""
    waiting: list[tuple[str, h5py.Group, int]] = [("", file, 0)]
    visited = {address(file)}
    count = 0
    while waiting:
        prefix, group, depth = waiting.pop()
        for key in group:
            name, count = f"{prefix}/{key}", count + 1
            if count > MAX_ENTRIES or depth > MAX_DEPTH:
                raise FileError(f"{path}: more than {MAX_ENTRIES} entries or {MAX_DEPTH} levels of groups")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise FileError(f"{path}: {name} is a link, which is not allowed")
            member = group[key]
            if isinstance(member, h5py.Dataset):
                yield name, member
            elif isinstance(member, h5py.Group):
                if address(member) in visited:
                    raise FileError(f"{path}: group {name} is reached twice, which is not allowed")
                visited.add(address(member))
                waiting.append((name, member, depth + 1))
            else:
                raise FileError(f"{path}: {name} is neither a group nor a dataset")


def address(group: h5py.Group) -> int:
    """Where a group's header lies in its file."""
    return int(h5py.h5o.get_info(group.id).addr)


def _place(name: str, dataset: h5py.Dataset, path: str | Path, packed: bool) -> None:
    """FileError where a dataset's data is elsewhere, missing, of a strange type or behind a strange filter."""
    if dataset.shape is None or not readable(dataset.dtype):
        raise FileError(f"{path}: {name} is {dataset.dtype} of shape {dataset.shape}, which is not read")
    settings = dataset.id.get_create_plist()
    if settings.get_external_count() or settings.get_layout() == h5py.h5d.VIRTUAL:
        raise FileError(f"{path}: {name} keeps its data in another file, which is not allowed")
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    strange = [number for number in filters if not packed or number not in FILTERS]
    if strange:
        raise FileError(f"{path}: {name} is behind HDF5 filter {strange[0]}, which is not allowed")
    size, held = prod(dataset.shape) * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if held < size if not filters and dataset.dtype.kind != "O" else size and not held:
        raise FileError(f"{path}: {name} says {size} bytes and holds {held}")


def readable(kind: np.dtype) -> bool:
    """Numbers and texts; of what Python sees as an object, HDF5 ends the process at a damaged sequence or reference."""
    return kind.kind in KINDS and (kind.kind != "O" or h5py.check_string_dtype(kind) is not None)


def _few_texts(name: str, dataset: h5py.Dataset, path: str | Path) -> None:
    """Not too many texts, as they are read one by one to see how long they are, and none longer than the file."""
    if dataset.dtype.kind != "O":
        return
    count, size = max(prod(dataset.shape), prod(dataset.chunks or ())), Path(path).stat().st_size
    if count > MAX_ENTRIES:
        raise FileError(f"{path}: {name} has room for {count} texts, the limit is {MAX_ENTRIES}")
    longest = _longest_text(name, dataset, path)
    if longest > size:
        raise FileError(f"{path}: {name} has a text of {longest} bytes, the file has {size}")


def _longest_text(name: str, dataset: h5py.Dataset, path: str | Path) -> int:
    """The largest length that the texts' entries give. HDF5 would allocate it before it looks for the text."""
    begin, expected = dataset.id.get_offset(), prod(dataset.shape) * ENTRY.itemsize
    if not expected:
        return 0
    if begin is None or dataset.id.get_storage_size() != expected:
        raise FileError(f"{path}: {name} keeps its texts in chunks or with short addresses, which is not read")
    with Path(path).open("rb") as file:
        file.seek(begin)
        content = file.read(expected)
    if len(content) < expected:
        raise FileError(f"{path}: {name} lies beyond the end of the file")
    return int(np.frombuffer(content, ENTRY)["length"].max())


def text_of_attribute(path: str | Path, name: str) -> int:
    """The largest length that a text of any length gives which is an attribute of this name, alone, in any group.

    HDF5 allocates it before it looks for the text, and does not tell where an attribute lies. But it lies in one piece
    and unpacked, so it is at one of the places that read like an attribute of this name; FileError where none does.
    """
    with Path(path).open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        # a heap begins with FRHP, version 0, 2 bytes for its identifiers and 2 for its filters' size
        if any(content[offset + 7 : offset + 9].strip(b"\0") for offset in _places(content, b"FRHP\0", path)):
            raise FileError(f"{path}: keeps attributes behind HDF5 filters, which is not allowed")
        key = name.encode() + b"\0"
        lengths = [length for offset in _places(content, key, path) for length in _lengths(content, offset, len(key))]
    if not lengths:
        raise FileError(f"{path}: attribute {name} is kept in a way that is not read")
    return max(lengths)


def _places(content: mmap, piece: bytes, path: str | Path) -> Iterator[int]:
    """Everywhere the piece begins; FileError where that is too often to be looked at one by one."""
    offset = content.find(piece)
    for _ in range(MAX_PLACES):
        if offset < 0:
            return
        yield offset
        offset = content.find(piece, offset + 1)
    raise FileError(f"{path}: {piece!r} is in it more than {MAX_PLACES} times")


def _lengths(content: mmap, offset: int, size: int) -> Iterator[int]:
    """What the text of an attribute whose name begins at offset says is its length, if there can be such a thing.

    Version 3 has one byte more before the name; version 1 fills name, type and shape up to a multiple of 8 bytes.
    """
    for version, begin in ((1, offset - 8), (2, offset - 8), (3, offset - 9)):
        stated, flags, *sizes = MESSAGE.unpack_from(content, max(begin, 0))
        if begin < 0 or stated != version or sizes[0] != size:
            continue
        steps = [-(-length // 8) * 8 for length in sizes] if version == 1 else sizes
        kind, value = offset + steps[0], offset + sum(steps)
        shared = version > 1 and flags & 1  # then the type is elsewhere
        if value + ENTRY.itemsize <= len(content) and (shared or content[kind] & 15 == TEXT):
            yield int.from_bytes(content[value : value + 4], "little")


def _bytes(dataset: h5py.Dataset, file_size: int, allowed: int) -> int:
    """Bytes that reading a dataset takes: whole chunks, and texts, of which many may be one text in the file."""
    count = max(prod(dataset.shape), prod(dataset.chunks or ()))
    if dataset.dtype.kind != "O":
        return count * dataset.dtype.itemsize
    if count * file_size <= allowed:
        return count * min(file_size, 64)
    spent = 0
    for index in np.ndindex(dataset.shape):
        spent += len(dataset[index]) + 64
        if spent > allowed:
            break
    return spent
