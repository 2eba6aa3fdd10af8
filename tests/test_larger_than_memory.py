"""Images that are read from their file while a run trains: the same numbers, and no more memory than a few batches."""

import multiprocessing
import os
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import compose, make_trainer
from test_checkpoint import content_of, train_interrupted

from bench.dataset import load_source, make_splits, residency
from bench.dataset.batches import PADDING, Batches
from bench.dataset.mapped import MappedImages
from bench.dataset.rows import Rows
from bench.disk.lock import this_process
from bench.errors import UsageError
from bench.machine import free_memory
from bench.probe import PROBES
from bench.sweep.launcher.joblib import Joblib
from bench.sweep.plan import Command, make_plan
from bench.sweep.worker import Worker
from bench.training import evaluate
from bench.training.run import train_run

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)


def plan_one(folder, *overrides):
    words = ("dataset=image_folder", f"dataset.root={folder}", "train.device=cpu", "train.batch_size=8")
    net = ("model=convnet", "model.width=8", "train.epochs=2", "dataset.val_fraction=0.2")
    (planned,) = make_plan(Command("adhoc", compose(*words, *net, *overrides), folder.parent / "results"))
    return planned


def load_data(run):
    return make_splits(run.dataset, load_source(run.dataset), CPU)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("images")]


# --- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        ["regularizer=none", "dataset.augment=none"],
        ["regularizer=[mixup,sam]", "dataset.drop_duplicates=true", "dataset.label_noise=0.3"],
        ["regularizer=[cutmix,swa]", "dataset.augment=alternating", "dataset.train_size=30", "dataset.split_seed=seed"],
        ["regularizer=[cutout,mixup,dropout]", "dataset.imbalance=0.5", "dataset.augment=trivial_augment"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_number_is_that_of_images_in_memory_and_so_is_the_run_id(overrides, folder, tmp_path):
    there, mapped = (plan_one(folder, *overrides, f"dataset.resident={word}") for word in ("true", "false"))
    assert there.run_id == mapped.run_id
    assert isinstance(load_data(mapped.run).train.images, MappedImages)
    for planned, name in ((there, "there"), (mapped, "mapped")):
        assert train_run(planned.run, tmp_path / name)["status"] == "done"
    assert content_of(tmp_path / "mapped") == content_of(tmp_path / "there")
    assert not threads()


def test_batches_of_many_small_images_and_of_few_are_those_in_memory(folder, monkeypatch):
    for augment in PADDING:
        run = plan_one(folder, f"dataset.augment={augment}").run
        source = load_source(run.dataset)
        both = [
            make_splits(replace(run.dataset, values={**run.dataset.values, "resident": resident}), source, CPU)
            for resident in (True, False)
        ]
        for together in (0, 2**20):
            monkeypatch.setattr("bench.dataset.batches._VALUES_TOGETHER", together)
            for skip in (0, 3):
                one, other = (list(Batches(data, 8, augment, 1).epoch(1, skip)) for data in both)
                assert len(one) == len(other) == both[0].shape[0] // 8 - skip
                for (images, targets), (mapped, of_mapped) in zip(one, other, strict=True):
                    assert torch.equal(images, mapped)
                    assert images.stride() == mapped.stride()
                    assert torch.equal(targets, of_mapped)


def test_a_run_that_is_interrupted_within_an_epoch_ends_as_one_in_memory(folder, tmp_path):
    there, mapped = (
        plan_one(folder, "regularizer=[mixup,sam]", f"dataset.resident={word}").run for word in ("true", "false")
    )
    train_run(there, tmp_path / "there")
    train_interrupted(mapped, tmp_path / "mapped", 3, 4)
    assert content_of(tmp_path / "mapped") == content_of(tmp_path / "there")
    assert not threads()


def test_probes_and_evaluation_see_the_same_images(folder, monkeypatch):
    monkeypatch.setattr("bench.probe.passes._MOST", 5)
    measured = []
    for word in ("true", "false"):
        run = plan_one(folder, f"dataset.resident={word}", "seed=3").run
        trainer, batches = make_trainer(run)
        data = batches.data
        with torch.random.fork_rng():
            found = {name: probe(trainer.model, data, run.seed) for name, probe in PROBES.items()}
        logits = [evaluate._compute(trainer.model.eval(), data.train, data, size).tolist() for size in (5, 512)]
        measured.append(({name: (each.numbers, each.rows) for name, each in found.items()}, logits))
    assert str(measured[0]) == str(measured[1])


# --- the thread ------------------------------------------------------------------------------------------------------


def test_an_error_of_the_thread_is_the_runs_and_no_thread_stays(folder, tmp_path, monkeypatch):
    run, read, calls = plan_one(folder, "dataset.resident=false").run, Rows.read, iter(range(1000))

    def read_a_little(self, at, out=None):
        if threading.current_thread().name.startswith("images") and next(calls) == 5:
            raise OSError(5, "Input/output error")
        return read(self, at, out)

    monkeypatch.setattr(Rows, "read", read_a_little)
    result = train_run(run, tmp_path / "run")
    assert result["status"] == "failed"
    assert "Input/output error" in result["message"]
    assert not threads()


def test_the_thread_ends_where_an_epoch_is_left_and_reads_only_a_few_batches_ahead():
    images, asked = MappedImages(Rows(RANDOM.integers(0, 256, (400, 2, 2, 1), dtype=np.uint8)), CPU), []
    images._read = lambda at: asked.append(at) or torch.zeros(len(at))
    with closing(images.split(4)) as parts:
        for _ in range(3):
            next(parts)
        assert threads()
    assert not threads()
    assert len(asked) <= 3 + 4
    assert [at[0] for at in asked] == [*range(0, 4 * len(asked), 4)]


def test_an_error_in_a_step_ends_the_thread(folder, monkeypatch):
    trainer, batches = make_trainer(plan_one(folder, "dataset.resident=false").run)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "step", fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        next(trainer.epochs(batches))
    assert not threads()
    del caught


# --- which images are where ------------------------------------------------------------------------------------------


def test_images_that_fit_in_memory_three_times_lie_there_and_others_do_not(folder, monkeypatch):
    run = plan_one(folder).run
    source = load_source(run.dataset)
    size = sum(np.asarray(images).nbytes for _, images, _ in source.splits())

    def is_there(free, resident=None):
        monkeypatch.setattr(residency, "find_free_memory", lambda: free)
        values = {**run.dataset.values, "resident": resident, "split_seed": free}  # a key of its own
        data = make_splits(replace(run.dataset, values=values), source, CPU)
        there = {isinstance(split.images, torch.Tensor) for split in (data.train, data.val, data.test)}
        assert len(there) == 1
        return there.pop()

    assert is_there(3 * size)
    assert not is_there(3 * size - 1)
    assert is_there(2 * size, resident=True)
    assert not is_there(9 * size, resident=False)


def test_what_is_to_lie_in_memory_and_cannot_is_refused_before_anything_trains(folder, monkeypatch):
    monkeypatch.setattr(residency, "find_free_memory", lambda: 1000)
    assert plan_one(folder)
    with pytest.raises(UsageError, match=r"(?s)dataset\.resident=true: .* 9x11x3 are .* GiB.*Leave it out") as caught:
        plan_one(folder, "dataset.resident=true")
    assert len(str(caught.value).splitlines()) <= 3
    with pytest.raises(UsageError, match="one of true, false, null"):
        compose("dataset.resident=maybe")


@pytest.mark.parametrize("mapped", [True, False])
def test_rows_are_those_of_an_array(mapped, tmp_path):
    array = RANDOM.integers(0, 256, (700, 5, 3, 2), dtype=np.uint8)
    np.save(tmp_path / "array.npy", array)
    pixels = np.load(tmp_path / "array.npy", mmap_mode="r")[100:] if mapped else array[100:]
    first, second = RANDOM.permutation(600), RANDOM.permutation(600)[:550]
    for rows, plain in (
        (Rows(pixels), array[100:]),
        (Rows(pixels, first), array[100:][first]),
        (Rows(Rows(pixels, first), second), array[100:][first][second]),
        (Rows(Rows(np.ascontiguousarray(pixels)), second), array[100:][second]),
    ):
        assert rows.shape == plain.shape
        assert (rows._file is not None) == mapped
        for key in (0, -1, slice(3, 90, 7), slice(None, None, -1), np.array([4, 2, 2])):
            assert np.array_equal(rows[key], plain[key])
        assert np.array_equal(rows, plain)
        assert np.array_equal(rows.load(), plain)
        assert np.array_equal([*rows], plain)
        assert np.array_equal(np.sort(np.asarray(rows.sorted()).ravel()), np.sort(plain.ravel()))
    with pytest.raises(IndexError):
        Rows(pixels)[600]


def test_mapped_images_are_indexed_as_a_tensor_is():
    array = torch.from_numpy(RANDOM.integers(0, 256, (12, 5, 3, 2), dtype=np.uint8))
    images = MappedImages(Rows(array.numpy()), CPU)
    mask = torch.arange(12) % 3 == 1
    for key in (torch.tensor([-1, 0, -12, 3, 3]), mask, ~mask & False, slice(2, 9, 3), slice(-2, None)):
        assert torch.equal(images[key], array[key])
    for key in (torch.tensor([12]), torch.tensor([-13]), mask[:5]):
        with pytest.raises(IndexError):
            images[key]


def test_what_was_written_to_a_map_of_its_own_is_not_lost(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros((4, 2, 2, 1), dtype=np.uint8))
    pixels = np.load(tmp_path / "array.npy", mmap_mode="c")
    pixels[1] = 7
    rows = Rows(pixels)
    assert [rows[1].max(), rows[1].max(), pixels[1].max()] == [7, 7, 7]


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/", {"memory.max": "1000"}, 1000),
        ("0::/a/b", {"memory.max": "900", "a/memory.max": "800", "a/b/memory.max": "max"}, 800),
        ("0::/host/path", {"memory.max": "700"}, 700),  # in a container
        ("3:cpu:/a\n4:memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "600", "cpu/a/memory.max": "5"}, 600),
        ("0::/", {"memory.max": "max"}, None),
        ("nothing", {}, None),
    ],
)
def test_the_limit_of_a_container_or_a_job_is_known(groups, limits, expected, tmp_path, monkeypatch):
    for name, limit in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(limit)
    (tmp_path / "own").write_text(groups + "\n")
    monkeypatch.setattr(free_memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(free_memory, "_OWN", tmp_path / "own")
    found = free_memory.find_free_memory()
    assert found == expected if expected else found > 2**20


def test_the_memory_that_is_free_is_some_and_less_than_there_is():
    assert 2**20 < free_memory.find_free_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def work(worker, told):
    worker(0)
    told.put(free_memory.find_free_memory())


def test_processes_that_share_the_runs_share_the_memory(tmp_path):
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=work, args=(Worker([], tmp_path, Joblib(jobs=4), this_process()), told))
    process.start()
    assert told.get(timeout=120) < free_memory.find_free_memory() / 2  # a quarter of what was free by then
    process.join(120)
