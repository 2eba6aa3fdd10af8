"""Several machines' results in one folder, and removing what is in it."""

import errno
import io
import json
import shutil
from pathlib import Path

import pytest

from bench import cli
from bench.errors import UsageError
from bench.record import tables
from bench.record.folder import run_folder
from bench.record.inventory import find
from bench.record.merge import merge

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def ours(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "ours")
    return tmp_path / "ours"


@pytest.fixture
def theirs(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "theirs")
    tables.write_tables(tmp_path / "theirs", "digits_smoke")  # by this SciPy: releases differ in the last digits
    return tmp_path / "theirs"


def change(results, status="done", **values):
    """Changes the first record of that status, and the tables with it; its run_id."""
    for path in sorted((results / "runs").glob("*/result.json")):
        record = json.loads(path.read_text())
        if record["status"] == status:
            path.write_text(json.dumps(record | values))
            tables.write_tables(results, "digits_smoke")
            return record["run_id"]
    raise AssertionError(f"no run is {status}")


def rows(results, exp="digits_smoke"):
    return tables.read_rows(results, exp)


def remove(results, identifier):
    shutil.rmtree(run_folder(results, identifier))
    path = results / "digits_smoke" / "runs.csv"
    lines = [line for line in path.read_text().splitlines(keepends=True) if not line.startswith(identifier)]
    path.write_text("".join(lines))
    (results / "digits_smoke" / "asked.txt").write_text("")
    tables.write_tables(results, "digits_smoke")
    assert identifier not in rows(results)


def test_equal_numbers_are_one_run(ours, theirs):
    before = (ours / "digits_smoke" / "runs.csv").read_text()
    change(theirs, train_seconds=1e3)  # which no one compares
    done = merge(ours, theirs)
    assert (len(done.new), len(done.equal), done.unlike) == (0, 7, {})
    assert (ours / "digits_smoke" / "runs.csv").read_text() == before


def test_what_we_lack_is_taken_with_all_its_files(ours, theirs, tmp_path):
    identifier = next(iter(rows(theirs)))
    remove(ours, identifier)
    assert merge(ours, theirs).new == [identifier]
    for name in ("runs.csv", "history.csv", "summary.csv"):
        assert (ours / "digits_smoke" / name).read_text() == (theirs / "digits_smoke" / name).read_text()
    assert {p.name for p in run_folder(ours, identifier).iterdir()} == {
        p.name for p in run_folder(theirs, identifier).iterdir()
    }
    assert len(merge(tmp_path / "nothing yet", theirs).new) == 7
    assert rows(tmp_path / "nothing yet") == rows(theirs)


def test_notes_of_theirs_come_along_with_their_runs_and_ours_stay(ours, theirs):
    """They were lost, and the other folder is usually thrown away after a merge."""
    identifier = next(iter(rows(theirs)))
    remove(ours, identifier)
    for results, note in ((ours, "ours"), (theirs, "theirs")):
        noted = [row | {"note": note} for row in rows(results).values()]
        tables.write_runs(results / "digits_smoke", noted)
    merge(ours, theirs)
    assert {i: row["note"] for i, row in rows(ours).items()} == dict.fromkeys(rows(ours), "ours") | {
        identifier: "theirs"
    }


def test_rows_without_records_are_taken_too(ours, theirs):
    identifier = next(iter(rows(theirs)))
    remove(ours, identifier)
    shutil.rmtree(theirs / "runs")
    assert merge(ours, theirs).new == [identifier]
    for name in ("runs.csv", "history.csv", "summary.csv", "arms.json"):
        assert (ours / "digits_smoke" / name).read_text() == (theirs / "digits_smoke" / name).read_text()


def test_a_row_of_ours_gets_its_record(ours, theirs):
    shutil.rmtree(ours / "runs")
    assert merge(ours, theirs).new == []
    assert {run.run_id for run in find(ours)} == {path.name for path in (ours / "runs").iterdir()}


