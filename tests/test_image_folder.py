"""A user's own folder of images: both layouts, and every error."""

import errno
import shutil
from unicodedata import normalize

import numpy as np
import pytest
import torch
from conftest import compose
from conftest import draw_picture as draw
from conftest import load_folder as load
from PIL import Image

from bench.config.identity import identity
from bench.dataset import _load, load_source, make_splits, pictures
from bench.errors import UsageError
from bench.record.folder import read_result
from bench.sweep.plan import Command, make_plan
from bench.training.run import train_run

RANDOM = np.random.default_rng(0)


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_train_and_test_folders_are_taken_as_they_are(split):
    source = load(split)
    assert source.train_labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert source.test_labels.tolist() == [0, 0, 1]
    assert source.classes == 2
    assert source.class_names == ["cat", "dog"]
    for images, folder in ((source.train_images, "train/dog/2.png"), (source.test_images, "test/dog/0.png")):
        assert (images[-1] == np.asarray(Image.open(split / folder))).all()


def test_a_class_of_the_test_folder_has_the_label_that_it_has_in_train(split):
    draw(split / "train" / "ant" / "0.png")
    assert load(split).test_labels.tolist() == [1, 1, 2]


def test_one_folder_of_classes_is_split_stratified_and_always_alike(flat):
    source, again = load(flat), load(flat)
    assert np.bincount(source.test_labels).tolist() == [2, 2, 2]
    assert np.bincount(source.train_labels).tolist() == [6, 6, 6]
    assert np.array_equal(source.test_images, again.test_images)
    images = {image.tobytes() for image in (*source.train_images, *source.test_images)}
    assert len(images) == 24


@pytest.mark.parametrize("name", ["val", "Valid", "validation", "VALIDATE", "dev", "val_set"])
def test_a_validation_folder_is_the_validation_split(name, split, tmp_path):
    before = load(split)
    for folder, n in (("cat", 1), ("dog", 2)):
        for i in range(n):
            draw(split / name / folder / f"{i}.png")
    source = load(split)
    assert source.val_labels.tolist() == [0, 1, 1]
    assert (source.val_images[-1] == np.asarray(Image.open(split / name / "dog" / "1.png"))).all()
    assert np.array_equal(source.train_images, before.train_images)
    assert (source.test_images == before.test_images).all()
    assert source.fingerprint != before.fingerprint
    (run,) = compose("dataset=image_folder", f"dataset.root={split}", "train.device=cpu", "train.batch_size=7")
    data = make_splits(run.dataset, load_source(run.dataset), torch.device("cpu"))
    assert (len(data.train), len(data.val), len(data.test)) == (7, 3, 3)
    assert (data.val.images.numpy() == source.val_images).all()


