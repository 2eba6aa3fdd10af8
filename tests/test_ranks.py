"""What holds over several experiments: ranks, their tests, their diagram, and a plain word where places are too few."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from bench import cli
from bench.config.identity import digest
from bench.record import tables
from bench.record.columns import RUN_COLUMNS
from bench.report.figure.critical import draw_ranks
from bench.report.ranks import Name, _compare, rank_arms

METRICS = ("test_accuracy", "test_nll")
ARMS = ("none", "mixup", "sam", "cutmix")


def make_rows(values, exp="e", seeds=3, optimizer="sgd"):
    """Rows of one place; `values` holds an accuracy for each of ARMS."""
    blank = dict.fromkeys(RUN_COLUMNS, "")
    return [
        blank
        | {"dataset": f"data {exp}", "model": "net", "regularizer": arm, "optimizer": optimizer, "seed": str(seed)}
        | {"status": "done", "arm_id": f"{exp}{arm}", "test_accuracy": repr(float(value) + 0.001 * seed)}
        | {"test_nll": repr(1 - float(value))}
        for arm, value in zip(ARMS, values, strict=False)
        for seed in range(seeds)
    ]


def make_places(n, seed=0, effects=(0.0, 0.02, 0.05, 0.05)):
    random = np.random.default_rng(seed)
    accuracies = random.uniform(0.5, 0.9, (n, 1)) + effects + random.normal(0, 0.004, (n, 4))
    return {f"e{i}": make_rows(each, f"e{i}") for i, each in enumerate(accuracies)}


def test_ranks_are_demsars():
    """The table of four arms in three places, ranked by hand; ties share."""
    given = {"a": [0.7, 0.8, 0.9, 0.8], "b": [0.5, 0.6, 0.7, 0.8], "c": [0.9, 0.8, 0.7, 0.6]}
    (by_accuracy, by_nll) = rank_arms({exp: make_rows(values, exp) for exp, values in given.items()}, METRICS)
    for ranking in (by_accuracy, by_nll):
        assert ranking.ranks.tolist() == [[4, 2.5, 1, 2.5], [4, 3, 2, 1], [1, 2, 3, 4]]
        assert ranking.mean_ranks.tolist() == [3, 2.5, 2, 2.5]
        assert ranking.arms == [Name(arm, "sgd") for arm in ARMS]
    assert by_accuracy.places == ["a: net on data a", "b: net on data b", "c: net on data c"]


def test_the_tests_are_scipys():
    (ranking,) = rank_arms(make_places(12), METRICS[:1])
    columns = ranking.values.T
    assert ranking.friedman == pytest.approx(stats.friedmanchisquare(*columns).pvalue)
    raw = {pair: stats.wilcoxon(columns[pair[0]], columns[pair[1]]).pvalue for pair in ranking.pairs}
    assert {pair: p for pair, (p, _) in ranking.pairs.items()} == pytest.approx(raw)
    assert all(corrected >= p for p, corrected in ranking.pairs.values())
    assert ranking.differ(0, 1)
    assert not ranking.differ(2, 3)
    assert ranking.find_groups() == [(0, 1)]  # SAM and CutMix, in the order of mean ranks


def test_ties_and_zeros_are_exact():
    """Against all 2^n signs, one by one."""
    for differences in ([1, 1, -1, 2, 0], [3, 3, 3], [0, 0], [-2, 1, 1, 1, 1, 5]):
        kept = np.array([each for each in differences if each], dtype=float)
        ranks = stats.rankdata(np.abs(kept))
        sums = np.array([ranks[np.array(signs, dtype=bool)].sum() for signs in product((0, 1), repeat=len(kept))])
        seen = ranks[kept > 0].sum()
        assert _compare(np.array(differences, dtype=float)) == min(
            1, 2 * min((sums <= seen).mean(), (sums >= seen).mean())
        )


def test_where_no_two_differ_one_bar_joins_all():
    (ranking,) = rank_arms(make_places(8, effects=(0, 0, 0, 0)), METRICS[:1])
    assert ranking.find_groups() == [(0, 3)]


def test_false_alarms_of_all_pairs_together_stay_below_5_percent():
    """400 simulations without an effect; the bound is three Monte Carlo errors (1.1 points) above."""
    alarms = 0
    for seed in range(400):
        (ranking,) = rank_arms(make_places(10, seed, effects=(0, 0, 0, 0)), METRICS[:1])
        alarms += any(corrected < 0.05 for _, corrected in ranking.pairs.values())
    assert alarms / 400 <= 0.05 + 3 * 0.011


def test_too_few_places_are_a_plain_word():
    (ranking,) = rank_arms(make_places(4), METRICS[:1])
    assert "4 places are too few to say anything in general" in ranking.describe()
    assert "in fewer than 8" in ranking.describe()  # 6 pairs x 2 / 2^8 is below 0.05
    assert "Friedman p" in rank_arms(make_places(8), METRICS[:1])[0].describe()


def test_what_is_not_in_all_places_or_is_there_twice_is_left_out():
    places = make_places(3)
    places["e1"] = [row for row in places["e1"] if row["regularizer"] != "sam"]
    places["e2"] += [row | {"arm_id": "another"} for row in places["e2"] if row["regularizer"] == "mixup"]
    (ranking,) = rank_arms(places, METRICS[:1])
    assert [arm.regularizer for arm in ranking.arms] == ["none", "cutmix"]
    assert rank_arms({"e0": places["e0"]}, METRICS) == []
    nothing = {exp: [row | {"status": "failed"} for row in rows] for exp, rows in places.items()}
    assert rank_arms(nothing, METRICS) == []


def test_seeds_count_that_all_arms_of_a_place_have():
    places = make_places(2)
    places["e0"] = [row for row in places["e0"] if row["seed"] != "2" or row["regularizer"] != "sam"]
    (ranking,) = rank_arms(places, METRICS[:1])
    none = [float(row["test_accuracy"]) for row in places["e0"] if row["regularizer"] == "none"]
    assert ranking.values[0, 0] == pytest.approx(np.mean(none[:2]))


def test_the_command_tells_what_holds_in_general_and_writes_it(tmp_path, capsys):
    for exp, rows in make_places(3).items():
        settings = {
            row["arm_id"]: {axis: row[axis] for axis in ("dataset", "model", "regularizer", "optimizer")}
            for row in rows
        }
        arms = {digest(each): each for each in settings.values()}
        ids = {arm: digest(each) for arm, each in settings.items()}
        for row in rows:
            row |= {"exp": exp, "arm_id": ids[row["arm_id"]], "protocol_version": "1"}
            row |= {"run_id": digest(arms[row["arm_id"]] | {"seed": int(row["seed"])})}
        (tmp_path / exp).mkdir()
        (tmp_path / exp / "arms.json").write_text(tables.json.dumps(arms))
        tables.write_runs(tmp_path / exp, rows)
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", "e0", "e1", "e2", "--results-dir", str(tmp_path), "--metric", "accuracy"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "In general, by accuracy %: 3 places" in told
    assert "3 places are too few to say anything in general" in told
    folder = tmp_path / "across" / "e0+e1+e2"
    assert {path.name for path in folder.iterdir()} == {
        "ranks.csv",
        "pairs.csv",
        "test_accuracy.svg",
        "test_accuracy.png",
    }
    assert tables.experiments(tmp_path) == ["e0", "e1", "e2"]


def test_the_diagram_names_every_arm_once():
    (ranking,) = rank_arms(make_places(12), METRICS[:1])
    texts = [text.get_text() for text in draw_ranks(ranking).axes[0].texts]
    assert len(texts) == 4
    assert all(sum(str(arm) in text for text in texts) == 1 for arm in ranking.arms)
