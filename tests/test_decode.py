"""One picture's file to pixels: transparency, depth, orientation, size."""

import struct
import zlib

import numpy as np
import pytest
from conftest import draw_picture as draw
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin
from torchvision.transforms import v2

from bench.dataset.decode import Decoder

RANDOM = np.random.default_rng(0)


def read(path, channels=3, image_size=None, **values):
    return Decoder(image_size, channels, **values).decode(path)


def grey(path, **values):
    """The picture's rows of grey values."""
    return read(path, 1, **values).pixels[..., 0].tolist()


def write_png(path, bits, kind, rows, *chunks):
    """A PNG of whatever depth and kind of colour, `rows` as bytes; Pillow writes few of them."""
    width = 8 * len(rows[0]) // (bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind])
    header = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    whole = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(whole))
    return path


def write_tiff(path, values, **tags):
    """A TIFF of one channel, uncompressed; tags by their names in TiffImagePlugin override those of the array."""
    bits = tags.pop("BITSPERSAMPLE", 8 * values.itemsize)
    height, width = tags.pop("shape", values.shape)
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: values.nbytes}
    entries |= {339: kind} | {getattr(TiffImagePlugin, name): value for name, value in tags.items()}
    order = ">" if values.dtype.byteorder == ">" else "<"
    table = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    data = values.tobytes() + b"\0" * (values.nbytes % 2)
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8 + len(data))
    path.write_bytes(head + data + struct.pack(f"{order}H", len(entries)) + table + b"\0" * 4)
    return path


@pytest.mark.parametrize("size", [(12, 10), (10, 12), (9, 31), (40, 17), (16, 16), (100, 37)])
@pytest.mark.parametrize("image_size", [8, 16, 21])
def test_resizing_is_torchvisions(size, image_size, tmp_path):
    path = draw(tmp_path / "x.png", size)
    ours = read(path, image_size=image_size).pixels
    steps = v2.Compose([v2.Resize(image_size, v2.InterpolationMode.BILINEAR), v2.CenterCrop(image_size)])
    assert (ours == np.asarray(steps(Image.open(path)))).all()


# --- transparency ----------------------------------------------------------------------------------------------------

BLACK, CLEAR = (0, 0, 0, 255), (0, 0, 0, 0)
KEY = struct.pack(">H", 1)


def save_rgba(path, mode="RGBA", **values):
    """A black pixel and a transparent one, under which black lies, too."""
    picture = Image.fromarray(np.array([[BLACK, CLEAR]], dtype=np.uint8))
    (picture if mode == "RGBA" else picture.convert(mode)).save(path, **values)


def save_premultiplied(path, mode):
    save_rgba(path, mode)
    plain, premultiplied = (struct.pack("<HHIH", 338, 3, 1, value) for value in (2, 1))
    assert plain in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(plain, premultiplied))


def save_palette(path, transparency, **values):
    picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 10, 0, 0])
    picture.save(path, transparency=transparency, **values)