def test_val_fraction_is_no_part_of_the_identity_where_there_is_a_validation_folder(split, tmp_path):
    words = (
        "dataset=image_folder",
        f"dataset.root={split}",
        "train.device=cpu",
        "train.batch_size=2",
        "train.epochs=1",
    )
    runs = compose(*words, "dataset.val_fraction=0.1,0.3")
    assert len(make_plan(Command("adhoc", runs, tmp_path / "results"))) == 2
    (split / "test").rename(split / "valid")
    _load.cache_clear()
    runs = compose(*words, "dataset.val_fraction=0.1,0.3")
    (planned,) = make_plan(Command("adhoc", runs, tmp_path / "results"))
    assert "dataset.val_fraction" not in identity(planned.run)
    result = train_run(planned.run, tmp_path / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    assert len(np.load(tmp_path / "run" / "logits.npz")["val_labels"]) == 3


def test_without_a_test_folder_training_pictures_are_split_off_and_that_is_said(split, capsys):
    (split / "test").rename(split / "val")
    source = load(split, test_fraction=0.3)
    assert (len(source.train_labels), len(source.val_labels), len(source.test_labels)) == (5, 3, 2)
    images = {image.tobytes() for image in (*source.train_images, *source.test_images)}
    assert images == {np.asarray(Image.open(file)).tobytes() for file in (split / "train").rglob("*.png")}
    assert "no folder test" in capsys.readouterr().err


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAINING", "testing"), ("training_set", "test_set")])
def test_train_and_test_may_be_called_as_people_call_them(train, test, split):
    before = load(split)
    (split / "train").rename(split / train)
    (split / "test").rename(split / test)
    assert np.array_equal(load(split).train_images, before.train_images)
    assert (load(split).test_images == before.test_images).all()


def test_what_lies_beside_the_folders_that_serve_is_said(split, capsys):
    fingerprint = load(split).fingerprint
    draw(split / "extra" / "cat" / "0.png")
    (split / "annotations").mkdir()
    (split / ".git").mkdir()
    draw(split / "train" / "cover.png")
    capsys.readouterr()
    assert load(split).fingerprint == fingerprint
    said = capsys.readouterr().err
    assert "left out, beside test, train: annotations, extra\n" in said
    assert "beside the folders of classes: 1 pictures" in said


def images_of(source, label):
    splits = ((source.train_images, source.train_labels), (source.test_images, source.test_labels))
    return {image.tobytes() for images, labels in splits for image in images[labels == label]}


@pytest.mark.parametrize("name", ["train", "test", "val", "Training"])
def test_a_class_may_be_called_as_a_split_is(name, flat):
    before = load(flat)
    (flat / "c").rename(flat / name)
    source = load(flat)
    label = sorted(["a", "b", name]).index(name)
    assert np.bincount(source.train_labels).tolist() == [6, 6, 6]
    assert images_of(source, label) == images_of(before, 2)


def test_a_class_that_is_called_as_a_split_may_hold_a_folder_beside_its_pictures(flat, capsys):
    (flat / "c").rename(flat / "test")
    draw(flat / "test" / "old" / "0.png")
    assert np.bincount(load(flat).train_labels).tolist() == [6, 6, 6]
    assert "left out, as no pictures: 1 folder" in capsys.readouterr().err


@pytest.mark.parametrize("forms", ["NFC NFD", "NFD NFC", "NFD NFD", "NFC NFC"])
def test_names_that_differ_in_their_unicode_form_are_one_class(forms, split):
    train, test = forms.split()
    before = load(split)
    for part, form in (("train", train), ("test", test)):
        (split / part / "cat").rename(split / part / normalize(form, "pingüin"))
    source = load(split)
    assert source.classes == 2
    assert sorted(source.test_labels) == [0, 1, 1]
    assert {x.tobytes() for x in source.test_images[source.test_labels == 1]} == {
        x.tobytes() for x in before.test_images[before.test_labels == 0]
    }


def test_two_folders_whose_names_differ_in_their_unicode_form_hold_one_class(split):
    for form in ("NFC", "NFD"):
        draw(split / "train" / normalize(form, "é") / f"{form}.png")
    assert np.bincount(load(split).train_labels).tolist() == [4, 3, 2]


def test_classes_that_a_split_lacks_are_said_before_training(flat, tmp_path, capsys):
    for i in range(2):
        draw(flat / "rare" / f"{i}.png")
    draw(flat / "single" / "0.png")
    words = ("dataset=image_folder", f"dataset.root={flat}", "dataset.image_size=8", "train.device=cpu")
    make_plan(
        Command(
            "adhoc", compose(*words, "dataset.val_fraction=0.3", "train.batch_size=4", "seed=0,1"), tmp_path / "results"
        )
    )
    said = capsys.readouterr().err
    assert said.count("the test split has no image of 2 of the 5 classes: rare, single\n") == 1
    assert said.count("the val split has no image of 1 of the 5 classes: single\n") == 1
    assert "train split" not in said


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
    draw(split / "val" / "emu" / "0.png")
    refuses(split, "val has a class that train lacks: emu")
    shutil.rmtree(split / "val" / "emu")
    (split / "train").rename(split / "pictures")
    refuses(split, "no folder train")
    (split / "pictures").rename(split / "train")
    (split / "val").rename(split / "test")
    (split / "Test").mkdir()
    refuses(split, "several folders for test: Test, test")
    (split / "Test").rmdir()
    draw(tmp_path / "unsorted" / "train" / "0.png")
    draw(tmp_path / "unsorted" / "test" / "0.png")
    refuses(tmp_path / "unsorted", "unsorted/train has no folder of a class")
    draw(split / "test" / "dog" / "0.png", size=(20, 10))
    refuses(split, "differ in size", "train/cat/0.png is 12x10", "test/dog/0.png 20x10", "dataset.image_size=")
    load(split, image_size=8)
    whole = draw(split / "test" / "dog" / "1.png").read_bytes()
    for damaged in (b"", b"\x89PNG nothing", whole[:60], whole[:-200]):
        (split / "test" / "dog" / "1.png").write_bytes(damaged)
        refuses(split, "test/dog/1.png cannot be read", image_size=8)
    Image.fromarray(np.zeros((10, 12), dtype=np.float32)).save(flat / "a" / "0.tif")
    refuses(flat, "a/0.tif", "32 bits", image_size=9)
    monkeypatch.setattr(pictures, "find_free_memory", lambda: 2**10)
    monkeypatch.setattr(pictures, "check_disk", refuse_room)
    (flat / "a" / "0.tif").unlink()
    refuses(flat, "too large for memory", "GiB", "image_size", image_size=11)


def refuse_room(path, size):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("background=whitish", "name of a colour"),
        ("background='#12345678'", "#rrggbb"),
        ("background=0", "#rrggbb"),
        ("white=0", "above 0"),
        ("max_pixels=0", "at least 1"),
    ],
)
def test_settings_of_pictures_that_are_no_such_values_are_refused(override, allowed):
    with pytest.raises(UsageError, match=f"(?s)dataset.{override.replace(chr(39), '')} is not allowed.*{allowed}"):
        compose("dataset=image_folder", f"dataset.{override}")


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


def test_a_tensor_can_be_made_of_what_is_mapped_from_the_cache(split):
    load(split)
    mapped = load(split)
    assert not mapped.test_images.flags.writeable
    (run,) = compose("dataset=image_folder", f"dataset.root={split}", "train.device=cpu", "train.batch_size=2")
    (planned,) = make_plan(Command("adhoc", [run], split))
    result = train_run(planned.run, split / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    assert read_result(split / "run")["class_names"] == ["cat", "dog"]  # of the columns of logits.npz
    assert torch.get_default_dtype() is torch.float32
