"""A user's own folder of images: both layouts, what becomes of the pixels, the cache, and every error."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import compose
from PIL import Image
from torchvision.transforms import v2

from bench import UsageError, pictures
from bench.dataset import _load
from bench.dataset.image_folder import load_image_folder
from bench.plan import make_plan
from bench.run import train_run

RANDOM = np.random.default_rng(0)


def draw(path, size=(12, 10), mode="RGB"):
    """A random picture, size (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
    Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def load(root, image_size=None, channels=3, test_fraction=0.25):
    return load_image_folder("image_folder/x", str(root), image_size, channels, test_fraction)


@pytest.fixture
def split(tmp_path):
    """train/ with 4 pictures of cat and 3 of dog, test/ with 2 and 1."""
    for part, counts in (("train", {"cat": 4, "dog": 3}), ("test", {"dog": 1, "cat": 2})):
        for name, n in counts.items():
            for i in range(n):
                draw(tmp_path / "data" / part / name / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def flat(tmp_path):
    """Three classes of 8 pictures, of all kinds."""
    endings = ["png", "jpg", "JPEG", "bmp", "gif", "tif", "webp", "ppm"]
    for name in ("a", "b", "c"):
        for i, ending in enumerate(endings):
            draw(tmp_path / "flat" / name / f"{i}.{ending}", mode="L" if i % 3 == 0 else "RGB")
    return tmp_path / "flat"


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_train_and_test_folders_are_taken_as_they_are(split):
    source = load(split)
    assert source.train_labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert source.test_labels.tolist() == [0, 0, 1]
    assert source.classes == 2
    for images, folder in ((source.train_images, "train/dog/2.png"), (source.test_images, "test/dog/0.png")):
        assert (images[-1] == np.asarray(Image.open(split / folder))).all()


def test_a_class_of_the_test_folder_has_the_label_that_it_has_in_train(split):
    draw(split / "train" / "ant" / "0.png")
    assert load(split).test_labels.tolist() == [1, 1, 2]


def test_one_folder_of_classes_is_split_stratified_and_always_alike(flat):
    source, again = load(flat), load(flat)
    assert np.bincount(source.test_labels).tolist() == [2, 2, 2]
    assert np.bincount(source.train_labels).tolist() == [6, 6, 6]
    assert (source.test_images == again.test_images).all()
    images = {image.tobytes() for image in (*source.train_images, *source.test_images)}
    assert len(images) == 24


def test_hidden_files_and_what_is_no_picture_are_left_out(split, capsys):
    fingerprint = load(split).fingerprint
    capsys.readouterr()
    for name in ("notes.txt", ".DS_Store", "._0.png"):
        (split / "train" / "cat" / name).write_text("no picture")
    (split / "train" / ".cache").mkdir()
    assert load(split).fingerprint == fingerprint
    assert "left out, as no pictures: 1 .txt" in capsys.readouterr().err


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(12, 10), (10, 12), (9, 31), (40, 17), (16, 16), (100, 37)])
@pytest.mark.parametrize("image_size", [8, 16, 21])
def test_resizing_is_torchvisions(size, image_size, tmp_path):
    path = draw(tmp_path / "x.png", size)
    ours = pictures._decode(tmp_path, image_size, 3, "x.png")
    steps = v2.Compose([v2.Resize(image_size, v2.InterpolationMode.BILINEAR), v2.CenterCrop(image_size)])
    assert (ours == np.asarray(steps(Image.open(path)))).all()


def test_grey_becomes_colour_and_colour_grey_as_channels_says(flat):
    colour, grey = load(flat), load(flat, channels=1)
    assert colour.train_images.shape[1:] == (10, 12, 3)
    assert grey.train_images.shape[1:] == (10, 12, 1)


def test_pictures_stand_upright_and_16_bits_keep_their_scale(tmp_path):
    pixels = RANDOM.integers(0, 256, (6, 10), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert (pictures._decode(tmp_path, None, 1, "turned.png")[..., 0] == np.rot90(pixels, -1)).all()
    for deep in ("deep.png", "deep.pgm"):
        Image.fromarray(pixels.astype(np.uint16) * 256 + 17).save(tmp_path / deep)
        assert (pictures._decode(tmp_path, None, 1, deep)[..., 0] == pixels).all()


def test_many_pictures_are_decoded_by_several_processes_to_the_same_pixels(tmp_path, monkeypatch):
    for i in range(40):
        draw(tmp_path / "data" / "ab"[i % 2] / f"{i}.png")
    alone = load(tmp_path / "data")
    monkeypatch.setattr(pictures, "_FEW", 10)
    monkeypatch.setattr(pictures, "_cores", lambda: 2)
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "other"))
    together = load(tmp_path / "data")
    assert (together.train_images == alone.train_images).all()
    assert together.fingerprint == alone.fingerprint
    (tmp_path / "data" / "b" / "39.png").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"b/39\.png"):
        load(tmp_path / "data")


