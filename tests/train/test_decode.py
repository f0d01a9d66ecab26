"""Image files of other kinds than 8 bit grey and RGB: the right bytes where they are exact, else one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from randhet.train.data.decode import decoded
from randhet.train.data.images import DataError, Images

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_is_the_nearest_of_eight(tmp_path: Path, ending: str) -> None:
    """Clipped at 255 before: all but the darkest 256 of 65,536 levels were white."""
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    found = decoded(saved(tmp_path / f"a.{ending}", Image.fromarray(values)))
    assert found.tolist() == [[[0, 0, 1, 1, 128, 255]]]
    exact = GREY.astype(np.uint16) * 257
    assert np.array_equal(decoded(saved(tmp_path / f"b.{ending}", Image.fromarray(exact))), GREY[None])


def test_a_rotated_photograph_stands_upright(tmp_path: Path) -> None:
    """EXIF orientation 6: the first row of the picture is the right column of what is stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("png", "tif", "webp"):
        options = {"lossless": True} if ending == "webp" else {}
        path = saved(tmp_path / f"a.{ending}", Image.fromarray(COLOUR), exif=exif, **options)
        assert np.array_equal(decoded(path), np.rot90(COLOUR, -1).transpose(2, 0, 1)), ending


def test_opaque_alpha_is_dropped_and_transparency_refused(tmp_path: Path) -> None:
    alpha = np.full((6, 4, 1), 255, np.uint8)
    opaque = Image.fromarray(np.concatenate([COLOUR, alpha], 2))
    assert np.array_equal(decoded(saved(tmp_path / "a.png", opaque)), COLOUR.transpose(2, 0, 1))
    grey = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(alpha[..., 0])))
    assert np.array_equal(decoded(saved(tmp_path / "g.png", grey)), GREY[None])
    alpha[2, 1:3] = 0
    with pytest.raises(DataError, match=r"b\.png has 2 pixels that are not opaque"):
        decoded(saved(tmp_path / "b.png", Image.fromarray(np.concatenate([COLOUR, alpha], 2))))
    palette = Image.fromarray(np.array([[0, 1, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert decoded(saved(tmp_path / "p.png", palette))[:, 0, 1].tolist() == [40, 50, 60]
    with pytest.raises(DataError, match="2 pixels that are not opaque"):
        decoded(saved(tmp_path / "q.png", palette, transparency=1))


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [
        ("f.tif", Image.fromarray(GREY.astype(np.float32) / 255), "floating-point values"),
        ("i.tif", Image.fromarray(GREY.astype(np.int32) * 70_000), "32 bit values"),
        ("c.tif", Image.fromarray(COLOUR).convert("CMYK"), "CMYK"),
    ],
)
def test_what_has_no_exact_bytes_is_refused(tmp_path: Path, name: str, image: Image.Image, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decoded(saved(tmp_path / name, image))


def test_several_frames_are_not_one_picture(tmp_path: Path) -> None:
    frames = [Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)]
    for ending in ("tif", "gif"):
        with pytest.raises(DataError, match="2 frames"):
            decoded(saved(tmp_path / f"a.{ending}", frames[0], save_all=True, append_images=frames[1:]))


def test_colours_of_sixteen_bits_are_refused(tmp_path: Path) -> None:
    """Written here byte by byte: Pillow cannot write such a file, but reads its high bytes."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">6H", 256, 511, 0, 1, 2, 3)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    file = tmp_path / "a.png"
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(DataError, match="colours of 16 bits"):
        decoded(file)


def test_labels_follow_the_names_of_classes() -> None:
    images = Images("mine", np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 2, 0]), ("cat", "dog", "owl"))
    assert images.as_classes((), "the network") is images
    assert images.as_classes(images.classes, "the network") is images
    moved = images.as_classes(("owl", "bee", "cat", "dog"), "the network")
    assert moved.classes == ("owl", "bee", "cat", "dog")
    assert moved.labels.tolist() == [2, 3, 0, 2]
    with pytest.raises(DataError, match="data mine has the class 'owl', the network has cat, dog: give"):
        images.as_classes(("cat", "dog"), "the network")
