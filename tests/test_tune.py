"""`regbench tune`: the grid, the seeds, the choice, and the experiment that it writes."""

import json
import shutil
from collections import defaultdict
from statistics import mean

import pytest
import yaml
from conftest import TINY, write
from test_cli import read, regbench

from bench import cli
from bench.record import tables
from bench.record.folder import seal
from bench.training import run as run_module

OWN = ("--config-dir", "own")
TUNE = ("tune", *OWN, "+exp=digits_smoke", "trials=3", "optimizer.sgd.lr=0.3", "seed=0,1,2", "train.device=cpu")
TWO = ("regularizer=none,label_smoothing",)
RATES = {0.0949, 0.3, 0.949, 3.0}  # the last one since the best of three is the highest


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder in which the smoke experiment was tuned, and what was printed."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "own").mkdir()
    done = regbench(*TUNE, *TWO, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture
def copy(tuned, tmp_path):
    """A copy of that folder, to change."""
    return shutil.copytree(tuned[0], tmp_path / "copy")


def measured(folder, metric="val_nll"):
    """Of each regularizer and rate the values by seed."""
    results = folder / "results"
    settings, found = tables.read_settings(results, "digits_smoke_tune"), defaultdict(dict)
    for row in read(results / "digits_smoke_tune" / "runs.csv"):
        rate = settings[row["arm_id"]]["optimizer.sgd.lr"]
        found[row["regularizer"], rate][int(row["seed"])] = float(row[metric])
    return found


def chosen(folder):
    """The rates in the file that was written, by regularizer."""
    file = yaml.safe_load((folder / "own/exp/digits_smoke_tuned.yaml").read_text())
    return {arm["regularizer"]: arm["optimizer.sgd.lr"] for arm in file["hydra"]["sweeper"]["arms"]}


def change(folder, regularizer, rate, **values):
    """Changes what is on record of the runs of an arm at a rate."""
    for path in (folder / "results/runs").glob("*/result.json"):
        record = json.loads(path.read_text())
        if record["regularizer"] == regularizer and record["config"]["optimizer.sgd.lr"] == rate:
            path.write_bytes(seal(record | values))


def test_all_arms_have_the_same_rates_on_seeds_apart_and_a_winner_at_the_edge_extends_the_grid(tuned):
    folder, printed = tuned
    found = measured(folder)
    assert found.keys() == {(word, rate) for word in ("none", "label_smoothing") for rate in RATES}
    assert {seed for values in found.values() for seed in values} == {1000, 1001}
    assert "is the highest of the grid, which goes on to 3 for all arms of sgd" in printed
    assert "Rates of sgd: 0.0949, 0.3, 0.949, 3." in printed
    assert "At an edge" not in printed


def test_finished_runs_are_shown_by_their_validation_metrics(tuned):
    folder, printed = tuned
    lines = [line for line in printed.splitlines() if line.startswith("[")]
    assert len(lines) == 2 * 2 * len(RATES)
    assert all(line.count("val ") == 3 for line in lines)
    for values in measured(folder).values():
        assert all(f"val NLL {nll:.4f}, " in printed for nll in values.values() if nll < 100)
    for values in measured(folder, "test_nll").values():
        assert not any(f"NLL {nll:.4f}" in printed for nll in values.values())


def test_the_least_mean_validation_nll_is_chosen(tuned):
    folder, _ = tuned
    means = {arm: mean(values.values()) for arm, values in measured(folder).items()}
    for word, rate in chosen(folder).items():
        assert means[word, rate] == min(means[word, each] for each in RATES)
    file = (folder / "own/exp/digits_smoke_tuned.yaml").read_text()
    assert "made by regbench tune: regbench tune --config-dir own +exp=digits_smoke trials=3 " in file
    assert "over seeds 1000, 1001." in file
    assert f"validation NLL {means['none', chosen(folder)['none']]:.4g}" in file


def test_the_same_command_trains_nothing_and_chooses_the_same(copy):
    before = (copy / "own/exp/digits_smoke_tuned.yaml").read_text()
    again = regbench(*TUNE, *TWO, cwd=copy)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(", 0 to train") == again.stdout.count("on record") == 2
    assert (copy / "own/exp/digits_smoke_tuned.yaml").read_text() == before
    assert read(copy / "results/digits_smoke_tune/runs.csv")
    commands = (copy / "results/digits_smoke_tune/commands.txt").read_text().splitlines()
    assert commands == ["regbench tune --config-dir own " + " ".join([TUNE[3], *TUNE[4:], *TWO])]


@pytest.mark.slow
def test_the_test_split_has_no_say_and_a_diverged_seed_rules_a_rate_out(copy):
    best = chosen(copy)["none"]
    change(copy, "none", best, test_nll=0.0)
    change(copy, "none", 0.3, val_nll=0.0, test_nll=99.0)
    assert regbench(*TUNE, *TWO, cwd=copy).returncode == 0
    assert chosen(copy)["none"] == 0.3
    change(copy, "none", 0.3, status="diverged", message="nan")
    assert regbench(*TUNE, *TWO, cwd=copy).returncode == 0
    assert chosen(copy)["none"] == best


@pytest.mark.slow
def test_the_tuned_experiment_compares_best_with_best(copy):
    change(copy, "label_smoothing", 0.3, val_nll=0.0)
    assert regbench(*TUNE, *TWO, cwd=copy).returncode == 0
    rates = chosen(copy)
    assert rates["none"] != rates["label_smoothing"] == 0.3
    done = regbench("run", *OWN, "+exp=digits_smoke_tuned", "train.device=cpu", cwd=copy)
    assert done.returncode == 0, done.stderr
    printed = " ".join(done.stdout.split())
    assert "digits_smoke_tuned: 6 runs" in printed
    assert "Each arm has its own lr, tuned for it: best is compared with best." in printed
    assert "than `none` with all else equal but lr" in printed
    assert all(f" lr={rate:g} " in printed for rate in rates.values())
    compared = read(copy / "results/digits_smoke_tuned/comparison.csv")
    runs = read(copy / "results/digits_smoke_tuned/runs.csv")
    arms = {row["regularizer"]: row["arm_id"] for row in runs}
    assert {(row["arm_id"], row["baseline"]) for row in compared} == {(arms["label_smoothing"], arms["none"])}
    assert {row["seed"] for row in runs} == {"0", "1", "2"}
    assert {row["tuned"] for row in runs} == {"optimizer.lr"}
    narrowed = regbench("plan", *OWN, "+exp=digits_smoke_tuned", "regularizer=none", "seed=0", cwd=copy)
    assert "digits_smoke_tuned: 1 run, " in narrowed.stdout
    assert regbench("report", "digits_smoke_tuned", cwd=copy).returncode == 0
    page = (copy / "results/digits_smoke_tuned/report.html").read_text()
    assert "every other setting equal but optimizer.lr, which each arm has of its own" in page


@pytest.mark.slow
def test_what_is_tuned_anew_is_not_mixed_with_what_was(copy):
    """Two arms of `none` paired nothing, and nothing said so."""
    run = ("run", *OWN, "+exp=digits_smoke_tuned", "train.device=cpu")
    assert regbench(*run, cwd=copy).returncode == 0
    was, others = chosen(copy)["none"], RATES - {chosen(copy)["none"], 3.0}
    change(copy, "none", now := min(others), val_nll=0.0)
    assert regbench(*TUNE, *TWO, cwd=copy).returncode == 0
    assert chosen(copy)["none"] == now
    runs = (copy / "results/digits_smoke_tuned/runs.csv").read_text()
    for command in (run, ("plan", *run[1:])):
        done = regbench(*command, cwd=copy)
        assert done.returncode == 2
        assert f"has none with optimizer.sgd.lr={was}, of an earlier tuning; " in done.stderr
        assert f"now it is optimizer.sgd.lr={now}" in done.stderr
        assert "beside +exp: exp=digits_smoke_tuned_2" in done.stderr
        assert len(done.stderr.splitlines()) <= 3
    assert (copy / "results/digits_smoke_tuned/runs.csv").read_text() == runs
    named = regbench(*run, "exp=digits_smoke_tuned_2", cwd=copy)
    assert named.returncode == 0, named.stderr
    assert "6 runs, 3 on record, 3 to train" in named.stdout  # label smoothing has its rate still
    compared = read(copy / "results/digits_smoke_tuned_2/comparison.csv")
    assert {row["regularizer"] for row in compared} == {"label_smoothing"}
    assert regbench(*run, "seed=0", "exp=digits_smoke_tuned_2", cwd=copy).returncode == 0
    assert "exp=digits_smoke_tuned_3" in regbench(*run, cwd=copy).stderr


@pytest.mark.slow
def test_a_report_of_two_tunings_that_were_merged_says_why_nothing_is_compared(copy):
    run = ("run", *OWN, "+exp=digits_smoke_tuned", "train.device=cpu")
    assert regbench(*run, cwd=copy).returncode == 0
    change(copy, "none", min(RATES - {chosen(copy)["none"], 3.0}), val_nll=0.0)
    assert regbench(*TUNE, *TWO, cwd=copy).returncode == 0
    assert regbench(*run, "results_dir=theirs", cwd=copy).returncode == 0
    assert regbench("merge", "theirs", cwd=copy).returncode == 0
    done = regbench("report", "digits_smoke_tuned", "--format", "markdown", cwd=copy)
    assert done.returncode == 0, done.stderr
    note = "`none` is here more than once, as it was tuned anew: no arm is compared with it. Choose one: "
    before, _, after = done.stdout.partition(note)
    assert before != done.stdout
    assert "no other arm equals it" not in done.stdout
    command = after.split("\n")[0].partition(" Mean over seeds")[0]
    assert "more than once" not in regbench(*command.split()[1:], cwd=copy).stdout


# --- in this process -------------------------------------------------------------------------------------------------


@pytest.fixture
def tune(tmp_path, capsys, monkeypatch):
    """A function: arguments -> exit code, what was printed, and the file of the tuned experiment `mine`, if any."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()

    def run(*arguments, own=OWN):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["tune", *own, "exp=mine", *TINY, "results_dir=results", "train.epochs=1", *arguments])
        printed = capsys.readouterr()
        file = tmp_path / "own" / "exp" / "mine_tuned.yaml"
        written = yaml.safe_load(file.read_text())["hydra"]["sweeper"] if file.exists() else None
        return exit_.value.code, printed.out + printed.err, written

    return run


def test_a_grid_that_never_holds_the_best_ends_after_four_further_rates_and_says_so(tune, tmp_path):
    code, printed, written = tune("optimizer.sgd.lr=1e-8", "trials=2", "tune_seeds=1", "seed=7")
    assert code == 0
    assert "At an edge after all extensions: none. A better rate may lie beyond: start from another" in printed
    settings = tables.read_settings(tmp_path / "results", "mine_tune").values()
    rates = sorted(arm["optimizer.sgd.lr"] for arm in settings)
    assert rates == [1e-8, 3.16e-8, 1e-7, 3.16e-7, 1e-6, 3.16e-6]  # of two, one lies above the middle
    assert written["arms"] == [{"optimizer.sgd.lr": 3.16e-6}]
    assert written["params"]["seed"] == "7"
    assert written["params"]["dataset"] == "synthetic"
    assert [row["seed"] for row in tables.read_rows(tmp_path / "results", "mine_tune").values()] == ["1000"] * 6


def test_each_optimizer_has_a_grid_of_its_own(tune, tmp_path):
    values = ("optimizer.sgd.lr=1e-8", "optimizer.adam.lr=0.01", "regularizer.sam.rho=0.1,0.2", "regularizer=none,sam")
    code, _, written = tune("optimizer=sgd,adam", "trials=3", "tune_seeds=1", *values)
    assert code == 0
    settings = tables.read_settings(tmp_path / "results", "mine_tune").values()
    rates = {key: {arm[key] for arm in settings if key in arm} for key in ("optimizer.sgd.lr", "optimizer.adam.lr")}
    assert len(rates["optimizer.sgd.lr"]) == 7
    assert {0.00316, 0.01, 0.0316} <= rates["optimizer.adam.lr"]
    arms = [(arm["regularizer"], arm["optimizer"], arm["regularizer.sam.rho"]) for arm in written["arms"]]
    words = [("none", 0.1), ("sam", 0.1), ("sam", 0.2)]  # to `none` rho is nothing
    assert sorted(arms) == sorted((word, optimizer, rho) for word, rho in words for optimizer in ("sgd", "adam"))


def test_where_a_run_fails_nothing_is_chosen_and_the_same_command_goes_on(tune, monkeypatch):
    train = run_module._train

    def fail(run, *arguments):
        if run.optimizer.values["lr"] > 0.1:
            raise ZeroDivisionError("no reason")
        return train(run, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "_train", fail)
        code, printed, written = tune("trials=3")
    assert (code, written) == (1, None)
    assert "no learning rate is chosen" in printed
    code, printed, written = tune("trials=3", "retry_failed=true")
    assert code == 0
    assert "6 runs, 4 on record, 2 to train" in printed
    assert written["arms"]


def test_where_every_rate_diverges_nothing_is_written(tune):
    code, printed, written = tune("optimizer.sgd.lr=1e30", "trials=2", "tune_seeds=1")
    assert (code, written) == (1, None)
    assert "No learning rate has a finite validation NLL: none. Nothing is written." in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trials=1",), "trials must be an integer of at least 2"),
        (("trials=many",), "trials must be an integer"),
        (("tune_seeds=0",), "tune_seeds must be an integer of at least 1"),
        (("dataset.val_fraction=0",), "no validation images"),
        (("seed=0,1001",), "the experiment has seed 1001"),
        (("optimizer.sgd.lr=0.1,0.2",), "several learning rates of sgd: 0.1 and 0.2"),
        (("optimizer=without",), "optimizer without has no lr"),
        (("+exp=nowhere",), "there is no exp nowhere"),
        (("trial=3",), "trial"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_and_nothing_is_trained(arguments, words, tune, tmp_path):
    text = "# @package optimizer.without\nslot: optimizer\n_target_: torch.optim.Adadelta\nweight_decay: 0.0\n"
    write(tmp_path, {"own/optimizer/without.yaml": text})
    code, printed, written = tune(*arguments)
    assert (code, written) == (2, None)
    assert words in printed
    assert len(printed.splitlines()) <= 3
    assert not (tmp_path / "results").exists()


def test_it_asks_for_a_place_to_write_to_and_replaces_nothing_that_was_written_by_hand(tune, tmp_path):
    code, printed, _ = tune(own=())
    assert code == 2
    assert "--config-dir DIR, or REGBENCH_CONFIG=DIR" in printed
    write(tmp_path, {"own/exp/mine_tuned.yaml": "# @package _global_\n# mine\nhydra: {sweeper: {params: {seed: 0}}}\n"})
    code, printed, written = tune()
    assert code == 2
    assert "was not made by regbench tune" in printed
    assert written == {"params": {"seed": 0}}
    assert not (tmp_path / "results").exists()
