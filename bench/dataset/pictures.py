"""Stored pictures to uint8 pixels, decoded once on all cores into a cache.

How one is decoded is in decode.py. A cached array is named after the hash of the files' names and contents; that hash
is kept under the files' sizes and times, so a later start reads no picture. Pictures are written there as they are
decoded, and mapped: memory holds a few for each core, however many there are. Where the cache is, is in cache.py.
"""

import hashlib
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from bench.dataset.all_cores import CHUNK, R, Unread, in_turn, on_all_cores, try_read
from bench.dataset.cache import cache_path, check_disk, filling, has_crc, keep, say_not_kept
from bench.dataset.decode import Decoder, Picture
from bench.errors import UsageError
from bench.machine.free_memory import find_free_memory

_DECODER = 2  # raised when the same file would give other pixels
_KIND = "image_folder"  # of the files in the cache, also for pictures that lie elsewhere
_TOGETHER = 2**24  # bytes of the decoded pictures that a process gives at a time, at most
_CHECKED = 2**33  # bytes of a cached array that are all read at each start; of a larger one only the size is checked
_NAMED = 3  # of many files that cannot be read
_DARK = 2**14  # of a folder with values of 16 bits, which a brightest one below this does not use


@dataclass(frozen=True)
class Encoded:
    """Pictures as they are stored, each in a file of its own or many in one.

    Attributes:
        names: of all pictures, by which they are opened and which messages name.
        open: what Pillow reads of a name, a path or a stream; it is pickled for the decoding processes.
        identify: a hash of the names and contents as they are now, wherever they lie.
    """

    names: Sequence[str]
    open: Callable[[str], Path | IO[bytes]]
    identify: Callable[[], str]


def in_files(root: Path, files: Sequence[str]) -> Encoded:
    """Pictures in a file each, below a folder."""
    return Encoded(files, partial(Path, root), partial(make_fingerprint, root, files))


def make_fingerprint(root: Path, files: Sequence[str]) -> str:
    """A hash of names and contents; from the cache if no file's name, size or time has changed since it was made.

    Raises:
        UsageError: files that cannot be read.
    """
    seen = list(_all_read(files, in_turn(partial(_stat, root), files)))
    known = cache_path(_KIND, f"{hash_text(str((str(root.resolve()), seen)))}.fingerprint")
    with suppress(OSError):
        if len(fingerprint := known.read_text("utf-8")) == 64:
            return fingerprint
    hashes = list(_all_read(files, on_all_cores(partial(_hash_file, root), files, "reading")))
    fingerprint = hash_text("\n".join(f"{file} {content}" for file, content in hashes))
    keep(known, lambda file: file.write(fingerprint.encode()))
    return fingerprint


