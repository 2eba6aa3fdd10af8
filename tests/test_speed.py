"""`regbench speed`: what it writes, and how it makes a ratio of times."""

import csv
from collections import namedtuple

import pytest
import torch
from conftest import TINY

from bench.errors import UsageError
from bench.speed import contestants
from bench.speed import measure as speed
from bench.speed.contestants import Contestant

SMALL = (*TINY[:2], "dataset=synthetic", "model=mlp", "model.width=16", "train.batch_size=16", "train.device=cpu")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(speed, "ROUNDS", (2, 2))
    monkeypatch.setitem(speed._SECONDS_PER_TURN, "cpu", 0.01)
    monkeypatch.setattr(speed, "_STEPS", (2, 3))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")  # DataLoader
def test_speed_writes_a_row_for_the_ceiling_each_stack_the_scripts_and_evaluation(quick, tmp_path, capsys):
    overrides = ("regularizer=none,[mixup,sam]", "seed=0,1", "train.precision=fp32", f"results_dir={tmp_path}")
    assert speed.speed([*SMALL, *overrides]) == 0
    (file,) = (tmp_path / "speed").iterdir()
    assert file.name == "synthetic_mlp_sgd_cpu_fp32.csv"
    assert not list(tmp_path.glob("runs"))  # nothing of it is a run
    with file.open() as lines:
        rows = {row["name"]: row for row in csv.DictReader(lines)}
    assert list(rows) == [
        *("ceiling", "none", "mixup+sam", "script", "script, fp32 as is"),
        *("script's batches", "batches", "forward passes", "evaluation"),
    ]
    assert list(rows["none"]) == speed.COLUMNS
    assert all(float(row["images_per_second"]) > 0 for row in rows.values())
    assert all(0 < float(r["ratio_low"]) <= float(r["ratio"]) <= float(r["ratio_high"]) for r in rows.values())
    assert rows["none"]["to_script"]
    assert rows["script"]["to_script"] == ""
    printed = capsys.readouterr().out
    assert all(name in printed for name in rows)
    assert max(map(len, printed.splitlines())) <= 120


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_arms_of_one_regularizer_have_rows_of_their_own(quick, tmp_path):
    overrides = ("regularizer=sam", "regularizer.sam.interval=1,2", "train.precision=fp32", f"results_dir={tmp_path}")
    assert speed.speed([*SMALL, *overrides]) == 0
    (file,) = (tmp_path / "speed").iterdir()
    with file.open() as lines:
        names = [row["name"] for row in csv.DictReader(lines) if row["what"] == "training"]
    assert len(set(names)) == 2
    assert "interval=2" in names[1]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_compiled_training_is_timed_beside_training_as_it_is(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **_: model.forward)
    overrides = ("train.compile=true", "regularizer=sam", "train.precision=fp32", f"results_dir={tmp_path}")
    assert speed.speed([*SMALL, *overrides]) == 0
    with (tmp_path / "speed" / "synthetic_mlp_sgd_cpu_fp32_compiled.csv").open() as lines:
        compiled = {row["name"]: row["compile"] for row in csv.DictReader(lines) if row["what"] == "training"}
    assert compiled == {"sam": "True", "none, not compiled": "False"}


def test_arms_that_would_share_a_table_are_an_error(quick, tmp_path):
    with pytest.raises(UsageError, match="one by one"):
        speed.speed([*SMALL, "train.batch_size=8,16", f"results_dir={tmp_path}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "exp"), [([], "speed"), (["model=resnet8"], "speed"), (["dataset=digits"], "adhoc")]
)
def test_a_command_without_experiment_or_dataset_is_one_of_the_experiment_on_speed(arguments, exp, monkeypatch):
    seen = []
    monkeypatch.setattr(speed, "_measure", lambda command: seen.append(command.exp) or 0)
    assert speed.speed(arguments) == 0
    assert seen == [exp]


def test_a_ratio_is_to_the_neighbouring_turns_of_the_ceiling_and_to_what_a_step_costs(quick, monkeypatch):
    """The machine is at half its speed in the second round, and nobody can tell."""
    clock, turns = [0.0], []

    def contestant(seconds, evaluations=1.0):
        def turn():
            turns.append(seconds)
            clock[0] += seconds * (1 if len(turns) <= 3 + 5 else 2)
            return 10

        return Contestant("training", "x", "fp32", turn, evaluations)

    monkeypatch.setattr(speed, "perf_counter", lambda: clock[0])
    top, sam, slow = speed._take_turns(contestant(1), [contestant(2, 2), contestant(1.25)], torch.device("cpu"))
    assert top.ratios == [1.0, 1.0]
    assert sam.ratios == pytest.approx([1.0, 1.0])
    assert slow.ratios == pytest.approx([0.8, 0.8])
    assert turns[3:] == [1, 2, 1, 1.25, 1, 1, 2, 1, 1.25, 1]


@pytest.mark.parametrize(("wander", "rounds"), [(0.001, 3), (0.5, 5)])
def test_there_are_as_many_rounds_as_the_spread_needs(wander, rounds, monkeypatch):
    """On a quiet card the fourth round tells nothing new, and its minutes are dear."""
    clock, turns = [0.0], []

    def turn():
        turns.append(1)
        clock[0] += 1 + wander * (len(turns) % 2)
        return 10

    monkeypatch.setattr(speed, "perf_counter", lambda: clock[0])
    top, other = (Contestant("training", name, "fp32", turn, 1) for name in ("ceiling", "x"))
    _, timing = speed._take_turns(top, [other], torch.device("cpu"))
    assert len(timing.ratios) == rounds


def test_where_shared_memory_lacks_scripts_are_left_out_and_that_is_said(quick, tmp_path, monkeypatch, capsys):
    """A plain container has 64 MB: the loaders' workers died of a bus error after minutes."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(contestants, "disk_usage", lambda _: usage(1 << 10, 0, 1 << 10))
    assert speed.speed([*SMALL, f"results_dir={tmp_path}"]) == 0
    assert "/dev/shm has 0 MiB free" in capsys.readouterr().out
    with next((tmp_path / "speed").glob("*.csv")).open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["what"] for row in rows] == ["ceiling", "training", "ceiling", "evaluation"]
    assert rows[1]["to_script"] == ""