TRANSPARENT = {
    "RGBA.png": save_rgba,
    "RGBA.tif": save_rgba,
    "RGBA.tga": save_rgba,
    "RGBA.webp": lambda path: save_rgba(path, lossless=True),
    "LA.png": lambda path: save_rgba(path, "LA"),
    "LA.tif": lambda path: save_rgba(path, "LA"),
    "La.tif": lambda path: save_premultiplied(path, "LA"),
    "RGBa.tif": lambda path: save_premultiplied(path, "RGBA"),
    "palette.png": lambda path: save_palette(path, bytes([255, 0])),
    "index.png": lambda path: save_palette(path, 1),
    "palette.gif": lambda path: save_palette(path, 1),
    "key 1.png": lambda path: write_png(path, 1, 0, [b"\x40"], (b"tRNS", KEY)),
    "key 2.png": lambda path: write_png(path, 2, 0, [b"\x1b"], (b"tRNS", KEY)),
    "key 4.png": lambda path: write_png(path, 4, 0, [b"\x01"], (b"tRNS", KEY)),
    "key 8.png": lambda path: write_png(path, 8, 0, [b"\x00\x01"], (b"tRNS", KEY)),
    "key 16.png": lambda path: write_png(path, 16, 0, [b"\x00\x00\x00\x01"], (b"tRNS", KEY)),
    "key RGB.png": lambda path: write_png(path, 8, 2, [b"\x00\x00\x00\x00\x00\x01"], (b"tRNS", b"\0\0" * 2 + KEY)),
    "LA 16.png": lambda path: write_png(path, 16, 4, [b"\x00\x00\xff\xff\x00\x00\x00\x00"]),
    "RGBA 16.png": lambda path: write_png(path, 16, 6, [b"\x00" * 6 + b"\xff\xff" + b"\x00" * 8]),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_is_transparent_shows_the_background_whatever_form_it_has(name, tmp_path):
    TRANSPARENT[name](tmp_path / name)
    white, other = read(tmp_path / name), read(tmp_path / name, background="#0a6414")
    assert white.pixels[0, :2].tolist() == [[0, 0, 0], [255, 255, 255]]
    assert other.pixels[0, :2].tolist() == [[0, 0, 0], [10, 100, 20]]
    assert grey(tmp_path / name)[0][:2] == [0, 255]
    assert white.used == {"background": "#ffffff"}


def test_colours_are_mixed_with_the_background_and_then_become_grey(tmp_path):
    pixels = np.array([[[200, 40, 0, 102], [0, 255, 0, 204]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    share = pixels[..., 3:] / 255
    mixed = share * pixels[..., :3] + (1 - share) * [0, 0, 255]
    assert np.abs(read(tmp_path / "x.png", background="#0000ff").pixels - mixed).max() <= 1
    ours = read(tmp_path / "x.png", 1, background="#0000ff").pixels
    assert np.abs(ours[..., 0] - mixed @ [0.299, 0.587, 0.114]).max() <= 1.5


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_that_is_opaque_all_over_is_what_it_was(mode, channels, tmp_path):
    picture = Image.open(draw(tmp_path / "drawn.png")).convert(mode)
    picture.save(tmp_path / "x.png", **({"transparency": b"\xff" * 256} if mode == "P" else {}))
    ours = read(tmp_path / "x.png", channels, background="#ff0000")
    assert (ours.pixels.squeeze() == np.asarray(picture.convert("L" if channels == 1 else "RGB"))).all()
    assert ours.used == {}


# --- depth -----------------------------------------------------------------------------------------------------------


def test_16_bits_keep_their_upper_8_in_every_form(tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    for name in ("x.png", "x.pgm", "x.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert grey(tmp_path / name) == grey(tmp_path / name, white=65535) == (values >> 8).tolist()
        assert read(tmp_path / name).used == read(tmp_path / name, white=65535).used == {}
    assert grey(write_tiff(tmp_path / "big.tif", values.astype(">u2"))) == (values >> 8).tolist()


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_a_file_of_more_have_all_their_grey_levels_by_their_white(bits, tmp_path):
    values = np.arange(2**bits).reshape(16, -1)
    for kind in ("<u2", ">u2", "<i2", ">i2", "<u4", "<i4", ">i4"):
        path = write_tiff(tmp_path / "x.tif", values.astype(kind))
        assert grey(path, white=2**bits - 1) == (values >> (bits - 8)).tolist(), kind
        assert read(path, white=2**bits - 1).used == {"white": 2**bits - 1}
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "x.png")
    assert grey(tmp_path / "x.png", white=2**bits - 1) == (values >> (bits - 8)).tolist()


def test_floats_are_grey_levels_by_their_white(tmp_path):
    levels = np.arange(256).reshape(16, 16)
    assert grey(write_tiff(tmp_path / "x.tif", (levels / 255).astype("<f4")), white=1) == levels.tolist()
    assert grey(write_tiff(tmp_path / "x.tif", levels.astype(">f4")), white=255) == levels.tolist()


def test_32_bits_have_their_full_range(tmp_path):
    values = np.arange(0, 2**31, 2**23 - 1).astype("<i4")[None]
    assert grey(write_tiff(tmp_path / "x.tif", values), white=2**31 - 1) == (values >> 23).tolist()


def test_12_bits_that_the_file_says_are_12_need_no_white(tmp_path):
    values = np.array([0, 16, 0x7FF, 0xFFF])
    pairs = [(a >> 4, (a & 15) << 4 | b >> 8, b & 255) for a, b in values.reshape(-1, 2)]
    packed = np.array(pairs, dtype=np.uint8)
    path = write_tiff(tmp_path / "x.tif", packed, BITSPERSAMPLE=12, shape=(1, 4))
    assert grey(path) == [(values >> 4).tolist()]
    assert read(path).used == {"white": 4095}


NO_WHITE = {
    "signed 16": np.array([[0, 300]], "<i2"),
    "signed 16, big-endian": np.array([[0, 300]], ">i2"),
    "32": np.array([[0, 200]], "<i4"),
    "32, unsigned": np.array([[0, 2**32 - 1]], "<u4"),
    "float": np.array([[0, 1]], "<f4"),
}


@pytest.mark.parametrize("name", NO_WHITE)
def test_pixels_without_a_fixed_white_are_refused_with_the_setting_that_gives_it(name, tmp_path):
    with pytest.raises(ValueError, match=r"no fixed white: dataset\.white="):
        read(write_tiff(tmp_path / "x.tif", NO_WHITE[name]))


MISREAD = {
    "below black": (np.array([[-1, 300]], "<i2"), {}, "values from -1 to 300"),
    "above white": (np.array([[0, 4096]], "<u2"), {}, "dataset.white is 4095"),
    "wraps": (np.array([[0, 2**32 - 1]], "<u4"), {}, "values from -1"),
    "not a number": (np.array([[0, np.nan]], "<f4"), {}, "values from nan"),
    "infinite": (np.array([[0, np.inf]], "<f4"), {}, "to inf"),
    "white is zero": (np.array([[0, 4095]], "<u2"), {"PHOTOMETRIC_INTERPRETATION": 0}, "misreads"),
    "signed 8": (np.array([[-1, 100]], "i1"), {}, "signed pixels of 8 bits"),
}


@pytest.mark.parametrize("name", MISREAD)
def test_what_would_wrap_or_be_cut_off_is_refused(name, tmp_path):
    values, tags, message = MISREAD[name]
    with pytest.raises(ValueError, match=message):
        read(write_tiff(tmp_path / "x.tif", values, **tags), white=4095)


def test_colours_of_16_bits_which_pillow_cuts_to_8_take_no_white(tmp_path):
    path = write_png(tmp_path / "x.png", 16, 2, [struct.pack(">3H", 0, 256, 65535)])
    for white in (None, 65535):
        assert read(path, white=white).pixels.tolist() == [[[0, 1, 255]]]
    with pytest.raises(ValueError, match="colours of 16 bits"):
        read(path, white=4095)
    write_png(path, 16, 2, [struct.pack(">3H", 0, 256, 65535)], (b"tRNS", b"\0" * 6))
    with pytest.raises(ValueError, match="transparent colour of 16 bits"):
        read(path)


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "LAB"])
def test_modes_that_pillow_converts_are_what_it_makes_of_them(mode, tmp_path):
    picture = Image.open(draw(tmp_path / "x.png")).convert(mode)
    picture.save(tmp_path / "x.tif")
    assert (read(tmp_path / "x.tif").pixels == np.asarray(picture.convert("RGB"))).all()


# --- orientation and size --------------------------------------------------------------------------------------------


def make_exif(orientation, *fields):
    """Bytes of EXIF, with the orientation and fields (tag, type, eight bytes) of values that lie behind them."""
    head = b"MM" + struct.pack(">HIH", 42, 8, 1 + len(fields)) + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    behind = len(head) + 12 * len(fields) + 4
    entries = (struct.pack(">HHII", tag, kind, 1, behind + 8 * i) for i, (tag, kind, _) in enumerate(fields))
    return b"Exif\0\0" + head + b"".join(entries) + b"\0" * 4 + b"".join(value for *_, value in fields)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_pictures_stand_upright(orientation, ending, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(draw(tmp_path / "drawn.png")).save(tmp_path / f"x.{ending}", exif=exif)
    with Image.open(tmp_path / f"x.{ending}") as picture:
        assert (read(tmp_path / f"x.{ending}").pixels == np.asarray(ImageOps.exif_transpose(picture))).all()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_exif_that_pillow_cannot_rewrite_turns_the_picture_all_the_same(ending, tmp_path):
    exif = make_exif(6, (0x011A, 10, struct.pack(">ii", -1, 0)))
    picture = Image.open(draw(tmp_path / "drawn.png"))
    picture.save(tmp_path / f"x.{ending}", exif=exif)
    with Image.open(tmp_path / f"x.{ending}") as saved:
        with pytest.raises(struct.error):
            ImageOps.exif_transpose(saved)
        assert (read(tmp_path / f"x.{ending}").pixels == np.rot90(np.asarray(saved.convert("RGB")), -1)).all()


@pytest.mark.parametrize("exif", [b"Exif\0\0nothing", b"Exif\0\0MM", make_exif(6)[:20], make_exif(77)])
def test_a_picture_whose_exif_cannot_be_read_is_taken_as_it_is(exif, tmp_path):
    picture = Image.open(draw(tmp_path / "drawn.png"))
    picture.save(tmp_path / "x.png", exif=exif)
    assert (read(tmp_path / "x.png").pixels == np.asarray(picture)).all()


def test_pictures_above_the_size_limit_are_refused_until_it_is_raised(tmp_path, monkeypatch):
    path = draw(tmp_path / "x.png", size=(20, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own, of which ours is independent
    for limit in (None, 200, 10**9):
        assert read(path, max_pixels=limit).pixels.shape == (10, 20, 3)
    with pytest.raises(ValueError, match=r"more pixels than dataset\.max_pixels=198"):
        read(path, max_pixels=198)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_long_texts_in_a_picture_do_not_keep_it_from_being_read(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("history", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png", pnginfo=texts)
    assert read(tmp_path / "x.png").pixels.shape == (4, 4, 3)
