"""MNIST-like idx files: big-endian magic 0, 0, type, axes; the length of each axis; the bytes. Plain or gzipped.

Source: the format description on Y. LeCun's MNIST page; EMNIST, Fashion-MNIST and KMNIST use the same.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from randhet.train.data.images import DataError, Images, Split

UNSIGNED_BYTE = 8
MAX_BYTES = 2**31
"""Of one file; the largest set in use, EMNIST, has 0.64 GB."""
MAX_AXES = 8
PIECE = 2**24
SPLITS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("t10k", "test")}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an idx file of unsigned bytes; no more is unpacked than its header says, MAX_BYTES at most."""
    try:
        with cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            zero, kind, axes = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{axes}I", file.read(4 * axes))
            if zero != 0 or kind != UNSIGNED_BYTE or not 1 <= axes <= MAX_AXES or prod(shape) > MAX_BYTES:
                raise DataError(f"{path} is not an idx file of unsigned bytes, at most {MAX_AXES} axes and {MAX_BYTES}")
            content = _at_most(file, prod(shape) + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is not a whole idx file: {error}") from None
    if len(content) != prod(shape):
        held = "more" if len(content) > prod(shape) else str(len(content))
        raise DataError(f"{path} holds {held} bytes of data, its header says {prod(shape)}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _at_most(file: IO[bytes], size: int) -> bytes:
    """Up to `size` bytes, in pieces: what is not there is not allocated either."""
    parts: list[bytes] = []
    while size and (piece := file.read(min(size, PIECE))):
        parts.append(piece)
        size -= len(piece)
    return b"".join(parts)


def _find(path: Path, split: Split, what: str) -> Path | None:
    """The file of a split, by names such as train-images-idx3-ubyte, t10k-labels.idx1-ubyte.gz."""
    names = (file for file in sorted(path.iterdir()) if "idx" in file.name and what in file.name)
    return next((file for file in names if any(word in file.name for word in SPLITS[split])), None)


def is_idx_folder(path: Path) -> bool:
    """Whether a folder has images in idx files."""
    return any(_find(path, split, "images") for split in SPLITS)


def idx_folder(path: Path, split: Split) -> Images:
    """Images (N, 1, Y, X) and labels of a folder of idx files."""
    files = [_find(path, split, what) for what in ("images", "labels")]
    if None in files:
        raise DataError(f"folder {path} lacks images or labels of the {split} part in idx files")
    pixels, labels = (read_idx(file) for file in files if file is not None)
    if pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
        raise DataError(f"folder {path}: images of shape {pixels.shape} and labels of shape {labels.shape} do not fit")
    if not len(labels):
        raise DataError(f"folder {path} holds no images of the {split} part")
    classes = tuple(str(label) for label in range(int(labels.max()) + 1))
    return Images(path.name, np.ascontiguousarray(pixels[:, None]), labels.astype(np.int64), classes)
