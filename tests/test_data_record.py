"""The same picture in training and in test, from end to end: said, listed, recorded, dropped; and rows of logits traced
to their files."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw_picture, load_folder
from PIL import Image

from bench import cli
from bench.cli import doctor
from bench.cli import run as app
from bench.record.experiment import Experiment
from bench.record.folder import read_result
from bench.record.merge import merge
from bench.record.tables import experiments, write_tables
from bench.report.evidence import write_evidence

PICTURES = ("dataset=image_folder", "dataset.channels=3", "dataset.name=pets")
TRAINING = (
    "model=mlp",
    "model.width=8",
    "train.epochs=1",
    "train.batch_size=4",
    "train.device=cpu",
    "train.precision=fp32",
)


@pytest.fixture
def pets(tmp_path):
    """Two test pictures that are training pictures, one of them in another format; one twice; one under two labels."""
    root = tmp_path / "pets"
    for split, n in (("train", 8), ("test", 4)):
        for name in ("cat", "dog"):
            for i in range(n):
                draw_picture(root / split / name / f"{i}.png")
    shutil.copy(root / "train" / "cat" / "2.png", root / "test" / "cat" / "0.png")
    Image.open(root / "train" / "dog" / "3.png").save(root / "test" / "dog" / "new.bmp")
    shutil.copy(root / "train" / "cat" / "4.png", root / "train" / "cat" / "again.png")
    shutil.copy(root / "train" / "cat" / "5.png", root / "train" / "dog" / "5.png")
    return root


LINE = (
    "image_folder/pets: 2 of 9 test images are in training, too (test/cat/0.png = train/cat/2.png, test/dog/new.bmp = "
    "train/dog/3.png); 2 of 17 training images repeat another (train/cat/4.png = train/cat/again.png, train/cat/5.png "
    "= train/dog/5.png); 1 under several labels (train/cat/5.png = train/dog/5.png); training is "
)


def run(pets, *overrides):
    return app.run([*PICTURES, f"dataset.root={pets}", *TRAINING, *overrides])


def read_records(results):
    return [json.loads(file.read_text()) for file in sorted((results / "datasets").iterdir())]


def test_equal_pictures_are_said_in_one_line_before_training_and_recorded_once(pets, tmp_path, capsys, monkeypatch):
    assert run(pets) == 0
    shown = capsys.readouterr().out
    assert f"{LINE}with them, dataset.drop_duplicates=true takes them out\n" in shown
    assert shown.index(LINE) < shown.index("NLL")
    (record,) = read_records(tmp_path / "results")
    assert record["doubles"]["test_in_train"] == 2
    assert record["class_names"] == ["cat", "dog"]
    assert record["dropped"] == [f"train/{f}.png" for f in ("cat/2", "cat/5", "cat/again", "dog/3", "dog/5")]
    monkeypatch.setattr("bench.dataset.doubles.number_pixels", None)  # it would be called to count anew
    assert run(pets, "seed=1", "dataset.val_fraction=0.2") == 0
    assert LINE in capsys.readouterr().out
    assert len(read_records(tmp_path / "results")) == 1
    assert experiments(tmp_path / "results") == ["adhoc"]


def test_plan_says_it_too_and_writes_nothing(pets, tmp_path, capsys):
    app.plan([*PICTURES, f"dataset.root={pets}", *TRAINING])
    assert LINE in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_dropped_pictures_are_not_trained_on_and_the_tables_say_which_arm_is_which(pets, tmp_path, capsys):
    assert run(pets, "dataset.drop_duplicates=true") == 0
    assert f"{LINE}without them\n" in capsys.readouterr().out
    assert run(pets, "dataset.val_fraction=0", "dataset.drop_duplicates=false,true") == 0
    assert f"{LINE}with them in some arms, dataset.drop_duplicates=true takes them out\n" in capsys.readouterr().out
    rows = write_tables(tmp_path / "results", "adhoc")
    sizes = {(row["train_size"], "drop_duplicates=True" in row["settings"]) for row in rows}
    assert sizes == {("17", False), ("12", True), ("11", True)}  # the last without a picture for validation


def test_doctor_lists_all_of_them(pets, capsys):
    assert cli._dispatch(["doctor", *PICTURES, f"dataset.root={pets}"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "image_folder/pets"
    assert lines[-4:] == [
        "train/cat/2.png = test/cat/0.png",
        "train/cat/4.png = train/cat/again.png",
        "train/cat/5.png = train/dog/5.png, as cat, dog",
        "train/dog/3.png = test/dog/new.bmp",
    ]
    assert doctor.examine_data(["dataset=digits"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["equal", "images", "none"]


def test_the_page_says_it_and_where_there_are_none_that_there_are_none(pets, tmp_path):
    page = tmp_path / "results" / "adhoc" / "report.html"
    run(pets, "dataset.drop_duplicates=true")
    app.run([*TINY, "train.epochs=1"])
    write_tables(tmp_path / "results", "adhoc")
    write_evidence(Experiment.load(tmp_path / "results", "adhoc"))
    sentences = page.read_text()
    assert "2 of 9 test images are in training, too; 2 of 17 training images repeat another" in sentences
    assert "training is without them.</li>" in sentences
    assert (
        "<li>synthetic, pixel for pixel: no test image is in training, and none is in training twice.</li>" in sentences
    )


def test_merge_brings_what_is_on_record_of_the_data(pets, tmp_path):
    run(pets)
    merge(tmp_path / "ours", tmp_path / "results")
    assert read_records(tmp_path / "ours") == read_records(tmp_path / "results")


def test_a_damaged_record_of_the_data_is_made_anew(pets, tmp_path):
    run(pets)
    before = read_records(tmp_path / "results")
    (file,) = (tmp_path / "results" / "datasets").iterdir()
    flipped = re.sub('"train": [0-9]+', '"train": 77', file.read_text(), count=1)
    assert flipped != file.read_text()
    for damage in ("", "[]", '{"images": {}}', flipped):
        file.write_text(damage)
        run(pets)
        assert read_records(tmp_path / "results") == before


# --- rows of logits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("layout", ["carved", "own", "flat"])
def test_rows_of_logits_are_traced_to_their_files(layout, drop, pets, tmp_path):
    if layout == "own":
        shutil.move(pets / "test", pets / "val")
        for name in ("cat", "dog"):
            draw_picture(pets / "test" / name / "x.png")
    if layout == "flat":
        shutil.rmtree(pets / "test")
        pets = pets / "train"
    assert run(pets, "dataset.val_fraction=0.25", f"dataset.drop_duplicates={drop}") == 0
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    result = read_result(folder)
    record = json.loads((tmp_path / "results" / "datasets" / f"{result['data_id']}.json").read_text())
    rows, classes = record["rows"], result["class_names"]
    if drop:
        rows["val"] = [name for name in rows["val"] if name not in record["dropped"]]
    logits = np.load(folder / "logits.npz")
    assert len(logits["test_labels"]) == len(rows["test"])
    assert 0 < len(logits["val_labels"]) <= len(rows["val"])
    for split in ("val", "test"):
        names = rows[split][: len(logits[f"{split}_labels"])]
        assert [classes[label] for label in logits[f"{split}_labels"]] == [Path(name).parent.name for name in names]


def test_a_folders_names_are_those_of_its_images(flat):
    source = load_folder(flat)
    for split, images, labels in source.splits():
        assert len(source.names[split]) == len(images)
        assert [source.class_names[label] for label in labels] == [name[0] for name in source.names[split]]
        for name, image in zip(source.names[split], images, strict=True):
            with Image.open(flat / name) as picture:
                assert (np.asarray(picture.convert("RGB")) == image).all()