@pytest.mark.parametrize("machine", [{"hardware": "another"}, {"torch": "2.6.0"}, {"threads": 7}])
@pytest.mark.parametrize("keep", ["ours", "theirs"])
def test_numbers_of_another_machine_may_differ(machine, keep, ours, theirs, capsys):
    identifier = change(theirs, test_nll=9.25, **machine)
    before = rows(ours)[identifier]["test_nll"]
    weights = run_folder(ours, identifier) / "weights.pt"
    weights.write_text("of our numbers")
    with pytest.raises(SystemExit) as stop:
        cli.main(["merge", str(theirs), "--results-dir", str(ours), "--keep", keep])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert "0 new runs, 6 equal, 1 with other numbers" in told
    assert f"{identifier}: {keep} is kept ({next(iter(machine))}:" in told
    assert rows(ours)[identifier]["test_nll"] == (before if keep == "ours" else "9.25")
    assert weights.exists() == (keep == "ours")


def test_a_merge_onto_a_full_disk_leaves_each_run_as_it_was(ours, theirs, monkeypatch):
    """Their record beside our logits would be a run that nobody has trained."""

    def copy(source, target):
        if source.name == "logits.npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        target.write(source.read_bytes())

    identifier = change(theirs, test_nll=9.25, hardware="another")
    for results in (ours, theirs):
        (run_folder(results, identifier) / "logits.npz").write_text(results.name)
    before = {p: p.read_bytes() for p in sorted((ours / "runs").rglob("*")) if p.is_file()}
    monkeypatch.setattr("bench.record.merge._copy", copy)
    with pytest.raises(OSError, match="No space left"):
        merge(ours, theirs, keep="theirs")
    assert {p: p.read_bytes() for p in sorted((ours / "runs").rglob("*")) if p.is_file()} == before


def test_unlike_numbers_of_one_machine_are_an_error_and_nothing_is_merged(ours, theirs):
    lacking = sorted(rows(theirs))[-1]
    identifier = change(theirs, test_nll=9.25)
    assert identifier != lacking
    remove(ours, lacking)
    with pytest.raises(UsageError, match=f"{identifier}: test_nll") as caught:
        merge(ours, theirs)
    assert len(str(caught.value).splitlines()) == 3
    assert lacking not in rows(ours)


def test_cuda_promises_equal_numbers_only_where_it_is_deterministic(ours, theirs):
    for results in (ours, theirs):
        change(results, device="cuda:0")
    identifier = change(theirs, test_nll=9.25)
    assert merge(ours, theirs).unlike[identifier] == ("ours", "CUDA without train.deterministic=true")


def test_what_is_finished_takes_the_place_of_what_failed(ours, theirs):
    path = next(path for path in sorted((ours / "runs").glob("*/result.json")) if '"done"' in path.read_text())
    record = json.loads(path.read_text())
    identifier = record["run_id"]
    path.write_text(json.dumps(record | {"status": "failed", "test_nll": None}))
    tables.write_tables(ours, "digits_smoke")
    assert merge(ours, theirs).new == [identifier]
    assert rows(ours)[identifier]["status"] == "done"
    path = run_folder(theirs, identifier) / "result.json"
    path.write_text(json.dumps(record | {"status": "failed"}))
    assert merge(ours, theirs).new == []
    assert rows(ours)[identifier]["status"] == "done"


def test_a_folder_without_results_is_an_error(ours, tmp_path):
    with pytest.raises(UsageError, match="holds no results"):
        merge(ours, tmp_path / "ours" / "runs")


def results(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["results", *arguments])
    return stop.value.code


