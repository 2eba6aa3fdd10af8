"""Times training on images of twice the memory that is free, read from a file, against training on images in memory.

Both train ResNet-18 on 64x64 pictures in one process, a step in turn. Give it little memory, by a cgroup:
    systemd-run --scope -p MemoryMax=1536M -p MemorySwapMax=0 python scripts/measure_mapped.py FOLDER
FOLDER gets a file of twice that, and loses it again; it must not be in memory itself, as /tmp may be.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from bench.cli.run import compose
from bench.dataset import Data, Source, make_splits
from bench.dataset.batches import Batches
from bench.dataset.mapped import MappedImages
from bench.machine.free_memory import find_free_memory
from bench.sweep.device import resolve_device
from bench.training.run import make_trainer

SHAPE = (64, 64, 3)
IN_MEMORY = 2000  # images of the one that is not read from the file


def write_images(path: Path, n: int) -> None:
    """Random ones, some hundred of which come again and again."""
    some = np.random.default_rng(0).integers(0, 256, (500, *SHAPE), dtype=np.uint8)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (n, *SHAPE)})
        for start in range(0, n, len(some)):
            file.write(some[: n - start].data)


def main() -> None:
    """Prints the ratio of the two speeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=30, help="of each, in turn")
    parser.add_argument("overrides", nargs="*", help="such as model.width=16 train.batch_size=8")
    options = parser.parse_intermixed_args()
    with TemporaryDirectory(dir=options.folder) as folder:
        file, free = Path(folder, "images.npy"), find_free_memory()
        write_images(file, 2 * free // int(np.prod(SHAPE)))
        pixels = np.load(file, mmap_mode="r")
        print(f"{free / 2**30:.2f} GiB of memory, {pixels.nbytes / 2**30:.2f} GiB of images", flush=True)
        words = ["dataset=synthetic", "dataset.augment=standard", "dataset.val_fraction=0", "train.batch_size=16"]
        (run,) = compose([*words, "model=resnet18", "train.epochs=1000", *options.overrides]).runs
        run = resolve_device(run)

        def prepare(images: np.ndarray, resident: bool | None) -> tuple[Data, Iterator[tuple[float, float]]]:
            labels = np.arange(len(images)) % 10
            source = Source(images, labels, pixels[:10], labels[:10], 10, flips=True, fingerprint="x")
            choice = replace(run.dataset, values={**run.dataset.values, "resident": resident})
            data = make_splits(choice, source, torch.device(run.train.device))
            batches = Batches(data, run.train.batch_size, "standard", 0)
            return data, steps_of(data, chain.from_iterable(batches.epoch(epoch) for epoch in count()))

        def steps_of(data: Data, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[float, float]]:
            """Seconds that each step's batch takes to come, and the rest of the step."""
            trainer = make_trainer(run, data)
            for step in count():
                started = time.perf_counter()
                images, targets = next(batches)
                trainer.synchronise()
                came = time.perf_counter()
                trainer.step(images, targets, step)
                trainer.synchronise()
                yield came - started, time.perf_counter() - came

        started = time.perf_counter()
        data, mapped = prepare(pixels, None)
        assert isinstance(data.train.images, MappedImages)
        print(f"prepared in {time.perf_counter() - started:.0f} s", flush=True)
        _, there = prepare(np.array(pixels[:IN_MEMORY]), True)

        pairs = []
        for number in range(options.steps + 1):
            turns = [next(each) for each in ((there, mapped) if number % 2 else (mapped, there))]
            pairs.append(turns if number % 2 else turns[::-1])
        pairs = pairs[1:]  # the first is slower
        low, middle, high = statistics.quantiles([sum(memory) / sum(file) for memory, file in pairs], n=4)
        print(f"from the file at {middle:.3f} of the speed in memory: the median of {len(pairs)} pairs of steps")
        print(f"(quartiles {low:.3f} and {high:.3f})")
        in_memory, from_file, step = (
            statistics.median(values)
            for values in zip(*((memory[0], file[0], memory[1] + file[1]) for memory, file in pairs), strict=True)
        )
        step /= 2
        print(
            f"a batch comes after {1000 * from_file:.1f} ms, in memory {1000 * in_memory:.1f}; the rest of a step takes"
        )
        print(
            f"{1000 * step:.0f} ms, so that makes {(step + in_memory) / (step + from_file):.4f} by the medians of each"
        )
        some = np.random.default_rng(1).integers(0, len(pixels), (50, run.train.batch_size))
        started, used = time.perf_counter(), time.thread_time()
        for at in some:
            data.train.images._read(at)
        wall, used = time.perf_counter() - started, time.thread_time() - used
        print(f"to read a batch takes the thread {20 * wall:.1f} ms, {20 * used:.1f} of them on a core")
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(f"{used.ru_majflt} major page faults, {used.ru_maxrss / 2**10:.0f} MiB resident at the peak")


if __name__ == "__main__":
    main()
