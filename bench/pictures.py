"""Pictures in files to uint8 pixels, decoded once on all cores into a cache.

Pictures stand upright (EXIF), lose transparency, and are resized as torchvision's Resize and CenterCrop do. A cached
array is named after the hash of the files' names and contents; that hash is kept under the files' sizes and times, so
a later start reads no picture. The cache lies in REGBENCH_CACHE, else in ~/.cache/regbench, and may be deleted.

It is no part of bench.dataset because the decoding processes need not wait for torch to load. Threads would not do: on
small pictures two of them took twice as long as one, in each other's way at the interpreter's lock.
"""

import hashlib
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from bench import UsageError
from bench.cores import count_cores
from bench.home import ensure_home
from bench.record import open_atomically

_DECODER = 1  # raised when the same file would give other pixels
_CHUNK = 256  # pictures that a process takes at a time, at most
_FEW = 64  # pictures that are done sooner than another process would start

R = TypeVar("R")


def make_fingerprint(root: Path, files: Sequence[str]) -> str:
    """A hash of names and contents; from the cache if no file's name, size or time has changed since it was made."""
    stats = [(root / file).stat() for file in files]
    seen = [(f, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for f, s in zip(files, stats, strict=True)]
    known = _cached(f"{_hash(str((str(root.resolve()), seen)))}.fingerprint")
    with suppress(OSError):
        if len(fingerprint := known.read_text("utf-8")) == 64:
            return fingerprint
    hashes = _on_all_cores(partial(_hash_file, root), files, "reading")
    fingerprint = _hash("\n".join(f"{file} {content}" for file, content in zip(files, hashes, strict=True)))
    _keep(known, lambda file: file.write(fingerprint.encode()))
    return fingerprint


def load_pixels(
    name: str, root: Path, files: Sequence[str], fingerprint: str, image_size: int | None, channels: int
) -> NDArray[np.uint8]:
    """All pictures as uint8 (N, H, W, C), mapped from the cache or decoded into it.

    Raises:
        UsageError: a damaged picture, sizes that differ while image_size is None, too little memory.
    """
    cache = _cached(f"{fingerprint}-{image_size}-{channels}-{_DECODER}.npy")
    with suppress(OSError, ValueError, EOFError):  # not there yet, or damaged
        cached: NDArray[np.uint8] = np.load(cache, mmap_mode="r")
        if len(cached) == len(files):
            _check_memory(name, cached.shape)
            return cached
    decode = partial(_decode, root, image_size, channels)
    first = decode(files[0])
    _check_memory(name, (len(files), *first.shape))
    started = time.monotonic()
    pixels = np.empty((len(files), *first.shape), dtype=np.uint8)
    for index, picture in enumerate(_on_all_cores(decode, files, "decoding")):
        if picture.shape != first.shape:
            one, other = ("x".join(map(str, shape[1::-1])) for shape in (first.shape, picture.shape))
            raise UsageError(
                f"the pictures differ in size: {files[0]} is {one}, {files[index]} {other}.\n"
                "Give the size to bring them to: dataset.image_size=64"
            )
        pixels[index] = picture
    if make_fingerprint(root, files) != fingerprint:
        raise UsageError(f"{root} has changed while it was read.\nStart again when nothing writes to it.")
    _keep(cache, lambda file: np.save(file, pixels))
    seconds = time.monotonic() - started
    Console(stderr=True, highlight=False).print(f"{name}: {len(files):,} pictures decoded in {seconds:.0f} s")
    return pixels


def _cached(name: str) -> Path:
    ensure_home()
    cache = os.environ.get("REGBENCH_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "regbench")
    return Path(cache, "image_folder", name).expanduser()


def _keep(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file of the cache; where that fails, it is said, and the work is done again next time."""
    try:
        with open_atomically(path) as file:
            write(file)
    except OSError as error:
        Console(stderr=True).print(f"{path.parent} cannot be written to ({error.strerror or error}): nothing is cached")


def _check_memory(name: str, shape: tuple[int, ...]) -> None:
    """Raises UsageError where the images, their copies in splits and those padded for crops do not fit in memory."""
    size, free = math.prod(shape), _free_memory()
    if 3 * size > free:
        n, height, width, channels = shape
        raise UsageError(
            f"dataset {name} is too large for memory: {n:,} pictures of {width}x{height}x{channels} are "
            f"{size / 2**30:.1f} GiB.\nA run needs three times as much, and {free / 2**30:.1f} GiB are free.\n"
            "Lower dataset.image_size, or keep fewer pictures in the folder."
        )


def _free_memory() -> int:
    """Bytes that a process can still get, or may have; where the system does not tell, all that there are."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        free = 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))
    with suppress(OSError, ValueError):  # a container's limit; "max" is none
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text("utf-8")))
    return free


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()  # file names as they are on the disk, UTF-8 or not


def _hash_file(root: Path, file: str) -> str:
    return hashlib.sha256((root / file).read_bytes()).hexdigest()


def _decode(root: Path, image_size: int | None, channels: int, file: str) -> NDArray[np.uint8]:
    """A picture as uint8 (H, W, C).

    Raises:
        UsageError: the file is damaged, or its pixels have no fixed white.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(root / file) as picture:
            upright = _to_8_bits(ImageOps.exif_transpose(picture)).convert("L" if channels == 1 else "RGB")
    except Exception as error:  # Pillow's decoders raise nearly every kind
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{root / file} cannot be read: {reason}.\nReplace or remove it.") from error
    if image_size is not None:
        upright = _resize(upright, image_size)
    return np.asarray(upright).reshape(upright.height, upright.width, channels)


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Pillow cuts 16 bits off at 255 where it converts them; some formats' it reads into 32."""
    deep = picture.mode == "I" and int(np.asarray(picture).max()) <= 0xFFFF
    if deep or picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits have no fixed white, convert them to 8 or 16 bits")
    return picture


def _resize(picture: Image.Image, size: int) -> Image.Image:
    """The middle square after the shorter side was brought to `size`, as torchvision's Resize and CenterCrop do."""
    width, height = picture.size
    shorter = min(width, height)
    if shorter != size:
        width, height = int(size * width / shorter), int(size * height / shorter)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def _on_all_cores(function: Callable[[str], R], files: Sequence[str], doing: str) -> Iterator[R]:
    """The function of every file, in order."""
    size = max(1, min(_CHUNK, len(files) // (4 * count_cores())))
    chunks = [files[start : start + size] for start in range(0, len(files), size)]
    console = Console(stderr=True)
    with ExitStack() as stack:
        spread: Callable[..., Iterator[list[R]]] = map
        if len(files) > _FEW:
            pool = ProcessPoolExecutor(count_cores(), get_context("spawn"), _follow_parent)
            stack.callback(pool.shutdown, cancel_futures=True)
            spread = pool.map
        done: Iterable[list[R]] = spread(partial(_in_turn, function), chunks)
        if console.is_terminal:
            done = track(done, doing, len(chunks), console=console, transient=True)
        for results in done:
            yield from results


def _in_turn(function: Callable[[str], R], files: Sequence[str]) -> list[R]:
    return [function(file) for file in files]


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
