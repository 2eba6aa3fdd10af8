"""Stored pictures to uint8 pixels, decoded once on all cores into a cache.

How one is decoded is in decode.py. A cached array is named after the hash of the files' names and contents; that hash
is kept under the files' sizes and times, so a later start reads no picture. The cache lies in REGBENCH_CACHE, else in
~/.cache/regbench, and may be deleted.

It is no part of bench.dataset because the decoding processes need not wait for torch to load. Threads would not do: on
small pictures two of them took twice as long as one, in each other's way at the interpreter's lock.
"""

import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from rich.console import Console
from rich.progress import track
from rich.text import Text

from bench.dataset.decode import Decoder, Picture
from bench.disk.files import open_atomically
from bench.errors import UsageError
from bench.machine.cores import count_cores
from bench.machine.home import ensure_home

_DECODER = 2  # raised when the same file would give other pixels
_CHUNK = 256  # pictures that a process takes at a time, at most
_FEW = 64  # pictures that are done sooner than another process would start
_NAMED = 3  # of many files that cannot be read
_DARK = 2**14  # of a folder with values of 16 bits, which a brightest one below this does not use

R = TypeVar("R")


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


@dataclass(frozen=True)
class _Unread:
    """A picture or file that cannot be read, and why."""

    reason: str


def in_files(root: Path, files: Sequence[str]) -> Encoded:
    """Pictures in a file each, below a folder."""
    return Encoded(files, partial(Path, root), partial(make_fingerprint, root, files))


def make_fingerprint(root: Path, files: Sequence[str]) -> str:
    """A hash of names and contents; from the cache if no file's name, size or time has changed since it was made.

    Raises:
        UsageError: files that cannot be read.
    """
    seen = list(_all_read(files, _in_turn(partial(_stat, root), files)))
    known = _cached(f"{hash_text(str((str(root.resolve()), seen)))}.fingerprint")
    with suppress(OSError):
        if len(fingerprint := known.read_text("utf-8")) == 64:
            return fingerprint
    hashes = list(_all_read(files, _on_all_cores(partial(_hash_file, root), files, "reading")))
    fingerprint = hash_text("\n".join(f"{file} {content}" for file, content in hashes))
    _keep(known, lambda file: file.write(fingerprint.encode()))
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
    cache = _cached("-".join(map(str, (fingerprint, *how))) + ".npy")
    with suppress(OSError, ValueError, EOFError):  # not there yet, or damaged
        cached: NDArray[np.uint8] = np.load(cache, mmap_mode="r")
        used: dict[str, Any] = json.loads(cache.with_suffix(".json").read_bytes())
        if len(cached) == len(pictures.names):
            _check_memory(name, cached.shape)
            return cached, used
    started = time.monotonic()
    pixels, used = _decode_all(name, pictures, decoder)
    if pictures.identify() != fingerprint:
        raise UsageError(f"dataset {name} has changed while it was read.\nStart again when nothing writes to it.")
    _keep(cache, lambda file: np.save(file, pixels))
    _keep(cache.with_suffix(".json"), lambda file: file.write(json.dumps(used).encode()))
    seconds = time.monotonic() - started
    decoded = Text(f"{name}: {len(pixels):,} pictures decoded in {seconds:.0f} s")  # a plain str loses [brackets]
    Console(stderr=True, highlight=False).print(decoded, soft_wrap=True)
    return pixels, used


def _decode_all(name: str, pictures: Encoded, decoder: Decoder) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    pixels = np.empty((0, 0, 0, 0), dtype=np.uint8)
    used: dict[str, Any] = {}
    shapes: dict[tuple[int, ...], str] = {}
    brightest = -1
    decoded = _on_all_cores(partial(_decode, pictures.open, decoder), pictures.names, "decoding")
    for index, (each, picture) in enumerate(_all_read(pictures.names, decoded)):
        if index == 0:
            _check_memory(name, (len(pictures.names), *picture.pixels.shape))
            pixels = np.empty((len(pictures.names), *picture.pixels.shape), dtype=np.uint8)
        shapes.setdefault(picture.pixels.shape, each)
        if len(shapes) == 1:
            pixels[index] = picture.pixels
        used |= picture.used
        brightest = max(brightest, -1 if picture.brightest is None else picture.brightest)
    _check_alike(shapes, brightest)
    return pixels, used


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


def _cached(name: str) -> Path:
    ensure_home()
    cache = os.environ.get("REGBENCH_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "regbench")
    return Path(cache, "image_folder", name).expanduser()


def _keep(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file of the cache; where that fails, it is said, and the work is done again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomically(path) as file:
            write(file)
    except OSError as error:
        refused = Text(f"{path.parent} cannot be written to ({error.strerror or error}): nothing is cached")
        Console(stderr=True).print(refused, soft_wrap=True)


def _check_memory(name: str, shape: tuple[int, ...]) -> None:
    """Raises UsageError where the images, their copies in splits and those padded for crops do not fit in memory."""
    size, free = math.prod(shape), _free_memory()
    if 3 * size > free:
        n, height, width, channels = shape
        raise UsageError(
            f"dataset {name} is too large for memory: {n:,} pictures of {width}x{height}x{channels} are "
            f"{size / 2**30:.1f} GiB.\nA run needs three times as much, and {free / 2**30:.1f} GiB are free.\n"
            "Lower dataset.image_size, or use fewer pictures."
        )


def _free_memory() -> int:
    """Bytes that a process can still get, or may have; where the system does not say, all that there are."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        free = 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))
    with suppress(OSError, ValueError):  # a container's limit; "max" is none
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text("utf-8")))
    return free


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


def _all_read(files: Sequence[str], results: Iterable[R | _Unread]) -> Iterator[tuple[str, R]]:
    """The files that can be read, and their results.

    Raises:
        UsageError: at the end, where there are others; it names the first.
    """
    unread: list[tuple[str, str]] = []
    for file, result in zip(files, results, strict=True):
        if isinstance(result, _Unread):
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


def _on_all_cores(function: Callable[[str], R], files: Sequence[str], doing: str) -> Iterator[R | _Unread]:
    """The function of every file, in order, or why the file cannot be read."""
    size = max(1, min(_CHUNK, len(files) // (4 * count_cores())))
    chunks = [files[start : start + size] for start in range(0, len(files), size)]
    console = Console(stderr=True)
    with ExitStack() as stack:
        spread: Callable[..., Iterator[list[R | _Unread]]] = map
        if len(files) > _FEW:
            pool = ProcessPoolExecutor(count_cores(), get_context("spawn"), _follow_parent)
            stack.callback(pool.shutdown, cancel_futures=True)
            spread = pool.map
        done: Iterable[list[R | _Unread]] = spread(partial(_in_turn, function), chunks)
        if console.is_terminal:
            done = track(done, doing, len(chunks), console=console, transient=True)
        for results in done:
            yield from results


def _in_turn(function: Callable[[str], R], files: Sequence[str]) -> list[R | _Unread]:
    return [_try(function, file) for file in files]


def _try(function: Callable[[str], R], file: str) -> R | _Unread:
    try:
        return function(file)
    except Exception as error:  # Pillow's decoders raise nearly every kind
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        reason = "no picture that Pillow knows" if isinstance(error, UnidentifiedImageError) else reason
        return _Unread(reason.splitlines()[0][:150])


def _follow_parent() -> None:
    """A process of the pool leaves Ctrl-C and SIGHUP to its parent, and ends with it however that dies."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end, daemon=True).start()
