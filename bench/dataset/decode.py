"""One stored picture to uint8 pixels, so that the pictures of a dataset are all read by the same rules.

Pictures stand upright: the orientation in EXIF is read and the pixels are turned, while the EXIF, which Pillow cannot
always write anew, is left alone. What is transparent is laid on one colour, before colours become grey. Deep pixels (16
bits and more) are brought to 8 by one white for the whole set, never by each picture's own range, which would change
the brightness from picture to picture. Pixels without a fixed white are refused until one is given.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

_FULL_SCALE = 65535
# Formats whose deep pixels Pillow reads right; of others it mistakes the sign, or the order of the bytes.
_FORMATS = ("PNG", "PPM", "TIFF", "JPEG2000")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A picture that was read.

    Attributes:
        pixels: uint8 (H, W, C).
        used: those of `background` and `white` that its pixels depend on, and their values.
        brightest: of its values of 16 bits, where nothing says that their white is another than 65535; else None.
    """

    pixels: NDArray[np.uint8]
    used: Mapping[str, Any] = field(default_factory=dict)
    brightest: int | None = None


@dataclass(frozen=True)
class Decoder:
    """How pictures are read.

    Attributes:
        image_size: pixels; the shorter side is resized to it and the middle square is cut out. None: as they are.
        channels: 1 (grey) or 3 (colour).
        background: as #rrggbb; what is under transparent pixels.
        white: the value of deep pixels that becomes 255. None: what their format says.
        max_pixels: pictures of more are refused unread. None: none are.
    """

    image_size: int | None
    channels: int
    background: str = "#ffffff"
    white: float | None = None
    max_pixels: int | None = None

    def decode(self, file: Path | IO[bytes]) -> Picture:
        """The picture of a file, or of a stream.

        Raises:
            Exception: it is damaged or has no fixed white; Pillow's decoders raise nearly every kind.
        """
        with warnings.catch_warnings(action="ignore"), _limit(self.max_pixels), Image.open(file) as opened:
            raw = str(opened.tile)  # names how the file's values lie, until they are loaded
            opened.load()
            levels = _read_levels(opened, raw, self.white)
            whole = levels.picture.convert("LA") if levels.picture.mode == "La" else levels.picture
            flat = _lay_on(whole, self.background)
            picture = _turn((flat or whole).convert("L" if self.channels == 1 else "RGB"), opened)
        if self.image_size is not None:
            picture = resize(picture, self.image_size)
        used: dict[str, Any] = {} if flat is None else {"background": self.background}
        if levels.white is not None:
            used |= {"white": levels.white}
        pixels = np.asarray(picture).reshape(picture.height, picture.width, self.channels)
        return Picture(pixels, used, levels.brightest)


class _Levels(NamedTuple):
    """A picture of 8 bits; its white where that is not the format's full scale; its brightest value where it is."""

    picture: Image.Image
    white: float | None = None
    brightest: int | None = None


@contextmanager
def _limit(pixels: int | None) -> Iterator[None]:
    """Within it Pillow refuses pictures of more pixels, whatever part of its code meets them; texts may be long."""
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    Image.MAX_IMAGE_PIXELS = None if pixels is None else (pixels + 1) // 2  # Pillow refuses above twice that
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ValueError(f"more pixels than dataset.max_pixels={pixels}, which may be raised") from error
    finally:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before


def _read_levels(picture: Image.Image, raw: str, white: float | None) -> _Levels:
    """The picture in 8 bits; `raw` is its tiles as text."""
    tags: Mapping[int, Any] = getattr(picture, "tag_v2", {})
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        if picture.format not in _FORMATS or tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
            raise ValueError(f"deep pixels in a form of {picture.format} that Pillow misreads, save them as PNG")
        return _scale(picture, _known_white(picture, raw) if white is None else white, white is None)
    if picture.mode == "L" and 2 in tags.get(TiffImagePlugin.SAMPLEFORMAT, ()):
        raise ValueError("signed pixels of 8 bits, convert them to unsigned ones")
    if ";16" in raw and picture.mode in ("RGB", "RGBA"):
        return _check_colours(picture, white)
    # In a PNG of 2 or 4 bits Pillow scales the pixels to 8, but not the value that is transparent.
    step = next((step for bits, step in (("'L;2'", 85), ("'L;4'", 17)) if bits in raw), 1)
    if step > 1 and "transparency" in picture.info:
        picture.info["transparency"] *= step
    return _Levels(picture)


def _known_white(picture: Image.Image, raw: str) -> float:
    if "I;12" in raw:
        return 4095
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        return _FULL_SCALE
    raise ValueError("pixels that are signed, or of 32 bits, have no fixed white: dataset.white=VALUE gives it")


def _scale(picture: Image.Image, white: float, alone: bool) -> _Levels:
    """Grey values of 0 to `white`, in 256 equal steps; `alone` says that nobody but the format knows of this white."""
    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= white:  # nor where there are NaNs
        raise ValueError(f"values from {low:g} to {high:g}, where black is 0 and dataset.white is {white:g}")
    exact = values.astype(np.float32 if values.itemsize == 2 else np.float64)
    eight = Image.fromarray(np.minimum(np.floor_divide(exact * 256, white), 255).astype(np.uint8))
    if (key := picture.info.get("transparency")) is not None:
        eight = Image.merge("LA", (eight, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))))
    if white != _FULL_SCALE:
        return _Levels(eight, white=white)
    return _Levels(eight, brightest=int(high) if alone else None)


def _check_colours(picture: Image.Image, white: float | None) -> _Levels:
    """Colours of 16 bits, which Pillow has cut to 8."""
    if white not in (None, _FULL_SCALE):
        raise ValueError("colours of 16 bits, which dataset.white cannot scale: convert them to 8 bits")
    if "transparency" in picture.info:
        raise ValueError("a transparent colour of 16 bits: convert it to 8 bits")
    highest = int(np.asarray(picture)[..., :3].max())
    return _Levels(picture, brightest=256 * highest + 255 if white is None else None)


def _lay_on(picture: Image.Image, background: str) -> Image.Image | None:
    """The picture on a ground of that colour; None where it is opaque."""
    if not picture.has_transparency_data:
        return None
    clear = picture.convert("RGBA")
    if clear.getchannel("A").getextrema()[0] == 255:
        return None
    return Image.alpha_composite(Image.new("RGBA", clear.size, background), clear)


def _turn(picture: Image.Image, opened: Image.Image) -> Image.Image:
    """The picture as its file's EXIF says it stands; as it is where that cannot be read."""
    with suppress(Exception):  # Pillow's readers of EXIF raise nearly every kind
        return picture.transpose(_TURNS[opened.getexif()[ExifTags.Base.Orientation]])
    return picture


def resize(picture: Image.Image, size: int) -> Image.Image:
    """The middle square after the shorter side was brought to `size`, as torchvision's Resize and CenterCrop do."""
    width, height = picture.size
    shorter = min(width, height)
    if shorter != size:
        width, height = int(size * width / shorter), int(size * height / shorter)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))
