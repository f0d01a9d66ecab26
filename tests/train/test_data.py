"""Data: digits as published, folders as they lie, and one sentence for whatever is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from randhet.train.data import sources
from randhet.train.data.sources import DataError, channel_statistics, load


def test_digits_are_scikit_learns_images_split_once() -> None:
    train, test = load("digits", "train"), load("digits", "test")
    assert len(train) + len(test) == 1797 and train.pixels.shape[1:] == (1, 8, 8) and train.pixels.dtype == np.uint8
    original = {image.tobytes() for image in load_digits().images}
    both = np.concatenate([train.pixels, test.pixels])
    assert {np.rint(image[0] / (255 / 16)).tobytes() for image in both} == original
    shares = np.bincount(test.labels) / np.bincount(np.concatenate([train.labels, test.labels]))
    assert (np.abs(shares - 0.2) < 0.005).all()
    assert np.array_equal(load("digits", "test").pixels, test.pixels)


def test_digits_where_the_file_lies_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    near = load("digits")
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    far = load("digits")
    assert np.array_equal(near.pixels, far.pixels) and np.array_equal(near.labels, far.labels)
    assert near.labels.dtype == far.labels.dtype == np.int64


def write(path: Path, shape: tuple[int, ...] = (6, 5, 3), value: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def test_folder_with_its_own_split(tmp_path: Path) -> None:
    for split, value in (("train", 10), ("test", 200)):
        for name in ("cat", "dog"):
            write(tmp_path / split / name / "a.png", value=value)
    found = load(tmp_path, "test")
    assert found.pixels.shape == (2, 3, 6, 5) and (found.pixels == 200).all() and found.classes == ("cat", "dog")


def test_folder_without_a_split_holds_out_a_stratified_fifth(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(10):
            write(tmp_path / name / f"{i}.png", (4, 4), i)
    train, test = load(tmp_path, "train"), load(tmp_path, "test")
    assert np.bincount(train.labels).tolist() == [8, 8] and np.bincount(test.labels).tolist() == [2, 2]
    assert train.pixels.shape[1:] == (1, 4, 4)


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor one of"):
        load(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds no class folders"):
        load(tmp_path)
    write(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"2\.png cannot be read"):
        load(tmp_path)
    write(tmp_path / "a" / "2.png", (9, 9, 3))
    with pytest.raises(DataError, match=r"2\.png has shape \(3, 9, 9\)"):
        load(tmp_path)


def test_take_and_statistics() -> None:
    images = load("digits", "test")
    assert len(images.take(5)) == 5 and images.take(None) is images
    with pytest.raises(DataError, match="999999 samples are required"):
        images.take(999_999)
    mean, std = channel_statistics(images)
    flat = images.pixels.astype(float).ravel() / 255
    assert abs(mean[0] - flat.mean()) < 1e-12 and abs(std[0] - flat.std()) < 1e-12