def test_the_decoding_processes_end_with_their_parent_however_it_dies():
    code = """
import multiprocessing, time
from bench import pictures
for _ in pictures._on_all_cores(time.sleep, [0.05] * 10_000, "sleeping"):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert children
    until = time.monotonic() + 20
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
    assert (again.train_images == first.train_images).all()
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
    before = load(split)
    (cached,) = (tmp_path / "cache" / "image_folder").glob("*.npy")
    cached.write_bytes(cached.read_bytes()[:200])
    assert (load(split).train_images == before.train_images).all()
    assert len(np.load(cached)) == 10


@pytest.mark.parametrize("damage", [b"", b"nothing"])
def test_a_cache_of_which_little_is_left_is_made_anew(damage, split, tmp_path):
    before = load(split)
    for cached in (tmp_path / "cache" / "image_folder").iterdir():
        cached.write_bytes(damage)
    after = load(split)
    assert (after.train_images == before.train_images).all()
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
    (planned,) = make_plan([run], tmp_path)
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


# --- errors ----------------------------------------------------------------------------------------------------------


def test_what_cannot_serve_is_told_by_its_name(split, flat, tmp_path, monkeypatch):
    def refuses(root, *parts, **values):
        with pytest.raises(UsageError) as caught:
            load(root, **values)
        message = str(caught.value)
        assert len(message.splitlines()) <= 3
        assert all(part in message for part in parts), message

    refuses(tmp_path / "nowhere", "nowhere", "not a folder")
    draw(tmp_path / "one" / "cat" / "0.png")
    refuses(tmp_path / "one", "one class only: cat")
    (tmp_path / "one" / "dog").mkdir()
    refuses(tmp_path / "one", "class dog is empty", "no picture")
    refuses(flat, "channels=2", channels=2)
    refuses(flat, "class a has too few pictures (8)", "test_fraction=0.99", test_fraction=0.99)
    refuses(flat, "leaves no picture to test on", test_fraction=0.001)
    draw(split / "test" / "emu" / "0.png")
    refuses(split, "class that train lacks: emu")
    (split / "test" / "emu" / "0.png").unlink()
    (split / "test" / "emu").rmdir()
    (split / "test").rename(split / "val")
    refuses(split, "no folder test")
    (split / "val").rename(split / "test")
    draw(split / "test" / "dog" / "0.png", size=(20, 10))
    refuses(split, "differ in size", "train/cat/0.png is 12x10", "test/dog/0.png 20x10", "dataset.image_size=")
    load(split, image_size=8)
    whole = draw(split / "test" / "dog" / "1.png").read_bytes()
    for damaged in (b"", b"\x89PNG nothing", whole[:60], whole[:-200]):
        (split / "test" / "dog" / "1.png").write_bytes(damaged)
        refuses(split, "test/dog/1.png cannot be read", image_size=8)
    Image.fromarray(np.zeros((10, 12), dtype=np.float32)).save(flat / "a" / "0.tif")
    refuses(flat, "a/0.tif", "32 bits", image_size=9)
    monkeypatch.setattr(pictures, "_free_memory", lambda: 2**10)
    (flat / "a" / "0.tif").unlink()
    refuses(flat, "too large for memory", "GiB", "image_size", image_size=11)


def test_the_memory_that_is_free_is_some_and_less_than_there_is():
    assert 2**20 < pictures._free_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# --- from end to end -------------------------------------------------------------------------------------------------


def test_ten_classes_in_one_flat_folder_of_mixed_pictures_train_from_end_to_end(tmp_path):
    for label in range(10):
        for i in range(12):
            (tmp_path / "my pictures" / f"class {label}").mkdir(parents=True, exist_ok=True)
            pixels = RANDOM.integers(0, 60, (100, 100, 3), dtype=np.uint8)
            pixels[10 * label : 10 * label + 10] += 180
            picture = Image.fromarray(pixels)
            picture = picture.convert("L") if i % 2 else picture
            picture.save(tmp_path / "my pictures" / f"class {label}" / f"{i}.{'png' if i % 3 else 'jpg'}")
    words = ("dataset=image_folder", f"dataset.root={tmp_path / 'my pictures'}", "dataset.image_size=20")
    steps = ("model=convnet", "model.width=8", "train.batch_size=16", "train.epochs=20", "optimizer.sgd.lr=0.05")
    runs = compose(*words, *steps, "regularizer=none,[mixup,sam]", "dataset.augment=none", "train.device=cpu")
    plan = make_plan(runs, tmp_path / "results")
    assert {p.run.dataset.name for p in plan} == {"image_folder/my_pictures"}
    results = [train_run(p.run, tmp_path / p.run_id, lambda *_: None) for p in plan]
    assert [result["status"] for result in results] == ["done", "done"]
    assert results[0]["test_accuracy"] > 0.5  # chance is 0.1


def test_where_the_folder_lies_and_what_it_is_called_is_no_part_of_a_runs_identity(split, tmp_path):
    def identify(*overrides):
        (run,) = compose("dataset=image_folder", "train.device=cpu", "train.batch_size=2", *overrides)
        (planned,) = make_plan([run], tmp_path / "results")
        return planned.run_id

    here = identify(f"dataset.root={split}", "dataset.name=pets")
    assert identify(f"dataset.root={split}") != here  # the word in tables is another
    split.rename(split.with_name("elsewhere"))
    assert identify(f"dataset.root={split.with_name('elsewhere')}", "dataset.name=pets") == here
    assert identify(f"dataset.root={split.with_name('elsewhere')}", "dataset.name=pets", "dataset.image_size=8") != here


def test_a_tensor_can_be_made_of_what_is_mapped_from_the_cache(split):
    load(split)
    mapped = load(split)
    assert not mapped.test_images.flags.writeable
    (run,) = compose("dataset=image_folder", f"dataset.root={split}", "train.device=cpu", "train.batch_size=2")
    (planned,) = make_plan([run], split)
    result = train_run(planned.run, split / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    assert torch.get_default_dtype() is torch.float32
