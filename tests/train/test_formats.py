"""Published layouts of data: TinyImageNet's folders, idx files, torchvision's sets, from files written here."""

from __future__ import annotations

import gzip
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from randhet.train.data.sources import DataError, load


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)


def test_tiny_imagenet_as_published(tmp_path: Path) -> None:
    """train/<class>/images, and val/images with a table of classes; test/images without classes is left alone."""
    for i, name in enumerate(("n01", "n02")):
        picture(tmp_path / "train" / name / "images" / f"{name}_0.png", 10 * i)
    for i in range(3):
        picture(tmp_path / "val" / "images" / f"val_{i}.png", 100 + i)
    picture(tmp_path / "test" / "images" / "test_0.png", 255)
    rows = ["val_0.png\tn02\t0\t0\t3\t3", "val_1.png\tn01\t0\t0\t3\t3", "val_2.png\tn02\t0\t0\t3\t3"]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    train, test = load(tmp_path, "train"), load(tmp_path, "test")
    assert train.classes == test.classes == ("n01", "n02")
    assert {(int(p[0, 0, 0]), int(label)) for p, label in zip(train.pixels, train.labels)} == {(0, 0), (10, 1)}
    assert {(int(p[0, 0, 0]), int(label)) for p, label in zip(test.pixels, test.labels)} == {
        (100, 1),
        (101, 0),
        (102, 1),
    }
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.png\tn09\t0\t0\t3\t3\n")
    with pytest.raises(DataError, match="class without a folder in train: 'n09'"):
        load(tmp_path, "test")


IMAGES = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([2, 0, 1], np.uint8)


def idx(array: np.ndarray) -> bytes:
    """The format's header, and the bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_files(folder: Path, packed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "t10k"):
        for name, array in (("images-idx3-ubyte", IMAGES), ("labels-idx1-ubyte", LABELS)):
            file = folder / f"{split}-{name}"
            if packed:
                file.with_name(file.name + ".gz").write_bytes(gzip.compress(idx(array)))
            else:
                file.write_bytes(idx(array))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_idx_files(packed: bool, tmp_path: Path) -> None:
    idx_files(tmp_path, packed)
    found = load(tmp_path, "test")
    assert np.array_equal(found.pixels, IMAGES[:, None]) and np.array_equal(found.labels, LABELS)
    assert found.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (idx(IMAGES)[:-1], "holds 2351 bytes of data, its header says 2352"),
        (idx(IMAGES)[:9], "is not a whole idx file"),
        (struct.pack(">HBB2I", 0, 13, 2, 1, 1) + b"\0" * 4, "is not an idx file of unsigned bytes"),
        (idx(IMAGES[0]), "do not fit"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "at most 8 axes and 2147483648"),
    ],
    ids=["short", "cut header", "floats", "two axes", "lying"],
)
def test_damaged_idx_files_are_one_sentence(content: bytes, words: str, tmp_path: Path) -> None:
    idx_files(tmp_path, packed=False)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=words):
        load(tmp_path, "test")


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_a_set_that_torchvision_reads(tmp_path: Path) -> None:
    idx_files(tmp_path / "MNIST" / "raw", packed=False)
    found = load(f"mnist:{tmp_path}", "train")
    assert np.array_equal(found.pixels, IMAGES[:, None]) and np.array_equal(found.labels, LABELS)
    assert len(found.classes) == 10


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_without_torchvision_the_sentence_says_what_to_install() -> None:
    with pytest.raises(DataError, match=r"needs torchvision: install the extra `randhet\[vision\]`"):
        load("cifar10")
