import csv
import errno
import os
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import TINY, compose, fits

from bench.cli import run as app
from bench.config import CONF
from bench.config.identity import run_id, shorten
from bench.config.reference import as_markdown
from bench.dataset import load_source
from bench.disk.files import write_atomically, write_together
from bench.record import tables
from bench.record.folder import RESULT, RunFolder, RunResult, read_result, run_folder
from bench.sweep.device import resolve_device
from bench.sweep.plan import _settings_of_data

# For each key of the table of allowed values: what it is set to, and what must be chosen for that to count. Each moves
# the id, because it can change the numbers.
MOVES = {
    "seed": "1",
    "dataset.train_size": "32",
    "dataset.val_fraction": "0.1",
    "dataset.drop_duplicates": "true",
    "dataset.split_seed": "1",
    "dataset.imbalance": "0.5",
    "dataset.label_noise": "0.2",
    "dataset.noisy_validation": "true",
    "dataset.augment": "standard",
    "dataset.classes": "5",
    "dataset.train_images": "90",
    "dataset.test_images": "41",
    "dataset.image_size": "16 dataset=image_folder dataset.root={folder} train.batch_size=4",
    "dataset.channels": "1 dataset=image_folder dataset.root={folder} train.batch_size=4",
    "dataset.flips": "false dataset=image_folder dataset.root={folder} train.batch_size=4",
    "dataset.test_fraction": "0.5 dataset=image_folder dataset.root={folder} train.batch_size=4",
    "dataset.name": "other dataset=image_folder dataset.root={folder} train.batch_size=4",
    "dataset.noise": "0.1",
    "model.dropout": "0.1",
    "model.stochastic_depth": "0.1 model=resnet8",
    "model.width": "8",
    "model.logit_scale": "1 model=fastnet",
    "model.arch": "mobilenet_v3_large model=torchvision model.arch=mobilenet_v3_small",
    "model.args": "{{drop_path_rate:0.1}} model=timm model.arch=resnet10t",
    "model.depth": "16 model=wide_resnet model.depth=10 model.width=1",
    "optimizer.sgd.lr": "0.2",
    "optimizer.sgd.momentum": "0.8",
    "optimizer.sgd.nesterov": "false",
    "optimizer.sgd.weight_decay": "0.1",
    "optimizer.adam.betas": "[0.8,0.9] optimizer=adam",
    "optimizer.adam.eps": "0.1 optimizer=adam",
    "optimizer.adam_sgd.switch": "0.1 optimizer=adam_sgd",
    "optimizer.adam_sgd.sgd_lr": "0.1 optimizer=adam_sgd",
    "train.epochs": "3",
    "train.gradient_evaluations": "4",
    "train.batch_size": "8",
    "train.precision": "bf16",
    "train.compile": "true",
    "train.schedule": "constant",
    "train.warmup_epochs": "1",
    "train.clip_norm": "1",
    "train.deterministic": "true",
}
for key in re.findall(r"^\| `(regularizer[^`]*)`", as_markdown(), re.M):
    _, name, last = key.split(".")
    value = yaml.safe_load((CONF / "regularizer" / f"{name}.yaml").read_text())[last]
    number = value + 1 if isinstance(value, int) else (np.asarray(value, float) / 2).tolist() if value else 0.1
    needs = "" if fits(name, "mlp") else " model=resnet8"
    MOVES[key] = f"{str(number).replace(' ', '')} regularizer={name}{needs}"
# A path, the index of a device, what is kept and how, where images lie, and how often a checkpoint is written cannot.
KEEPS = {
    "dataset.resident": "false",
    "results_dir": "elsewhere",
    "force": "true",
    "keep_weights": "true",
    "retry_failed": "true",
    "fail_fast": "true",
    "evaluation": "[sharpness]",
    "dataset.root": "{copy} dataset=image_folder dataset.root={folder} train.batch_size=4 dataset.name=x",
    "dataset.max_pixels": "null dataset=image_folder dataset.root={folder} train.batch_size=4",
    "train.checkpoint_minutes": "null",
    "train.tracker": "tensorboard",
    "train.device": "auto",
}
# See test_model.py, test_image_folder.py, and those of what reads such files.
ELSEWHERE = {"model.weights", "dataset.background", "dataset.white"}
ELSEWHERE |= {"dataset.file", "dataset.arch", "dataset.image_column", "dataset.label_column"}
for key in re.findall(r"^\| `((?:dataset|model)\.[^`]*)`", as_markdown(), re.M):  # numbers of what is added in one file
    axis, name = key.split(".")
    for path in () if key in MOVES | KEEPS or key in ELSEWHERE else (CONF / axis).glob("*.yaml"):
        value = yaml.safe_load(path.read_text()).get(name)
        if isinstance(value, int | float):
            MOVES[key] = f"{value + 1 if isinstance(value, int) else value / 2} {axis}={path.stem} train.batch_size=4"


@cache
def identify(*overrides):
    (run,) = compose(*overrides)
    source = load_source(run.dataset)
    run = replace(resolve_device(run), fingerprint=source.fingerprint, contents=_settings_of_data(source))
    return run_id(run)


def ids(key, values, folder):
    """The id with the choices that the key needs, and with the key set beside them."""
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    value, *choices = values.format(folder=folder, copy=copy).split(" ")
    base = [o for o in TINY if not any(c.startswith(f"{o.split('.')[0]}=") and "." in o for c in choices)]
    return identify(*base, *choices), identify(*base, *choices, f"{key}={value}")


@pytest.mark.parametrize("key", MOVES)
def test_what_can_change_the_numbers_moves_the_id(key, flat):
    before, after = ids(key, MOVES[key], flat)
    assert before != after


