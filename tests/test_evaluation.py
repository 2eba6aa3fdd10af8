"""What is measured of trained models: after a training, or of kept weights; it is no part of a run's identity."""

import pytest
import torch
from conftest import TINY

from bench.cli import run as app
from bench.config.ranges import RANGES
from bench.errors import UsageError
from bench.measure.probed import PROBED
from bench.probe import PROBES
from bench.record import tables
from bench.record.folder import run_folder
from bench.record.frame import read_frame
from bench.record.probes import read_rows

ASKED = "evaluation=[sharpness]"
BOTH = "evaluation=[robustness,sharpness]"
COLUMNS = [*PROBED["sharpness"]]


def run(results, *arguments):
    assert app.run([*TINY, *arguments, f"results_dir={results}"]) == 0
    return read_frame(results / "adhoc" / "runs.csv")


def stamps(results):
    return {path: path.stat().st_mtime_ns for path in results.glob("runs/*/result.json")}


def test_the_probes_are_those_that_a_command_may_ask_for():
    assert RANGES["evaluation"].words == tuple(PROBED) == tuple(PROBES)


def test_tables_have_the_columns_of_what_was_measured_and_only_those(tmp_path):
    plain = run(tmp_path / "plain")
    measured = run(tmp_path / "measured", ASKED)
    assert not {*COLUMNS} & {*plain.columns}
    assert measured[COLUMNS].notna().all(axis=None)
    assert not {*PROBED["robustness"]} & {*measured.columns}
    numbers = ["run_id", "arm_id", "test_nll", "train_accuracy"]
    assert plain[numbers].equals(measured[numbers])
    summary = read_frame(tmp_path / "measured" / "adhoc" / "summary.csv")
    assert {f"{column}_mean" for column in COLUMNS} <= {*summary.columns}


def test_a_done_run_is_measured_of_its_kept_weights(tmp_path, capsys):
    whole = run(tmp_path / "whole", BOTH, "seed=0,1")
    results = tmp_path / "later"
    run(results, "keep_weights=true", "seed=0,1")
    before = stamps(results)
    capsys.readouterr()
    assert app.plan([*TINY, BOTH, "seed=0,1", f"results_dir={results}"]) == 0
    planned = capsys.readouterr().out
    assert "2 partial" in planned
    assert "robustness, sharpness of its weights" in planned
    assert "2 runs, 0 on record, 0 to train, 2 to measure" in planned
    assert "gradient evaluations left: 0" in planned
    later = run(results, BOTH, "seed=0,1")
    assert stamps(results) == before  # nothing was trained
    columns = [*COLUMNS, *PROBED["robustness"]]
    assert later.set_index("run_id")[columns].equals(whole.set_index("run_id")[columns])
    capsys.readouterr()
    run(results, BOTH, "seed=0,1")
    assert "2 runs, 2 on record, 0 to train" in capsys.readouterr().out
    identifier = later["run_id"][0]
    record = tables.collect(results, "adhoc")[2][identifier]
    assert len(read_rows(run_folder(results, identifier), record, "robustness")) == 16


def test_a_done_run_without_weights_is_trained_again_and_gives_the_same(tmp_path):
    first = run(tmp_path)
    before = stamps(tmp_path)
    again = run(tmp_path, ASKED)
    assert stamps(tmp_path) != before
    assert first["test_nll"].equals(again["test_nll"])
    assert again[COLUMNS].notna().all(axis=None)


def test_a_training_for_one_probe_measures_what_was_on_record_again(tmp_path, capsys):
    first = run(tmp_path, ASKED)
    capsys.readouterr()
    assert app.plan([*TINY, "evaluation=[sharpness,robustness]", f"results_dir={tmp_path}"]) == 0
    assert "partial" in (planned := capsys.readouterr().out)
    assert ": trained again, for robustness" in planned
    again = run(tmp_path, "evaluation=[robustness]")
    assert again[[*PROBED["robustness"]]].notna().all(axis=None)
    assert again[COLUMNS].equals(first[COLUMNS])


def test_what_a_probe_cannot_measure_leaves_the_run_as_it_is_and_is_not_tried_again(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no second derivative")

    monkeypatch.setitem(PROBES, "sharpness", fail)
    rows = run(tmp_path, ASKED, "keep_weights=true")
    assert rows["status"].tolist() == ["done"]
    assert not {*COLUMNS} & {*rows.columns}
    (log,) = tmp_path.glob("runs/*/log.txt")
    before = log.read_text()
    assert "no second derivative" in before
    assert rows["message"].tolist() == ["sharpness was not measured: RuntimeError: no second derivative"]
    assert "(sharpness was not measured: RuntimeError: no second derivative)" in capsys.readouterr().out
    run(tmp_path, ASKED)
    assert log.read_text() == before


def test_a_probe_that_runs_out_of_memory_gets_a_second_try_with_a_cleaned_cache(tmp_path, monkeypatch):
    measure, left = PROBES["sharpness"], [torch.OutOfMemoryError("CUDA out of memory")]

    def fail_once(*arguments):
        if left:
            raise left.pop()
        return measure(*arguments)

    monkeypatch.setitem(PROBES, "sharpness", fail_once)
    assert run(tmp_path, ASKED)[COLUMNS].notna().all(axis=None)


def test_kept_weights_are_measured_under_the_switches_of_a_training(tmp_path, monkeypatch):
    """In a new process convolutions were TF32, and after other runs those runs' switches held."""
    run(tmp_path, "keep_weights=true")
    measure, seen = PROBES["sharpness"], []

    def look(*arguments):
        seen.append(torch.backends.cudnn.allow_tf32)
        return measure(*arguments)

    monkeypatch.setitem(PROBES, "sharpness", look)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    run(tmp_path, ASKED)
    assert seen == [False]


def test_what_was_measured_of_another_training_does_not_count(tmp_path):
    run(tmp_path, ASKED)
    (file,) = tmp_path.glob("runs/*/probes.json")
    run(tmp_path / "other", ASKED, "train.epochs=1")
    (other,) = tmp_path.glob("other/runs/*/probes.json")
    file.write_bytes(other.read_bytes())
    (tmp_path / "adhoc" / "runs.csv").unlink()
    assert not {*COLUMNS} & {*tables.write_tables(tmp_path, "adhoc")[0]}


@pytest.mark.parametrize("value", ["sharp", "[sharp]", "[sharpness,sharpness]", "true"])
def test_what_is_no_probe_is_refused(value, tmp_path):
    with pytest.raises(UsageError, match="sharpness"):
        app.run([*TINY, f"evaluation={value}", f"results_dir={tmp_path}"])
