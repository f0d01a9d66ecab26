"""One image file as bytes: what cannot be shown in 8 bits of grey or colour exactly is refused, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from randhet.train.data.images import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 2**24
"""Of one image, 16 million: 50 MB decoded."""
GREY, COLOUR, DEEP = ("1", "L"), ("RGB", "P"), ("I;16", "I;16B", "I;16L", "I;16N")
ALPHA = {"LA": "L", "La": "L", "RGBA": "RGB", "RGBa": "RGB", "RGBX": "RGB", "PA": "RGB"}
SIXTEEN = ("PNG", "PPM")
"""Formats whose integers have at most 16 bits, though Pillow may read them into 32."""
REFUSED = {
    "F": "holds floating-point values, whose black and white no one states: save it with 8 or 16 bits",
    "I": "holds 32 bit values, whose black and white no one states: save it with 8 or 16 bits",
    "CMYK": "is in CMYK, whose colours depend on a printer: save it as RGB",
}


def decoded(file: Path) -> NDArray[np.uint8]:
    """(1 or 3, Y, X) uint8 of one file, upright as its EXIF orientation says; 16 bit grey becomes rint(v / 257).

    DataError for what is damaged or too large, for floating-point, 32 bit and CMYK values, colour of 16 bits, for
    pixels that are not opaque, and for a file of several frames. Decoders are Pillow's own: its EPS, for one, would run
    another program.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=FORMATS) as image:
            _check(file, image)
            array = _bytes(file, ImageOps.exif_transpose(image), image.format in SIXTEEN)
    except DataError:
        raise
    except Exception as error:  # decoders raise many kinds for a damaged file, all mean the same to the user
        raise DataError(f"image {file} cannot be read: {str(error) or type(error).__name__}") from None
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _check(file: Path, image: Image) -> None:
    """Refuse, before decoding, what is too large or has more in it than one picture."""
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"image {file} has {image.width}x{image.height} pixels, the limit is {MAX_PIXELS}")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"image {file} has {frames} frames, it must have one: save each as a file of its own")
    if image.mode in COLOUR and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        raise DataError(f"image {file} has colours of 16 bits: save it with 8 bits")


def _bytes(file: Path, image: Image, sixteen: bool) -> NDArray[np.uint8]:
    """(Y, X) or (Y, X, 3). sixteen: integers of mode I have 16 bits."""
    if image.mode in DEEP or (image.mode == "I" and sixteen):
        return _scaled(np.asarray(image))
    if image.mode in ALPHA or "transparency" in image.info:
        image = _opaque(file, image)
    if image.mode in GREY:
        return np.asarray(image.convert("L"))
    if image.mode in COLOUR:
        return np.asarray(image.convert("RGB"))
    raise DataError(f"image {file} {REFUSED.get(image.mode, f'has mode {image.mode}: save it as grey or RGB')}")


def _scaled(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """0..65535 to 0..255, the nearest."""
    return ((values.astype(np.int64) + 128) // 257).astype(np.uint8)


def _opaque(file: Path, image: Image) -> Image:
    """The image without its alpha channel, which must be 255 everywhere."""
    whole = image.convert("RGBA")
    hidden = int((np.asarray(whole)[..., 3] != 255).sum())
    if hidden:
        raise DataError(f"image {file} has {hidden} pixels that are not opaque: put it on a background and save it")
    grey = image.mode in ("L", "1", "LA", "La")
    return whole.convert("L" if grey else "RGB")