@pytest.mark.parametrize("key", KEEPS)
def test_what_cannot_change_the_numbers_keeps_the_id(key, flat):
    before, after = ids(key, KEEPS[key], flat)
    assert before == after


def test_every_key_is_known_to_move_the_id_or_to_keep_it():
    keys = set(re.findall(r"^\| `([^`]*)`", as_markdown(), re.M))
    tested = {key if key in keys else re.sub(r"^optimizer\.\w+\.", "optimizer.", key) for key in MOVES | KEEPS}
    assert tested == keys - ELSEWHERE
    assert not MOVES.keys() & KEEPS.keys()


@pytest.mark.parametrize("override", ["regularizer.sam.rho=0.1", "optimizer.adam.lr=1", "optimizer.sgd.lr=1e-1"])
def test_neither_what_is_not_chosen_nor_another_way_to_write_a_number_moves_the_id(override, plan):
    assert plan(override)[0].run_id == plan()[0].run_id


def test_the_order_of_keys_keeps_the_id(plan):
    one, other = ("optimizer.sgd.lr=0.3", "model.width=8"), ("model.width=8", "optimizer.sgd.lr=0.3")
    assert plan(*one)[0].run_id == plan(*other)[0].run_id
    run = plan()[0].run
    shuffled = replace(run, model=replace(run.model, values=dict(reversed(run.model.values.items()))))
    assert run_id(shuffled) == run_id(run)


def test_the_order_of_a_stack_keeps_the_id_and_a_budget_replaces_the_epochs(plan):
    assert plan("regularizer=[sam,mixup]")[0].run_id == plan("regularizer=[mixup,sam]")[0].run_id
    budget = "train.gradient_evaluations=8"
    assert plan(budget, "train.epochs=2")[0].run_id == plan(budget, "train.epochs=9")[0].run_id


def test_a_shortened_setting_still_tells_whose_it_is():
    keys = ["regularizer.dropout.value=0.1", "train.epochs=3"]
    assert shorten(keys, "dropout") == ["value=0.1", "epochs=3"]
    assert shorten(keys, "dropout+weight_decay") == ["dropout.value=0.1", "epochs=3"]
    assert shorten(["optimizer.sgd.weight_decay=1", "x.weight_decay=2.5"], "none") == [
        "sgd.weight_decay=1",
        "x.weight_decay=2.5",
    ]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_atomically(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "a.txt", 3)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert read_result(tmp_path) is None


def write_generation(folder, text, names=(RESULT, "logits.npz", "config.yaml"), gone=()):
    files = {name: (lambda file: file.write(text.encode())) for name in names}
    write_together(folder, files | dict.fromkeys(gone), RESULT)


def test_a_folder_is_one_runs_or_none_at_each_step_of_a_new_record(tmp_path, monkeypatch):
    """A process may die after any of them."""
    write_generation(tmp_path, "old", (RESULT, "logits.npz", "weights.pt", "config.yaml"))
    seen = []

    def look_after(change):
        def changed(path, *arguments, **options):
            result = change(path, *arguments, **options)
            seen.append({p.name: p.read_text() for p in tmp_path.glob("[!.]*")})
            return result

        return changed

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, look_after(getattr(Path, name)))
    write_generation(tmp_path, "new", gone=["weights.pt"])
    assert len(seen) >= 5
    assert all(len(set(files.values())) == 1 for files in seen if RESULT in files)
    assert seen[-1] == dict.fromkeys((RESULT, "logits.npz", "config.yaml"), "new")


def test_a_record_that_does_not_fit_on_the_disk_leaves_the_old_one(tmp_path):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_generation(tmp_path, "old")
    for name in (RESULT, "logits.npz"):
        with pytest.raises(OSError, match="No space left") as caught:
            write_together(tmp_path, {"config.yaml": lambda file: file.write(b"new"), name: full}, RESULT)
        assert caught.value.filename == str(tmp_path / name)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(
        (RESULT, "logits.npz", "config.yaml"), "old"
    )


def test_a_key_that_is_younger_than_records_is_told_by_its_neutral_value(tmp_path):
    """It is no part of the identity then, but `null` is no value that it takes."""
    app.run([*TINY, "regularizer=sam", "regularizer.sam.interval=1,2", f"results_dir={tmp_path}"])
    with (tmp_path / "adhoc" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["settings"] for row in rows} == {f"regularizer.sam.interval={interval}" for interval in (1, 2)}
    assert {row["gradient_evaluations"] for row in rows} == {"16", "12"}


def test_what_dead_processes_left_half_written_a_day_ago_goes_with_the_next_write(tmp_path):
    """In the cache of pictures nobody holds a lock, and nobody swept."""
    old, fresh = tmp_path / ".b.npy.7-12ab.part", tmp_path / ".b.npy.8-34cd.part"
    for part in (old, fresh):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    write_atomically(tmp_path / "a.npy", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [fresh.name, "a.npy"]


def test_a_record_of_a_newer_regbench_with_equal_protocol_counts_and_stays_as_it_is(plan, tmp_path):
    """The older one keeps what it does not know."""
    (tmp_path / "runs").mkdir()
    (planned,) = plan()
    folder = run_folder(tmp_path, planned.run_id)
    RunFolder(folder).record(planned.run, RunResult({"status": "failed", "message": "", "test_auroc": 0.9}))
    content = (folder / RESULT).read_bytes()
    assert read_result(folder)["test_auroc"] == 0.9
    tables.request_runs(tmp_path, "adhoc", [planned.run_id])
    tables.write_tables(tmp_path, "adhoc")
    assert (folder / RESULT).read_bytes() == content
