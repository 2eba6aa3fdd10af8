"""What images that are read from a file take in memory."""

import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CPU, draw_picture, load_folder
from test_larger_than_memory import plan_one

from bench.dataset import all_cores, load_source, make_splits, pictures
from bench.dataset.batches import Batches


def measure_peak(function):
    """Bytes at the peak that NumPy and Python hold, over those before."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_pictures_are_decoded_into_the_cache_with_a_few_in_memory(folder, tmp_path, monkeypatch):
    load_folder(folder)  # whatever is loaded once
    for i in range(40):
        draw_picture(tmp_path / "large" / "ab"[i % 2] / f"{i}.png", size=(200, 200))
    size = 200 * 200 * 3
    monkeypatch.setattr(pictures, "_TOGETHER", 2 * size)
    monkeypatch.setattr(all_cores, "count_cores", lambda: 1)
    assert measure_peak(lambda: load_folder(tmp_path / "large")) < 10 * size
    assert len(load_folder(tmp_path / "large").train_labels) == 30


def test_no_more_chunks_are_handed_out_than_are_taken():
    given, taken = [], []

    class Pool:
        def submit(self, function, chunk):
            given.append(chunk)
            future = Future()
            future.set_result(function(chunk))
            return future

    for result in all_cores._spread(Pool(), sum, [[i] for i in range(20)], 4):
        taken.append(result)
        assert len(given) - len(taken) <= 4
    assert taken == [*range(20)]


def test_a_training_on_a_mapped_file_copies_no_more_than_batches(tmp_path, tiny):
    n = 16_384
    pixels = np.lib.format.open_memmap(tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(n, 16, 16, 3))
    pixels[:] = np.arange(n, dtype=np.uint8)[:, None, None, None]
    del pixels
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    few = replace(load_source(tiny().dataset), val_images=None, val_labels=None)
    test = few.test_labels[:10]
    source = replace(few, train_images=images, train_labels=np.arange(n) % 4, test_images=images[:10], test_labels=test)

    def work(resident):
        values = {**tiny().dataset.values, "resident": resident}
        data = make_splits(replace(tiny().dataset, values=values), source, CPU)
        batches = Batches(data, 64, "standard", 0).epoch(0)
        for _ in range(5):
            next(batches)

    assert measure_peak(lambda: work(False)) < images.nbytes / 3
    assert measure_peak(lambda: work(True)) > images.nbytes * 0.7  # what is counted is what would be copied


@contextmanager
def limiting(size):
    """What a command begins with that may have no more memory than that, the page cache included.

    A limit by `resource` would not do: it counts a mapped file whole, or not at all.
    """
    groups = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    systemd = ["systemd-run", "--scope", "-q", "-p", f"MemoryMax={size}", "-p", "MemorySwapMax=0"]
    if "memory" not in groups:
        if not shutil.which("systemd-run") or subprocess.run([*systemd, "true"], check=False, timeout=60).returncode:
            pytest.skip("no cgroup can be made")
        yield systemd
        return
    group = Path("/sys/fs/cgroup/memory", groups["memory"].lstrip("/"), f"regbench_{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(size))
    except OSError:
        pytest.skip("no cgroup can be made")
    try:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"']
    finally:
        group.rmdir()


@pytest.mark.slow
def test_images_of_twice_the_memory_are_trained_on(tmp_path):
    """How fast is what scripts/measure_mapped.py prints; here it only has to get through."""
    if subprocess.check_output(["stat", "-f", "-c", "%T", tmp_path], text=True).strip() == "tmpfs":
        pytest.skip("temporary files lie in memory")
    script = Path(__file__).parents[1] / "scripts" / "measure_mapped.py"
    few = ("model=resnet8", "train.batch_size=8", "train.device=cpu", "--steps=3")
    with limiting(2**30) as limited:
        done = subprocess.run(
            [*limited, sys.executable, script, tmp_path, *few], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    free, images = map(float, re.match(r"(\S+) GiB of memory, (\S+) GiB of images\n", done.stdout).groups())
    assert free <= 1
    assert images == pytest.approx(2 * free, abs=0.02)
    assert "from the file at" in done.stdout


@pytest.mark.cuda
def test_batches_come_to_a_gpu_as_from_its_memory(folder):
    device, source = torch.device("cuda"), load_source((run := plan_one(folder).run).dataset)
    of = [{**run.dataset.values, "resident": resident} for resident in (True, False)]
    there, mapped = (make_splits(replace(run.dataset, values=values), source, device) for values in of)
    assert mapped.train.images._read(np.arange(3)).is_pinned()
    pairs = zip(Batches(there, 8, "standard", 1).epoch(0), Batches(mapped, 8, "standard", 1).epoch(0), strict=True)
    for (images, targets), (read, of_read) in pairs:
        assert read.device.type == "cuda"
        assert torch.equal(images, read)
        assert torch.equal(targets, of_read)
