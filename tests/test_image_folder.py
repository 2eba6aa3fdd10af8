"""A user's own folder of images: both layouts, and every error."""

import os

import numpy as np
import pytest
import torch
from conftest import compose
from conftest import draw_picture as draw
from conftest import load_folder as load
from PIL import Image

from bench import UsageError, pictures
from bench.plan import Command, make_plan
from bench.run import train_run

RANDOM = np.random.default_rng(0)


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


def test_pictures_whose_class_a_mirror_changes_are_not_flipped(split):
    assert load(split).flips
    assert not load(split, flips=False).flips


def test_hidden_files_and_what_is_no_picture_are_left_out(split, capsys):
    fingerprint = load(split).fingerprint
    capsys.readouterr()
    for name in ("notes.txt", ".DS_Store", "._0.png"):
        (split / "train" / "cat" / name).write_text("no picture")
    (split / "train" / ".cache").mkdir()
    assert load(split).fingerprint == fingerprint
    assert "left out, as no pictures: 1 .txt" in capsys.readouterr().err


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
    plan = make_plan(Command("adhoc", runs, tmp_path / "results"))
    assert {p.run.dataset.name for p in plan} == {"image_folder/my_pictures"}
    results = [train_run(p.run, tmp_path / p.run_id, lambda *_: None) for p in plan]
    assert [result["status"] for result in results] == ["done", "done"]
    assert results[0]["test_accuracy"] > 0.5  # chance is 0.1


def test_where_the_folder_lies_and_what_it_is_called_is_no_part_of_a_runs_identity(split, tmp_path):
    def identify(*overrides):
        (run,) = compose("dataset=image_folder", "train.device=cpu", "train.batch_size=2", *overrides)
        (planned,) = make_plan(Command("adhoc", [run], tmp_path / "results"))
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
    (planned,) = make_plan(Command("adhoc", [run], split))
    result = train_run(planned.run, split / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    assert torch.get_default_dtype() is torch.float32
