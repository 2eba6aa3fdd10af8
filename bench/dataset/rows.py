"""Rows of an array that may be larger than memory: which ones they are, and nothing of them until it is asked for.

Where the array is a file mapped read-only, the system is asked for the rows of a batch all at once and in the order in
which they lie there, before they are copied one after the other: the disk serves many at a time, and nothing is read
around them. Once copied they are unmapped: they stay in the page cache as long as there is room, and count no longer
as this process's own.
"""

import mmap
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOGETHER = 512  # rows that are read at a time by what reads all of them
_WILL_NEED, _DONT_NEED = (getattr(mmap, name, None) for name in ("MADV_WILLNEED", "MADV_DONTNEED"))  # not on Windows


class Rows:
    """Some rows of `pixels`, in an order of their own; indexed and iterated like an array, to arrays."""

    pixels: NDArray[np.uint8]
    index: NDArray[np.int64] | None

    def __init__(self, pixels: "NDArray[np.uint8] | Rows", index: NDArray[np.int64] | None = None) -> None:
        """Those at `index`, (N,), of the array or of the rows `pixels`; all of them without."""
        array, known = (pixels.pixels, pixels.index) if isinstance(pixels, Rows) else (pixels, None)
        self.pixels = array
        self.index = known if index is None else index if known is None else known[index]
        self.shape: tuple[int, ...] = (len(array) if self.index is None else len(self.index), *array.shape[1:])
        self.dtype, self.ndim = array.dtype, array.ndim
        self._file = _find_file(array)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        if isinstance(key, int | np.integer):
            one: NDArray[np.uint8] = self.read(np.array([range(len(self))[key]]))[0]
            return one
        return self.read(np.arange(*key.indices(len(self))) if isinstance(key, slice) else np.arange(len(self))[key])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for some in self.in_parts():
            yield from some

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.load(), dtype)

    def in_parts(self) -> Iterator[NDArray[np.uint8]]:
        """All rows, some hundred at a time."""
        for start in range(0, len(self), _TOGETHER):
            yield self[start : start + _TOGETHER]

    def sorted(self) -> "Rows":
        """The same rows in the order in which they lie in memory or in the file."""
        return self if self.index is None else Rows(self.pixels, np.sort(self.index))

    def load(self) -> NDArray[np.uint8]:
        """All rows in memory; the array itself where it is there and they are all of it."""
        return self.pixels if self.index is None and self._file is None else self[:]

    def read(self, at: NDArray[np.int64], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Copies of the rows at `at`, (n,), each in [0, N), in that order; in `out`, (n, ...), where it is given."""
        chosen = at if self.index is None else self.index[at]
        if self._file is not None:
            self._ask_for(chosen)
        copied: NDArray[np.uint8] = np.take(self.pixels, chosen, axis=0, out=out, mode="clip")  # "raise" copies twice
        if self._file is not None and _DONT_NEED is not None:
            self._file.madvise(_DONT_NEED)
        return copied

    def _ask_for(self, chosen: NDArray[np.int64]) -> None:
        """Has the system begin to read these rows."""
        assert self._file is not None
        if _WILL_NEED is None:
            return
        first = self.pixels.ctypes.data - np.frombuffer(self._file, dtype=np.uint8).ctypes.data
        size = prod(self.shape[1:])
        starts = first + np.sort(chosen) * self.pixels.strides[0]
        pages = starts // mmap.PAGESIZE * mmap.PAGESIZE
        for page, length in zip(pages.tolist(), (starts + size - pages).tolist(), strict=True):
            self._file.madvise(_WILL_NEED, page, length)


def _find_file(pixels: Any) -> mmap.mmap | None:
    """The mapped file that an array is a view of; None where there is none, or it can be written to through the map."""
    while pixels is not None and not isinstance(pixels, np.memmap):
        pixels = getattr(pixels, "base", None)
    if pixels is None or pixels.mode != "r":
        return None
    file: mmap.mmap = vars(pixels)["_mmap"]
    return file
