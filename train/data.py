"""Image data as arrays of bytes: the embedded digits and folders of images. Needs no torch.

A folder is PATH/train/<class>/* and PATH/test/<class>/*, or PATH/<class>/* with a fixed, stratified fifth held out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fixed_point.errors import RandhetError
from fixed_point.files import replacing

Split = Literal["train", "test"]
HELD_OUT = 0.2
WORTH_KEEPING = 5000
"""From so many image files on, decoding them again would take seconds."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"})


class DataError(RandhetError):
    """Data that is missing, damaged or not of one size."""


@dataclass(frozen=True, eq=False)
class Images:
    """pixels (N, C, Y, X) uint8, labels (N,) int64 indices into classes."""

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int | None) -> Images:
        """The first `count` images; all of them for None. More than there are is an error."""
        if count is None:
            return self
        if not 1 <= count <= len(self):
            raise DataError(f"{count} samples asked for, {self.name} has 1 to {len(self)}")
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])

    def split(self, count: int) -> tuple[Images, Images]:
        """All but the last `count` images, and those."""
        if not 0 <= count < len(self):
            raise DataError(f"{count} images to be held out of {self.name}, which has {len(self)}")
        order = np.arange(len(self))
        return self.pick(order[: len(self) - count]), self.pick(order[len(self) - count :])

    def pick(self, order: NDArray[np.integer]) -> Images:
        """The images of these indices."""
        return replace(self, pixels=self.pixels[order], labels=self.labels[order])


def load(source: str | Path, split: Split = "test") -> Images:
    """Images of a registered name or of a folder."""
    if str(source) in NAMED:
        return NAMED[str(source)](split)
    if Path(source).is_dir():
        return folder(Path(source), split)
    raise DataError(f"data {str(source)!r} is neither a folder nor one of {', '.join(NAMED)}")


def digits(split: Split) -> Images:
    """scikit-learn's 1,797 handwritten digits (UCI), 1x8x8, grey levels 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.rint(found.images[:, None] * (255 / 16)).astype(np.uint8)
    whole = Images("digits", pixels, found.target.astype(np.int64), tuple(map(str, range(10))))
    return held_out(whole, split)


NAMED: dict[str, Callable[[Split], Images]] = {"digits": digits}


def held_out(whole: Images, split: Split) -> Images:
    """A fixed stratified split: of each class a fifth, at least one image, is the test part. Shuffled with seed 0."""
    order = np.random.default_rng(0).permutation(len(whole))
    test: list[int] = []
    for label in range(len(whole.classes)):
        members = order[whole.labels[order] == label]
        test += members[: max(1, round(HELD_OUT * len(members)))].tolist()
    inside = np.isin(order, test)
    return whole.pick(order[inside if split == "test" else ~inside])


def folder(path: Path, split: Split) -> Images:
    """Class folders of images, read in sorted order by a few threads; every image must have the same size and mode."""
    ready = path / split
    root = ready if ready.is_dir() else path
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [(file, label) for label, name in enumerate(classes) for file in _images(root / name)]
    if not files:
        raise DataError(f"folder {root} holds no class folders with images ({', '.join(sorted(SUFFIXES))})")
    labels = np.array([label for _, label in files], np.int64)
    whole = Images(path.name, pixels([file for file, _ in files]), labels, tuple(classes))
    if root is ready:
        return whole.pick(np.random.default_rng(0).permutation(len(whole)))
    return held_out(whole, split)


def pixels(files: Sequence[Path]) -> NDArray[np.uint8]:
    """(N, C, Y, X) of image files. Many files are decoded once and kept, until one of them changes."""
    kept = _cached(files) if len(files) >= WORTH_KEEPING else None
    if kept is not None and kept.exists():
        array: NDArray[np.uint8] = np.load(kept)
        return array
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(_read, files))
    for file, array in zip(files, arrays):
        if array.shape != arrays[0].shape:
            raise DataError(f"image {file} has shape {array.shape}, {files[0].name} has {arrays[0].shape}")
    whole = np.stack(arrays)
    if kept is not None:
        with replacing(kept) as temporary, temporary.open("wb") as stream:
            np.save(stream, whole)
    return whole


def _cached(files: Sequence[Path]) -> Path:
    """A file in the user's cache directory, named by the paths, sizes and times of the images."""
    digest = hashlib.sha256()
    for file in files:
        found = file.stat()
        digest.update(f"{file.resolve()} {found.st_size} {found.st_mtime_ns}\n".encode())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "randhet" / f"{digest.hexdigest()[:32]}.npy"


def _images(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)


def _read(file: Path) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            grey = image.mode in ("1", "L", "I", "I;16", "F", "LA")
            array = np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image {file} cannot be read: {error}") from None
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the pixels in 0..1, what training normalises with."""
    mean = images.pixels.mean(axis=(0, 2, 3), dtype=np.float64) / 255
    std = images.pixels.std(axis=(0, 2, 3), dtype=np.float64) / 255
    return tuple(mean.tolist()), tuple(np.maximum(std, 1e-3).tolist())
