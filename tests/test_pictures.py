"""Files to pixels, and the cache of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import compose
from conftest import draw_picture as draw
from conftest import load_folder as load
from PIL import Image

from bench.dataset import _load, all_cores, pictures
from bench.errors import UsageError
from bench.sweep.plan import Command, make_plan
from bench.training.run import train_run

RANDOM = np.random.default_rng(0)


# --- pixels ----------------------------------------------------------------------------------------------------------


def test_grey_becomes_colour_and_colour_grey_as_channels_says(flat):
    colour, grey = load(flat), load(flat, channels=1)
    assert colour.train_images.shape[1:] == (10, 12, 3)
    assert grey.train_images.shape[1:] == (10, 12, 1)


@pytest.mark.slow
def test_many_pictures_are_decoded_by_several_processes_to_the_same_pixels(tmp_path, monkeypatch):
    for i in range(40):
        draw(tmp_path / "data" / "ab"[i % 2] / f"{i}.png")
    alone = load(tmp_path / "data")
    monkeypatch.setattr(all_cores, "_FEW", 10)
    monkeypatch.setattr(all_cores, "count_cores", lambda: 2)
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "other"))
    together = load(tmp_path / "data")
    assert np.array_equal(together.train_images, alone.train_images)
    assert together.fingerprint == alone.fingerprint
    (tmp_path / "data" / "b" / "39.png").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"b/39\.png"):
        load(tmp_path / "data")


@pytest.mark.parametrize("few", [10, 64])
def test_all_pictures_that_cannot_be_read_are_said_at_once(few, split, monkeypatch):
    monkeypatch.setattr(all_cores, "_FEW", few - 1)  # in several processes, and in this one
    for name in ("cat/0", "cat/2", "dog/0", "dog/1"):
        (split / "train" / f"{name}.png").write_bytes(b"nothing")
    draw(split / "test" / "dog" / "0.png", size=(20, 10))  # which is said when those are mended
    with pytest.raises(UsageError) as caught:
        load(split)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert lines[0] == "4 of 10 pictures cannot be read, the first of them:"
    assert [name in lines[1] for name in ("cat/0.png", "cat/2.png", "dog/0.png", "dog/1.png")] == [True] * 3 + [False]


def test_files_that_are_not_there_or_no_files_are_said_at_once_too(split, capsys):
    (split / "train" / "cat" / "7.png").symlink_to("nowhere.png")
    (split / "train" / "dog" / "8.png").symlink_to("nowhere.png")
    (split / "train" / "dog" / "9.png").mkdir()
    with pytest.raises(UsageError, match=r"(?s)2 of 12 pictures.*cat/7\.png.*dog/8\.png"):
        load(split)
    assert "1 folder" in capsys.readouterr().err


@pytest.mark.parametrize(("brightest", "white"), [(200, 255), (1000, 1023), (4095, 4095), (9000, 16383)])
def test_a_folder_of_16_bits_that_uses_few_of_them_is_refused_until_its_white_is_given(brightest, white, split):
    for file in split.rglob("*.png"):
        Image.fromarray(RANDOM.integers(0, brightest, (10, 12), dtype=np.uint16)).save(file)
    Image.fromarray(np.full((10, 12), brightest, dtype=np.uint16)).save(split / "test" / "dog" / "0.png")
    with pytest.raises(UsageError, match=f"brightest value is {brightest}") as caught:
        load(split)
    assert f"dataset.white={white}\n" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3
    assert load(split, white=white).test_images[-1].max() == 256 * brightest // white - (brightest == white)
    assert load(split, white=65535).test_images[-1].max() == brightest >> 8
    Image.fromarray(np.full((10, 12), 2**14, dtype=np.uint16)).save(split / "train" / "cat" / "0.png")
    assert load(split).train_images[0].max() == 64


def test_what_the_pictures_use_of_the_settings_is_cached_with_them(split, monkeypatch):
    Image.new("RGBA", (12, 10)).save(split / "train" / "cat" / "0.png")
    first, other = load(split), load(split, background="black")
    nothing_is_read(monkeypatch)
    for source, again, value in ((first, load(split), 255), (other, load(split, background="#000"), 0)):
        assert (source.train_images[0] == value).all()
        assert np.array_equal(again.train_images, source.train_images)
        assert again.settings == source.settings


@pytest.mark.slow
def test_the_decoding_processes_end_with_their_parent_however_it_dies():
    code = """
import multiprocessing, time
from bench.dataset import all_cores
for _ in all_cores.on_all_cores(time.sleep, [0.05] * 10_000, "sleeping"):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert children
    until = time.monotonic() + 600
    while (alive := [pid for pid in children if lives(pid)]) and time.monotonic() < until:
        time.sleep(0.1)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- the cache -------------------------------------------------------------------------------------------------------