def load_pixels(
    name: str, pictures: Encoded, fingerprint: str, decoder: Decoder
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """All pictures as uint8 (N, H, W, C), mapped from the cache or decoded into it, and what they used of the decoder.

    Args:
        name: the dataset's, for messages.
        pictures: N of them.
        fingerprint: of `pictures`, as they identify themselves.
        decoder: how each is read.

    Raises:
        UsageError: damaged pictures, sizes that differ while image_size is None, no telling what is white, too little
            memory.
    """
    how = (decoder.image_size, decoder.channels, decoder.background.lstrip("#"), decoder.white, _DECODER)
    cache = cache_path(_KIND, "-".join(map(str, (fingerprint, *how))) + ".npy")
    with suppress(OSError, ValueError, EOFError, TypeError, KeyError):  # not there yet, damaged, or of an older release
        cached: np.memmap[Any, np.dtype[np.uint8]] = np.load(cache, mmap_mode="r")
        known = json.loads(cache.with_suffix(".json").read_bytes())
        used, crc = dict(known["used"]), int(known["crc"])
        if len(cached) == len(pictures.names) and (cached.nbytes > _CHECKED or has_crc(cache, crc, cached.offset)):
            return cached, used
    started = time.monotonic()
    decode = partial(_decode_into, pictures=pictures, fingerprint=fingerprint, decoder=decoder, name=name)
    try:
        with filling(cache) as file:
            used, crc = decode(file, lambda shape: check_disk(cache, math.prod(shape)))
        pixels: NDArray[np.uint8] = np.load(cache, mmap_mode="r")
        keep(cache.with_suffix(".json"), lambda file: file.write(json.dumps({"used": used, "crc": crc}).encode()))
    except OSError as error:
        say_not_kept(cache, error)
        memory = BytesIO()
        used, _ = decode(memory, partial(_check_memory, name, cache))
        memory.seek(0)
        pixels = np.load(memory)
    seconds = time.monotonic() - started
    decoded = Text(f"{name}: {len(pixels):,} pictures decoded in {seconds:.0f} s")  # a plain str loses [brackets]
    Console(stderr=True, highlight=False).print(decoded, soft_wrap=True)
    return pixels, used


def _decode_into(
    file: IO[bytes],
    check_room: Callable[[tuple[int, ...]], object],
    pictures: Encoded,
    fingerprint: str,
    decoder: Decoder,
    name: str,
) -> tuple[dict[str, Any], int]:
    """Writes all pictures as an .npy, each as soon as it is decoded; what they used of the decoder, and their CRC-32.

    It is written, not mapped: a disk that is full raises, where a map of it would kill the process.
    """
    used: dict[str, Any] = {}
    shapes: dict[tuple[int, ...], str] = {}
    brightest, crc = -1, 0
    decode = partial(_decode, pictures.open, decoder)
    first = try_read(decode, pictures.names[0])
    most = _TOGETHER // first.pixels.nbytes if isinstance(first, Picture) else CHUNK
    for each, picture in _all_read(pictures.names, on_all_cores(decode, pictures.names, "decoding", most)):
        if not shapes:
            shape = (len(pictures.names), *picture.pixels.shape)
            check_room(shape)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        shapes.setdefault(picture.pixels.shape, each)
        if len(shapes) == 1:
            pixels = np.ascontiguousarray(picture.pixels)
            file.write(pixels.data)
            crc = zlib.crc32(pixels.data, crc)
        used |= picture.used
        brightest = max(brightest, -1 if picture.brightest is None else picture.brightest)
    _check_alike(shapes, brightest)
    if pictures.identify() != fingerprint:
        raise_changed(name)
    return used, crc


def raise_changed(name: str) -> NoReturn:
    """Raises UsageError about a dataset whose files are no longer those that were identified."""
    raise UsageError(f"dataset {name} has changed while it was read.\nStart again when nothing writes to it.")


def _check_alike(shapes: Mapping[tuple[int, ...], str], brightest: int) -> None:
    """Raises UsageError where the pictures are no set of one size and one white.

    Args:
        shapes: those that came up, each with a picture that has it.
        brightest: of all values of 16 bits whose white is taken to be 65535; -1 where there are none.
    """
    if len(shapes) > 1:
        (one, first), (other, second) = list(shapes.items())[:2]
        raise UsageError(
            f"the pictures differ in size: {first} is {one[1]}x{one[0]}, {second} {other[1]}x{other[0]}.\n"
            "Give the size to bring them to: dataset.image_size=64"
        )
    if 0 <= brightest < _DARK:
        bits = next(bits for bits in (8, 10, 12, 14) if brightest < 2**bits)
        raise UsageError(
            f"the pictures of 16 bits leave most of their range unused: their brightest value is {brightest}, white "
            f"would be 65535.\nThey seem to hold {bits} bits. Say which value is white: dataset.white={2**bits - 1}\n"
            "(colours and alpha: convert them to 8 bits), or dataset.white=65535 to take them as they are."
        )


def _check_memory(name: str, cache: Path, shape: tuple[int, ...]) -> None:
    """Raises UsageError where images that cannot be cached do not fit in memory with their copies, either."""
    size, free = math.prod(shape), find_free_memory()
    if 3 * size > free:
        n, height, width, channels = shape
        raise UsageError(
            f"dataset {name} is too large for memory, and {cache.parent} has no room: {n:,} pictures of "
            f"{width}x{height}x{channels} are {size / 2**30:.1f} GiB.\n"
            f"In memory a run needs three times as much, and {free / 2**30:.1f} GiB are free.\n"
            "Name another folder by REGBENCH_CACHE=FOLDER, lower dataset.image_size, or use fewer pictures."
        )


def hash_text(text: str) -> str:
    """Its SHA-256."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()  # file names as they are on the disk, UTF-8 or not


def _stat(root: Path, file: str) -> tuple[int, int, int]:
    status = (root / file).stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash_file(root: Path, file: str) -> str:
    with (root / file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _decode(open_: Callable[[str], Path | IO[bytes]], decoder: Decoder, name: str) -> Picture:
    return decoder.decode(open_(name))


def _all_read(files: Sequence[str], results: Iterable[R | Unread]) -> Iterator[tuple[str, R]]:
    """The files that can be read, and their results.

    Raises:
        UsageError: at the end, where there are others; it names the first.
    """
    unread: list[tuple[str, str]] = []
    for file, result in zip(files, results, strict=True):
        if isinstance(result, Unread):
            unread.append((file, result.reason))
        else:
            yield file, result
    if len(unread) == 1:
        raise UsageError("{} cannot be read: {}.\nMend, replace or remove it.".format(*unread[0]))
    if unread:
        first = ", ".join(f"{file} ({reason})" for file, reason in unread[:_NAMED])
        raise UsageError(
            f"{len(unread):,} of {len(files):,} pictures cannot be read, the first of them:\n{first}.\n"
            "Mend, replace or remove them."
        )
