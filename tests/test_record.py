import csv
import json
import runpy
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from conftest import TINY, compose
from rich.console import Console

from bench import CONF, app
from bench.dataset import load_source
from bench.plan import Command, make_plan, resolve_device
from bench.ranges import RANGES
from bench.record import read_result, run_id, write_atomically
from bench.report import tables, terminal
from bench.report.layout import lay_out

GOLDEN = Path(__file__).parent / "golden"

# For each key of the table of allowed values: what it is set to, and what must be chosen for that to count. Each moves
# the id, because it can change the numbers.
MOVES = {
    "seed": "1",
    "dataset.train_size": "32",
    "dataset.val_fraction": "0.1",
    "dataset.augment": "standard",
    "dataset.classes": "5",
    "dataset.train_images": "90",
    "dataset.test_images": "41",
    "dataset.image_size": "16 dataset=image_folder dataset.root={folder} train.batch_size=4",
    "dataset.channels": "1 dataset=image_folder dataset.root={folder} train.batch_size=4",
    "dataset.test_fraction": "0.5 dataset=image_folder dataset.root={folder} train.batch_size=4",
    "dataset.name": "other dataset=image_folder dataset.root={folder} train.batch_size=4",
    "dataset.noise": "0.1",
    "model.dropout": "0.1",
    "model.width": "8",
    "model.arch": "mobilenet_v3_large model=torchvision model.arch=mobilenet_v3_small",
    "model.args": "{{drop_path_rate:0.1}} model=timm model.arch=resnet10t",
    "model.depth": "16 model=wide_resnet model.depth=10 model.width=1",
    "regularizer.label_smoothing.smoothing": "0.2 regularizer=label_smoothing",
    "regularizer.mixup.alpha": "0.5 regularizer=mixup",
    "regularizer.cutmix.alpha": "0.5 regularizer=cutmix",
    "regularizer.cutmix.prob": "0.25 regularizer=cutmix",
    "regularizer.mixup_cutmix.mixup_alpha": "0.5 regularizer=mixup_cutmix",
    "regularizer.mixup_cutmix.cutmix_alpha": "0.5 regularizer=mixup_cutmix",
    "regularizer.mixup_cutmix.cutmix_prob": "0.25 regularizer=mixup_cutmix",
    "regularizer.sam.rho": "0.2 regularizer=sam",
    "regularizer.sam.interval": "2 regularizer=sam",
    "regularizer.look_sam.rho": "0.2 regularizer=look_sam",
    "regularizer.look_sam.interval": "2 regularizer=look_sam",
    "regularizer.look_sam.alpha": "0.5 regularizer=look_sam",
    "regularizer.asam.interval": "2 regularizer=asam",
    "regularizer.asam.rho": "0.2 regularizer=asam",
    "regularizer.asam.eta": "0.2 regularizer=asam",
    "regularizer.weight_decay.value": "0.2 regularizer=weight_decay",
    "regularizer.dropout.value": "0.3 regularizer=dropout",
    "optimizer.sgd.lr": "0.2",
    "optimizer.sgd.momentum": "0.8",
    "optimizer.sgd.nesterov": "false",
    "optimizer.sgd.weight_decay": "0.1",
    "optimizer.adam.betas": "[0.8,0.9] optimizer=adam",
    "optimizer.adam.eps": "0.1 optimizer=adam",
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
# A path, the index of a device, what is kept and how, and how often a checkpoint is written cannot.
KEEPS = {
    "results_dir": "elsewhere",
    "force": "true",
    "keep_weights": "true",
    "retry_failed": "true",
    "fail_fast": "true",
    "dataset.root": "{copy} dataset=image_folder dataset.root={folder} train.batch_size=4 dataset.name=x",
    "train.checkpoint_minutes": "null",
    "train.tracker": "tensorboard",
    "train.device": "auto",
}


@cache
def identify(*overrides):
    (run,) = compose(*overrides)
    return run_id(replace(resolve_device(run), fingerprint=load_source(run.dataset).fingerprint))


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
    """model.weights moves it by the file's content: see test_model.py."""
    tested = {key if not key.startswith("optimizer.") else f"optimizer.{key.split('.')[-1]}" for key in MOVES | KEEPS}
    assert tested == RANGES.keys() - {"model.weights"}
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


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_atomically(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "a.txt", 3)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert read_result(tmp_path) is None


@pytest.fixture
def records(tmp_path):
    """A copy of the recorded sweep, without its tables."""
    shutil.copytree(GOLDEN, tmp_path / "results")
    for path in (tmp_path / "results").glob("*/*.csv"):
        path.unlink()
    return tmp_path / "results"


def assert_golden(name, results):
    """Byte for byte, but for the bounds of intervals: SciPy's releases differ in the 11th digit of a t quantile."""
    made, golden = (folder / "digits_smoke" / name for folder in (results, GOLDEN))
    if name not in ("summary.csv", "comparison.csv"):
        assert made.read_text() == golden.read_text()
        return
    for mine, theirs in zip(tables.read_csv(made), tables.read_csv(golden), strict=True):
        assert list(mine) == list(theirs)
        for column, cell in theirs.items():
            if cell and (column.endswith(("_low", "_high")) or column in ("difference", "low", "high", "p", "p_holm")):
                assert float(mine[column]) == pytest.approx(float(cell), rel=1e-9)
            else:
                assert mine[column] == cell, column


@pytest.mark.parametrize("name", ["runs.csv", "summary.csv", "history.csv", "comparison.csv"])
def test_the_tables_of_a_recorded_sweep_are_these(name, records):
    """`python scripts/remake_golden.py` makes them anew after a change that is meant to move them."""
    tables.write_tables(records, "digits_smoke")
    assert_golden(name, records)


def show(records, out, rows=None, width=80):
    """What the terminal prints of the recorded sweep, or of some of its rows."""
    all_rows = tables.write_tables(records, "digits_smoke")
    rows = all_rows if rows is None else rows
    layouts = lay_out("digits_smoke", rows, tables.read_settings(records, "digits_smoke"))
    with out.open("w") as file:
        terminal.show_comparison(Console(file=file, width=width, highlight=False), layouts, rows)
    return out.read_text()


@pytest.mark.parametrize("width", [80, 160])
def test_the_printed_comparison_is_this_to_the_byte(width, records, tmp_path):
    printed = show(records, tmp_path / "out.txt", width=width)
    assert printed == (GOLDEN / f"comparison_{width}.txt").read_text()
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= width


def test_rows_whose_run_folder_is_gone_stay_as_they_stand(records):
    tables.write_tables(records, "digits_smoke")
    shutil.rmtree(records / "runs")
    (records / "digits_smoke" / "asked.txt").unlink()
    tables.write_tables(records, "digits_smoke")
    for name in ("runs.csv", "summary.csv", "history.csv"):
        assert_golden(name, records)


def test_the_tables_begin_with_the_contracts_columns():
    def header(name):
        with (GOLDEN / "digits_smoke" / name).open() as file:
            return next(csv.reader(file))

    assert (
        header("runs.csv")[:24]
        == (
            "run_id exp dataset model regularizer optimizer seed status epochs train_size batch_size precision device "
            "test_accuracy test_nll test_ece val_accuracy val_nll val_ece train_accuracy train_nll train_ece "
            "gradient_evaluations train_seconds images_per_second".split()[:24]
        )
    )
    further = {"arm_id", "settings", "protocol_version", "workers", "threads", "hardware", "images_per_second"}
    assert further <= set(header("runs.csv"))
    assert header("summary.csv")[:13] == (
        "dataset model regularizer optimizer settings arm_id runs failed diverged test_accuracy_mean "
        "test_accuracy_std test_accuracy_low test_accuracy_high".split()
    )
    assert header("comparison.csv") == (
        "dataset model regularizer optimizer settings arm_id baseline metric seeds difference low high p p_holm "
        "improved note".split()
    )
    assert header("history.csv") == "run_id epoch train_loss val_accuracy val_nll val_ece lr seconds".split()


def test_settings_tell_apart_a_new_arm_from_a_committed_one_whose_records_are_gone(records):
    tables.write_tables(records, "digits_smoke")
    kept = {row["arm_id"]: row for row in tables.read_csv(records / "digits_smoke" / "runs.csv")}
    for row in kept.values():
        if row["regularizer"] == "none":  # both arms of `none`, of which one loses its record
            shutil.rmtree(records / "runs" / row["run_id"])
            break
    rows = [row for row in tables.write_tables(records, "digits_smoke") if row["regularizer"] == "none"]
    assert {row["settings"] for row in rows} == {"optimizer.sgd.lr=0.1", "optimizer.sgd.lr=1e+30"}


def test_a_message_is_printed_as_it_is_and_only_its_first_line(records, tmp_path):
    path = next(iter((records / "runs").iterdir())) / "result.json"
    record = json.loads(path.read_text()) | {
        "status": "failed",
        "message": "RuntimeError: [enforce fail] [/tmp/x]\nmore",
    }
    path.write_text(json.dumps(record))
    assert "Error: [enforce fail] [/tmp/x]\n" in show(records, tmp_path / "out.txt")


def test_a_damaged_record_counts_as_none_and_its_row_stays(records):
    tables.write_tables(records, "digits_smoke")
    next(iter((records / "runs").iterdir())).joinpath("result.json").write_text("{")
    tables.write_tables(records, "digits_smoke")
    assert_golden("runs.csv", records)


def test_the_comparison_prints_settings_that_differ_among_what_it_shows(records, tmp_path):
    rows = [row for row in tables.write_tables(records, "digits_smoke") if row["status"] == "done"]
    assert "lr=" not in show(records, tmp_path / "out.txt", rows)


def test_runs_without_a_number_have_an_empty_cell_and_do_not_count_in_the_means():
    rows = tables.read_csv(GOLDEN / "digits_smoke" / "runs.csv")
    (diverged,) = [row for row in rows if row["status"] == "diverged"]
    assert diverged["test_accuracy"] == diverged["test_nll"] == ""
    (arm,) = [arm for arm in tables.summarise(rows) if arm["arm_id"] == diverged["arm_id"]]
    assert (arm["runs"], arm["diverged"]) == (0, 1)
    assert "test_accuracy_mean" not in arm


def test_settings_tell_apart_arms_that_share_the_four_words():
    rows = tables.read_csv(GOLDEN / "digits_smoke" / "runs.csv")
    settings = {row["settings"] for row in rows if row["regularizer"] == "none"}
    assert settings == {"optimizer.sgd.lr=0.1", "optimizer.sgd.lr=1e+30"}
    assert {row["settings"] for row in rows if row["regularizer"] != "none"} == {""}


def test_the_golden_script_makes_these_files(records):
    """Run on a copy, so that a failing test leaves the golden files as they are."""
    script = runpy.run_path(str(GOLDEN.parents[1] / "scripts" / "remake_golden.py"))
    script["remake"](records)
    for name in ("runs.csv", "summary.csv", "history.csv"):
        assert_golden(name, records)
    for name in ("comparison_80.txt", "comparison.markdown", "comparison.latex", "comparison.html"):
        assert (records / name).read_text() == (GOLDEN / name).read_text()


def test_the_committed_runs_keep_their_identity(tmp_path):
    """What is on record must be found: a moved id would have all of it trained again."""
    plan = make_plan(Command("digits", compose("+exp=digits", "seed=0", "train.device=cpu"), tmp_path))
    with (CONF.parent / "results" / "digits" / "runs.csv").open() as file:
        committed = {row["run_id"] for row in csv.DictReader(file) if row["seed"] == "0"}
    assert {planned.run_id for planned in plan} == committed


def test_a_key_that_is_younger_than_records_is_told_by_its_neutral_value(tmp_path):
    """It is no part of the identity then, but `null` is no value that it takes."""
    app.run([*TINY, "regularizer=sam", "regularizer.sam.interval=1,2", f"results_dir={tmp_path}"])
    with (tmp_path / "adhoc" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["settings"] for row in rows} == {f"regularizer.sam.interval={interval}" for interval in (1, 2)}
    assert {row["gradient_evaluations"] for row in rows} == {"16", "12"}
