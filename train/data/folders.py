"""Folders of image files, decoded by a few threads; many files are decoded once and kept.

PATH/train/<class>/* and PATH/test/<class>/* (or val); PATH/<class>/* with a fixed, stratified fifth held out;
TinyImageNet as published: train/<class>/images/*, and val/images/* with val/val_annotations.txt.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from randhet.base.files import replacing
from randhet.train.data.decode import decoded
from randhet.train.data.images import DataError, Images, Split, held_out, shuffled

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"})
WORTH_KEEPING = 5000
"""From so many image files on, decoding them again would take seconds."""
ANNOTATIONS = "val_annotations.txt"

Labelled = list[tuple[Path, int]]


def folder(path: Path, split: Split) -> Images:
    """Images of a folder in one of the layouts above; every image must have the same size."""
    root = next((path / name for name in (split, "val") if (path / name).is_dir() and (path / "train").is_dir()), path)
    ready = root != path or (path / split).is_dir()
    root = path / split if (path / split).is_dir() and root == path else root
    classes = _classes(path / "train" if (path / "train").is_dir() else root)
    annotated = split == "test" and (path / "val" / ANNOTATIONS).is_file()
    files = _annotated(path / "val", classes) if annotated else _by_class(root, classes)
    if not files:
        raise DataError(f"folder {root} holds no class folders with images ({', '.join(sorted(SUFFIXES))})")
    labels = np.array([label for _, label in files], np.int64)
    whole = Images(path.name, pixels([file for file, _ in files]), labels, classes)
    return shuffled(whole) if ready else held_out(whole, split)


def _classes(root: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")))


def _by_class(root: Path, classes: Sequence[str]) -> Labelled:
    labelled: Labelled = []
    for label, name in enumerate(classes):
        inner = root / name / "images"
        labelled += [(file, label) for file in _files(inner if inner.is_dir() else root / name)]
    return labelled


def _annotated(root: Path, classes: Sequence[str]) -> Labelled:
    """Files of one folder whose classes a table names: file, class, and what does not matter here."""
    try:
        rows = [line.split("\t") for line in (root / ANNOTATIONS).read_text("utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{root / ANNOTATIONS} cannot be read: {error}") from None
    number = {name: label for label, name in enumerate(classes)}
    try:
        return sorted((root / "images" / row[0], number[row[1]]) for row in rows)
    except (IndexError, KeyError) as error:
        raise DataError(f"{root / ANNOTATIONS} names a class without a folder in train: {error}") from None


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else []


def pixels(files: Sequence[Path]) -> NDArray[np.uint8]:
    """(N, C, Y, X) of image files. Many files are decoded once and kept, until one of them changes."""
    kept = _cached(files) if len(files) >= WORTH_KEEPING else None
    if kept is not None and kept.exists():
        array: NDArray[np.uint8] = np.load(kept)
        return array
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(decoded, files))
    whole = np.stack(_alike(files, arrays))
    if kept is not None:
        with replacing(kept) as temporary, temporary.open("wb") as stream:
            np.save(stream, whole)
    return whole


def _cached(files: Sequence[Path]) -> Path:
    """A file in the user's cache directory, named by the paths, sizes and times of the images."""
    digest = hashlib.sha256(b"decoded as since 0.2")
    for file in files:
        status = file.stat()
        digest.update(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "randhet" / f"{digest.hexdigest()[:32]}.npy"


def _alike(files: Sequence[Path], arrays: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Images of one size; where any has colour, grey ones get three equal channels."""
    channels = max(array.shape[0] for array in arrays)
    for file, array in zip(files, arrays):
        if array.shape[1:] != arrays[0].shape[1:]:
            raise DataError(f"image {file} has shape {array.shape}, {files[0].name} has {arrays[0].shape}")
    return [np.repeat(array, channels, 0) if len(array) < channels else array for array in arrays]
