"""Arrays of an .npz file that are too large to be unpacked into memory at each start."""

import shutil

import numpy as np
import pytest
from conftest import compose
from test_larger_than_memory import RANDOM

from bench.dataset import _load, arrays
from bench.errors import UsageError
from bench.sweep.plan import Command, make_plan


@pytest.fixture
def npz(tmp_path):
    labels = np.arange(60) % 3
    images = RANDOM.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez_compressed(tmp_path / "set.npz", train_images=images, train_labels=labels)
    return tmp_path / "set.npz"


def load_npz(path):
    return arrays.load_arrays("arrays/set", str(path), True, 0.2)


def test_large_arrays_are_unpacked_once_and_mapped(npz, tmp_path, monkeypatch):
    before = load_npz(npz)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(arrays, "_SMALL", 1000)
    mapped = load_npz(npz)
    assert mapped.hash_content() == before.hash_content()
    assert mapped.train_images._file is not None
    (cached,) = (tmp_path / "cache" / "arrays").iterdir()
    stamp = cached.stat().st_mtime_ns
    assert load_npz(npz).hash_content() == before.hash_content()
    assert cached.stat().st_mtime_ns == stamp
    del mapped
    whole = cached.read_bytes()
    cached.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert load_npz(npz).hash_content() == before.hash_content()
    assert cached.read_bytes() == whole
    cached.write_bytes(b"nothing")
    assert load_npz(npz).hash_content() == before.hash_content()
    monkeypatch.setenv("REGBENCH_CACHE", str(npz))  # no folder
    assert load_npz(npz).hash_content() == before.hash_content()
    np.savez(npz, train_images=np.array([[1], [2, 3]] * 300, dtype=object), train_labels=np.arange(600) % 2)
    with pytest.raises(UsageError, match="pickle"):
        load_npz(npz)


def test_arrays_for_which_the_disk_has_no_room_are_read_if_memory_has(npz, tmp_path, monkeypatch, capsys):
    before = load_npz(npz)
    monkeypatch.setattr(arrays, "_SMALL", 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 3000, 3000))
    assert load_npz(npz).hash_content() == before.hash_content()
    assert "nothing is cached" in capsys.readouterr().err
    assert [*(tmp_path / "cache" / "arrays").iterdir()] == []
    monkeypatch.setattr(arrays, "find_free_memory", lambda: 3 * 3840)
    with pytest.raises(UsageError, match=r"(?s)train_images .* too large for memory.*REGBENCH_CACHE") as caught:
        load_npz(npz)
    assert len(str(caught.value).splitlines()) <= 3


def test_arrays_have_the_same_identity_however_they_are_loaded(npz, tmp_path, monkeypatch):
    def identify(*overrides):
        _load.cache_clear()
        words = ("dataset=arrays", f"dataset.file={npz}", "train.device=cpu", "train.batch_size=8", *overrides)
        (planned,) = make_plan(Command("adhoc", compose(*words), tmp_path / "results"))
        return planned.run_id

    before = identify()
    monkeypatch.setattr(arrays, "_SMALL", 1000)
    assert {identify(), identify("dataset.resident=true"), identify("dataset.resident=false")} == {before}