def nothing_is_read(monkeypatch):
    def refuse(*_):
        raise AssertionError("a picture was read")

    monkeypatch.setattr(pictures, "_decode", refuse)
    monkeypatch.setattr(pictures, "_hash_file", refuse)


def test_a_later_start_reads_no_picture(split, monkeypatch, capsys):
    first = load(split)
    assert "10 pictures decoded" in capsys.readouterr().err
    nothing_is_read(monkeypatch)
    again = load(split)
    assert np.array_equal(again.train_images, first.train_images)
    assert again.fingerprint == first.fingerprint
    assert capsys.readouterr().err == ""


def test_a_changed_folder_is_decoded_anew_also_if_size_and_time_are_the_same(split):
    file = draw(split / "train" / "cat" / "0.bmp")  # its size does not depend on its content
    before, old = load(split), file.stat()
    draw(file)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    after = load(split)
    assert after.fingerprint != before.fingerprint
    assert (after.train_images[0] != before.train_images[0]).any()
    assert (after.train_images[1:] == before.train_images[1:]).all()
    draw(split / "train" / "cat" / "new.png")
    assert len(load(split).train_images) == len(before.train_images) + 1


def test_touched_and_moved_files_are_the_same_content(split, monkeypatch):
    fingerprint = load(split).fingerprint
    os.utime(split / "train" / "cat" / "0.png")
    split.rename(split.with_name("moved"))
    monkeypatch.setattr(pictures, "_decode", lambda *_: pytest.fail("decoded again"))
    assert load(split.with_name("moved")).fingerprint == fingerprint


def test_a_renamed_picture_is_other_content(split):
    fingerprint = load(split).fingerprint
    (split / "train" / "cat" / "0.png").rename(split / "train" / "cat" / "9.png")
    assert load(split).fingerprint != fingerprint


def test_a_damaged_cache_is_made_anew(split, tmp_path):
    pixels = np.array(load(split).train_images)
    (cached,) = (tmp_path / "cache" / "image_folder").glob("*.npy")
    cached.write_bytes(cached.read_bytes()[:200])
    assert np.array_equal(load(split).train_images, pixels)
    assert len(np.load(cached)) == 10


def test_a_cache_with_one_wrong_pixel_is_made_anew(split, tmp_path, monkeypatch):
    pixels = np.array(load(split).train_images)
    (cached,) = (tmp_path / "cache" / "image_folder").glob("*.npy")
    whole = cached.read_bytes()
    first = len(whole) - np.load(cached).nbytes
    for place in (first, -1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        cached.write_bytes(damaged)
        assert np.array_equal(load(split).train_images, pixels)
        assert cached.read_bytes() == whole
    cached.write_bytes(damaged)
    nothing_is_read(monkeypatch)
    monkeypatch.setattr(pictures, "_CHECKED", len(whole) // 2)
    load(split)  # a large one is not read as a whole


@pytest.mark.parametrize("damage", [b"", b"nothing"])
def test_a_cache_of_which_little_is_left_is_made_anew(damage, split, tmp_path):
    before = load(split)
    pixels = np.array(before.train_images)  # a map has none left where its file is cut
    for cached in (tmp_path / "cache" / "image_folder").iterdir():
        cached.write_bytes(damage)
    after = load(split)
    assert np.array_equal(after.train_images, pixels)
    assert after.fingerprint == before.fingerprint


def test_a_folder_that_changes_while_it_is_read_is_not_cached(split, tmp_path, monkeypatch):
    decode = pictures._decode

    def decode_and_change(*arguments):
        draw(split / "train" / "cat" / "0.png")
        return decode(*arguments)

    monkeypatch.setattr(pictures, "_decode", decode_and_change)
    with pytest.raises(UsageError, match="changed while it was read"):
        load(split)
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_data_that_change_after_the_start_are_not_recorded_as_what_they_were(split, tmp_path):
    (run,) = compose("dataset=image_folder", f"dataset.root={split}", "train.device=cpu", "train.batch_size=2")
    (planned,) = make_plan(Command("adhoc", [run], tmp_path))
    draw(split / "train" / "cat" / "0.png")
    _load.cache_clear()  # as in a worker process
    result = train_run(planned.run, tmp_path / "run", lambda *_: None)
    assert result["status"] == "failed"
    assert "the data have changed" in result["message"]


def test_a_cache_that_cannot_be_written_is_done_without(split, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "file"))
    assert len(load(split).train_images) == 7
    assert "nothing is cached" in capsys.readouterr().err


def test_sizes_and_channels_are_cached_apart(split):
    assert load(split, image_size=8).train_images.shape[1:] == (8, 8, 3)
    assert load(split, channels=1).train_images.shape[1:] == (10, 12, 1)
    assert load(split).train_images.shape[1:] == (10, 12, 3)
