"""MNIST-like idx files: big-endian magic 0, 0, type, axes; the length of each axis; the bytes. Plain or gzipped.

Source: the format description on Y. LeCun's MNIST page; EMNIST, Fashion-MNIST and KMNIST use the same.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.images import DataError, Images, Split

UNSIGNED_BYTE = 8
SPLITS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("t10k", "test")}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an idx file of unsigned bytes."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
    except (OSError, EOFError, struct.error) as error:
        raise DataError(f"{path} is not a whole idx file: {error}") from None
    if zero != 0 or kind != UNSIGNED_BYTE:
        raise DataError(f"{path} is not an idx file of unsigned bytes")
    start, size = 4 + 4 * axes, int(np.prod([int(length) for length in shape], dtype=object))
    if len(content) != start + size:
        raise DataError(f"{path} holds {len(content) - start} bytes of data, its header says {size}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


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
