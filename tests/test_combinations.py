"""Experiments that list their arms (hydra.sweeper.arms), and how arms with settings of their own are compared."""

import pytest
from conftest import TINY, write

from bench.cli import run as app
from bench.config import plugins
from bench.config.identity import run_id
from bench.errors import UsageError
from bench.evidence.pairing import Arm, pair_with_baseline, read_arms
from bench.record import tables
from bench.record.merge import merge

LISTED = """\
# @package _global_
# x
hydra:
  sweeper:
    tuned: [optimizer.lr]
    params: {model: mlp, seed: "0,1"}
    arms:
      - {regularizer: none, optimizer: sgd, optimizer.sgd.lr: 0.1}
      - {regularizer: [mixup, sam], optimizer: sgd, optimizer.sgd.lr: 0.3}
      - {regularizer: none, optimizer: adam, optimizer.adam.lr: 0.01}
"""


@pytest.fixture
def listed(tmp_path):
    """A function: overrides -> the command of an experiment that lists three arms, or of another such text."""

    def compose(*overrides, text=LISTED):
        plugins.use_folder(write(tmp_path / "own", {"exp/listed.yaml": text}))
        return app.compose(["+exp=listed", *overrides])

    return compose


def describe(command):
    return [(run.regularizer, run.optimizer.values["lr"], run.seed) for run in command.runs]


def test_each_arm_has_its_settings_and_all_parameters(listed):
    command = listed()
    arms = [("none", 0.1), ("mixup+sam", 0.3), ("none", 0.01)]
    assert describe(command) == [(*arm, seed) for arm in arms for seed in (0, 1)]
    assert {run.model.name for run in command.runs} == {"mlp"}
    assert command.tuned == ("optimizer.lr",)


def test_a_listed_run_is_the_run_that_its_overrides_make(listed):
    typed = ["model=mlp", "regularizer=[mixup,sam]", "optimizer.sgd.lr=0.3", "seed=1"]
    assert run_id(listed().runs[3]) == run_id(app.compose(typed).runs[0])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=5"], [("none", 0.1, 5), ("mixup+sam", 0.3, 5), ("none", 0.01, 5)]),
        (["seed=0", "regularizer=[sam,mixup]"], [("mixup+sam", 0.3, 0)]),
        (["seed=0", "regularizer=none", "optimizer=adam"], [("none", 0.01, 0)]),
        (["seed=0", "regularizer=none,[mixup,sam]", "optimizer=sgd"], [("none", 0.1, 0), ("mixup+sam", 0.3, 0)]),
        (["seed=0", "optimizer=sgd", "optimizer.sgd.lr=1"], [("none", 1, 0), ("mixup+sam", 1, 0)]),
    ],
    ids=str,
)
def test_what_is_typed_on_an_axis_chooses_among_the_arms_and_else_takes_the_place_of_theirs(
    overrides, expected, listed
):
    assert describe(listed(*overrides)) == expected


@pytest.mark.parametrize(
    ("overrides", "text", "words"),
    [
        (["regularizer=cutmix"], LISTED, "no arm of the experiment has regularizer=cutmix"),
        (["regularizer=[mixup,sam]", "optimizer=adam"], LISTED, "no arm of the experiment has optimizer=adam"),
        ([], LISTED.replace("[optimizer.lr]", "[lr]"), "hydra.sweeper.tuned holds lr, which no run has"),
        ([], LISTED[: LISTED.index("      -")] + "      - sam\n", "holds sam, which is no arm"),
        ([], LISTED.replace("optimizer.adam.lr", "optimizer.adam.rate"), "there is no setting optimizer.adam.rate"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said(overrides, text, words, listed):
    with pytest.raises(UsageError, match=words) as error:
        listed(*overrides, text=text)
    assert len(str(error.value).splitlines()) <= 3


# --- comparison ------------------------------------------------------------------------------------------------------


def make_arm(regularizer, rate, tuned=("optimizer.lr",), **more):
    words = {"regularizer": regularizer, "arm_id": f"{regularizer}-{rate}", "dataset": "d", "model": "m"}
    return Arm(
        words, {"optimizer": "sgd", "optimizer.sgd.lr": rate, f"regularizer.{regularizer}.x": 1, **more}, tuned=tuned
    )


def pairs(*arms):
    return [(a.arm_id, b.arm_id) for a, b in pair_with_baseline({arm.arm_id: arm for arm in arms}, "none")]


def test_arms_are_paired_although_they_differ_in_what_was_tuned_and_in_that_alone():
    none, sam = make_arm("none", 0.1), make_arm("sam", 0.3)
    assert pairs(none, sam) == [("sam-0.3", "none-0.1")]
    assert pairs(make_arm("none", 0.1, ()), make_arm("sam", 0.3, ())) == []
    assert pairs(none, make_arm("sam", 0.3, **{"train.epochs": 2})) == []
    assert sam.show_tuned() == ["optimizer.sgd.lr=0.3"]


def test_where_the_baseline_was_tuned_anew_nothing_is_paired():
    assert pairs(make_arm("none", 0.1), make_arm("none", 0.2), make_arm("sam", 0.1)) == []


def test_what_was_tuned_stays_with_the_rows_and_goes_along_in_a_merge(tmp_path, listed, capsys):
    text = LISTED.replace('"0,1"', "0").replace("optimizer: adam, optimizer.adam", "optimizer: sgd, optimizer.sgd")
    listed(text=text.replace("regularizer: none, optimizer: sgd, optimizer.sgd.lr: 0.01", "regularizer: dropout"))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert app.run(["+exp=listed", *TINY, f"results_dir={theirs}"]) == 0
    assert "Each arm has its own lr" in capsys.readouterr().out
    merge(ours, theirs)
    for results in (ours, theirs):
        rows = tables.write_tables(results, "listed")
        assert {row["tuned"] for row in rows} == {"optimizer.lr"}
        assert all(arm.tuned == ("optimizer.lr",) for arm in read_arms(rows, {}).values())
    (ours / "listed" / "tuned.txt").unlink()  # as in a checkout, which has the tables alone
    assert {row["tuned"] for row in tables.write_tables(ours, "listed")} == {"optimizer.lr"}
    assert app.run(["exp=other", *TINY, f"results_dir={ours}"]) == 0
    assert "tuned" not in tables.write_tables(ours, "other")[0]
