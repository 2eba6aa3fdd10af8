"""Images that stay where they are, in a file or in the host's memory, and come to the device batch by batch.

One thread reads the next few batches while the device works on another, into pinned memory where the device is a GPU,
from which they are copied without waiting. Which rows a batch has is known in advance, so what comes is what would lie
on the device otherwise, bit for bit. A thread is enough, as it copies bytes and decodes nothing, and does so beside the
interpreter's lock; processes, as of torch's DataLoader, would take seconds to start, and copy each batch once more.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.dataset.rows import Rows

_AHEAD = 4  # batches that are read before they are asked for


class MappedImages:
    """Stands for uint8 images (N, H, W, C) on a device: what is indexed or split lies there."""

    def __init__(self, rows: Rows, device: torch.device) -> None:
        self.rows, self.device, self.shape = rows, device, torch.Size(rows.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Tensor | slice) -> Tensor:
        every = np.arange(len(self))  # of these NumPy takes what a tensor would, also from the end and by a mask
        return self._move(self._read(every[key if isinstance(key, slice) else key.cpu().numpy()]))

    def split(self, size: int) -> Iterator[Tensor]:
        """All images in order, `size` at a time, as a tensor's `split`; the last part may be smaller."""
        starts = range(0, max(len(self), 1), size)  # of no images a tensor has one part, too
        return self.read_ahead([np.arange(start, min(start + size, len(self))) for start in starts])

    def read_ahead(self, parts: Sequence[NDArray[np.int64]]) -> Iterator[Tensor]:
        """The images of each part, by their indices; the next ones are read meanwhile.

        What goes wrong in reading is raised where that part would come. The thread ends with the iterator, also where
        that is closed before its end.
        """
        with ThreadPoolExecutor(1, "images") as thread:
            coming: deque[Future[Tensor]] = deque()
            try:
                for part in parts:
                    coming.append(thread.submit(self._read, part))
                    if len(coming) > _AHEAD:
                        yield self._move(coming.popleft().result())
                while coming:
                    yield self._move(coming.popleft().result())
            finally:
                for each in coming:
                    each.cancel()

    def _read(self, at: NDArray[np.int64]) -> Tensor:
        """On the host, in memory that torch gives out anew once the device has copied it."""
        read = torch.empty((len(at), *self.shape[1:]), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        self.rows.read(at, out=read.numpy())
        return read

    def _move(self, read: Tensor) -> Tensor:
        return read.to(self.device, non_blocking=True)


Images = Tensor | MappedImages