def test_results_lists_and_filters(ours, capsys, monkeypatch):
    monkeypatch.setenv("REGBENCH_RESULTS", str(ours))
    assert results() == 0
    listed = capsys.readouterr().out
    assert len(listed.splitlines()) == 8
    assert "7 runs: 6 done, 1 diverged" in listed
    assert results("--status", "diverged") == 0
    assert "1 runs: 1 diverged" in capsys.readouterr().out
    assert results("--regularizer", "none", "--status", "done", "--exp", "digits_smoke") == 0
    assert "3 runs: 3 done" in capsys.readouterr().out
    assert results("--exp", "another") == 0
    assert "0 runs: none" in capsys.readouterr().out


def test_results_removes_only_what_is_agreed_to(ours, capsys, monkeypatch):
    monkeypatch.setenv("REGBENCH_RESULTS", str(ours))
    assert results("--status", "diverged", "--delete") == 2  # nobody to ask
    monkeypatch.setattr("sys.stdin", io.StringIO())  # Ctrl-D
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert results("--status", "diverged", "--delete") == 0
    assert len(rows(ours)) == 7
    for answer in ("", "n"):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert results("--status", "diverged", "--delete") == 0
        assert len(rows(ours)) == 7
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert results("--status", "diverged", "--delete") == 0
    assert {row["status"] for row in rows(ours).values()} == {"done"}
    assert len(list((ours / "runs").iterdir())) == 6
    assert len(tables.read_csv(ours / "digits_smoke" / "summary.csv")) == 2
    shutil.rmtree(ours / "runs")  # rows without records
    assert results("--regularizer", "none", "--delete", "--yes") == 0
    assert len(rows(ours)) == 3
    assert len(tables.read_csv(ours / "digits_smoke" / "history.csv")) == 6


def test_what_is_in_training_is_not_removed(ours, capsys, monkeypatch):
    from bench.disk.lock import take

    identifier = next(iter(rows(ours)))
    with take(run_folder(ours, identifier)):
        assert results("--results-dir", str(ours), "--delete", "--yes") == 0
    assert "1 running" in (told := capsys.readouterr().out)
    assert "removed 6 runs, left 1 in training" in told
    assert list(rows(ours)) == [identifier]


@pytest.mark.parametrize("keep", ["ours", "theirs"])
def test_done_here_and_diverged_there_is_a_difference_too(keep, ours, theirs):
    path = next(path for path in sorted((theirs / "runs").glob("*/result.json")) if '"done"' in path.read_text())
    record = json.loads(path.read_text()) | {"status": "diverged", "test_nll": None}
    identifier = record["run_id"]
    path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=f"{identifier}: status is done here and diverged there"):
        merge(ours, theirs, keep)
    path.write_text(json.dumps(record | {"hardware": "another"}))
    assert merge(ours, theirs, keep).unlike[identifier][0] == keep
    assert rows(ours)[identifier]["status"] == ("done" if keep == "ours" else "diverged")


def test_hidden_files_beside_the_tables_are_left_alone(ours):
    (ours / "digits_smoke" / ".gitignore").touch()
    (ours / "digits_smoke" / ".cache").mkdir()
    tables.write_tables(ours, "digits_smoke")
    assert (ours / "digits_smoke" / ".gitignore").exists()


def test_a_record_that_replaces_ours_keeps_none_of_our_predictions(ours, theirs):
    identifier = change(theirs, test_nll=9.25, hardware="another")
    folder = run_folder(ours, identifier)
    for name in ("logits.npz", "metrics.json", "tensorboard/events.out.tfevents.1"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("of ours")
    merge(ours, theirs, "theirs")
    assert {path.name for path in folder.glob("[!.]*") if not path.name.startswith("lock")} == {
        "history.csv",
        "result.json",
    }


def test_the_commands_that_asked_come_along(ours, theirs):
    tables.note_commands(ours, "digits_smoke", ["regbench run one"])
    tables.note_commands(theirs, "digits_smoke", ["regbench run one", "regbench run other"])
    merge(ours, theirs)
    assert tables.read_commands(ours, "digits_smoke") == ["regbench run one", "regbench run other"]
