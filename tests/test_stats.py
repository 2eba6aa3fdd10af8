import math

import numpy as np
import pytest
from scipy import stats

from bench.errors import UsageError
from bench.evidence.comparison import compare, interactions
from bench.evidence.pairing import read_arms
from bench.evidence.stats import holm, mcnemar, paired_t, share_improved, t_interval


def test_the_interval_equals_scipys():
    values = [0.1, 0.4, 0.35, 0.8]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx((theirs.low, theirs.high))


def test_the_interval_covers_the_mean_in_95_percent_of_experiments():
    samples = np.random.default_rng(0).standard_normal((2000, 5))
    covered = [low <= 0 <= high for low, high in map(t_interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_one_value_is_an_error():
    with pytest.raises(ValueError, match="at least 2"):
        t_interval([0.5])


def test_the_paired_test_equals_scipys():
    arm, baseline = np.random.default_rng(0).normal(0.9, 0.01, (2, 5))
    theirs = stats.ttest_rel(arm, baseline)
    interval = theirs.confidence_interval(0.95)
    ours = paired_t(arm - baseline, 1.0)
    assert ours == pytest.approx((np.mean(arm - baseline), interval.low, interval.high, theirs.pvalue), rel=1e-9)


def test_what_a_few_or_equal_differences_do_not_tell_is_nan():
    assert [math.isnan(number) for number in paired_t([0.1], 1.0)] == [False, True, True, True]
    assert [math.isnan(number) for number in paired_t([0.1, 0.2], 1.0)] == [False, False, False, True]


def test_differences_that_do_not_vary_have_the_exact_test_of_signs():
    for n in (3, 5, 8):
        assert paired_t([0.1] * n, 1.0).p == pytest.approx(stats.binomtest(n, n).pvalue)
        assert paired_t([0.0] * n, 1.0).p == paired_t([0.0] * n, 0.0).p == 1
    rounded = [0.8 - 0.7, 0.9 - 0.8, 0.4 - 0.3]  # 0.1, but for their last digits
    assert len(set(rounded)) > 1
    assert paired_t(rounded, 0.9).p == 0.25


def test_mcnemars_test_is_binomial_over_the_pairs_that_differ():
    arm, baseline = [True] * 6 + [False] * 4, [False] * 5 + [True] * 3 + [False] * 2
    assert mcnemar(arm, baseline) == pytest.approx(stats.binomtest(2, 7).pvalue)
    assert mcnemar(baseline, arm) == mcnemar(arm, baseline)
    assert mcnemar([True] * 5, [False] * 5) == 2 / 32
    assert mcnemar(arm, arm) == 1


def test_holms_correction_by_hand_and_against_its_definition():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, math.nan, 0.6]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)
    assert holm([]) == []
    assert holm([0.01, math.nan, 0.03], size=4) == pytest.approx([0.04, math.nan, 0.09], nan_ok=True)
    p = np.random.default_rng(0).random(7)
    order = np.argsort(p)
    stepped = [max(min(1.0, (7 - j) * p[order[j]]) for j in range(i + 1)) for i in range(7)]
    assert np.array(holm(list(p)))[order] == pytest.approx(stepped)


def test_ties_count_half():
    assert share_improved(np.array([1.0, -1.0, 0.0, 0.0])) == 0.5
    assert math.isnan(share_improved(np.array([1.0, math.nan])))


def row(regularizer, seed, accuracy, optimizer="sgd", status="done", **more):
    arm = f"{regularizer}/{optimizer}"
    words = {"dataset": "d", "model": "m", "regularizer": regularizer, "optimizer": optimizer, "settings": ""}
    number = {} if accuracy is None else {"test_accuracy": str(accuracy)}
    return {**words, "arm_id": arm, "seed": str(seed), "status": status, **number, **more}


def settings_of(rows):
    """As in arms.json: the words, and a value of each regularizer and optimizer."""
    arms = {}
    for each in rows:
        own = {key: each[key] for key in ("dataset", "model", "regularizer", "optimizer")}
        own |= {f"regularizer.{part}.x": 1 for part in each["regularizer"].split("+")}
        arms[each["arm_id"]] = {**own, f"optimizer.{each['optimizer']}.lr": 1}
    return arms


def compared(rows, baseline="none"):
    return [each.to_row() for each in compare(read_arms(rows, settings_of(rows)), baseline)]


def simulate(random, arms, seeds=5, effect=0.0):
    """An experiment whose seeds move all arms alike, and whose arms differ from `none` by `effect` and noise."""
    common = 0.9 + 0.01 * random.standard_normal(seeds)
    words = ["none", *(f"r{i}" for i in range(arms))]
    return [
        row(word, seed, common[seed] + effect * (word != "none") + 0.003 * random.standard_normal())
        for word in words
        for seed in range(seeds)
    ]


@pytest.mark.slow
def test_coverage_and_false_positives_over_2000_simulated_experiments():
    random = np.random.default_rng(0)
    results = [compared(simulate(random, 1, effect=0.002))[0] for _ in range(2000)]
    assert np.mean([r["low"] <= 0.002 <= r["high"] for r in results]) == pytest.approx(0.95, abs=0.015)
    results = [compared(simulate(random, 1))[0] for _ in range(2000)]
    assert np.mean([r["p"] < 0.05 for r in results]) == pytest.approx(0.05, abs=0.015)


@pytest.mark.slow
def test_with_several_arms_holm_keeps_false_alarms_in_check_where_single_tests_do_not():
    random = np.random.default_rng(1)
    results = [compared(simulate(random, 4)) for _ in range(2000)]
    alarms = {key: np.mean([any(r[key] < 0.05 for r in rows) for rows in results]) for key in ("p", "p_holm")}
    assert alarms["p"] > 0.1
    assert alarms["p_holm"] < 0.065


def test_pairing_by_seed_sees_what_unpaired_seeds_hide():
    random = np.random.default_rng(2)
    rows = simulate(random, 1, effect=0.01)
    (result,) = compared(rows)
    arms = [[float(r["test_accuracy"]) for r in rows if r["regularizer"] == word] for word in ("none", "r0")]
    assert result["p"] < 0.05 < stats.ttest_ind(*arms).pvalue


def test_a_comparison_by_hand():
    values = {"none": [0.90, 0.80, 0.70, 0.60], "mixup": [0.91, 0.83, 0.70, 0.59]}
    (result,) = compared([row(word, seed, v) for word, each in values.items() for seed, v in enumerate(each)])
    theirs = stats.ttest_rel(values["mixup"], values["none"])
    assert result["difference"] == pytest.approx(0.0075)
    assert (result["p"], result["p_holm"]) == pytest.approx((theirs.pvalue, theirs.pvalue))
    assert (result["seeds"], result["improved"], result["note"]) == (4, 2.5 / 4, "")
    assert (result["arm_id"], result["baseline"], result["metric"]) == ("mixup/sgd", "none/sgd", "test_accuracy")


def test_lower_is_better_for_errors_and_nearer_0_for_the_signed_gap():
    def rows(**of_mixup):
        none = [
            row("none", s, None, test_nll=str(0.5 + s), test_confidence_gap="-0.02", test_entropy="1") for s in (0, 1)
        ]
        return none + [
            row("mixup", s, None, **{k: str(v + s * (k == "test_nll")) for k, v in of_mixup.items()}) for s in (0, 1)
        ]

    results = {r["metric"]: r for r in compared(rows(test_nll=0.4, test_confidence_gap=0.03, test_entropy=2))}
    assert {metric: r["improved"] for metric, r in results.items()} == {
        "test_nll": 1.0,
        "test_confidence_gap": 0.0,
        "test_entropy": None,
    }
    assert results["test_confidence_gap"]["difference"] == pytest.approx(0.05)


def test_only_common_finished_seeds_count_and_the_others_are_told():
    rows = [row("none", s, 0.9 + s / 100) for s in range(4)] + [row("none", 4, None, status="failed")]
    rows += [row("sam", s, 0.91 + s * s / 100) for s in (1, 2, 3, 9)] + [row("sam", 0, None, status="diverged")]
    result, divergence = compared(rows)
    assert (result["seeds"], result["note"]) == (3, "1 diverged; 1 failed of the baseline")
    assert result["p"] is not None
    assert result["p_holm"] is None  # of the seeds that survived
    assert (divergence["metric"], divergence["seeds"], divergence["difference"]) == ("diverged", 4, 1 / 4)
    assert divergence["p"] == divergence["p_holm"] == 1


@pytest.mark.parametrize(("seeds", "note"), [(1, "fewer than 3 common seeds"), (2, "fewer than 3 common seeds")])
def test_few_seeds_have_no_p_and_a_note(seeds, note):
    random = np.random.default_rng(0)
    (result,) = compared(simulate(random, 1, seeds))
    assert (result["p"], result["p_holm"], result["note"]) == (None, None, note)
    assert (result["low"] is None) == (seeds == 1)


def test_differences_that_do_not_vary_and_arms_without_a_common_seed_have_a_note():
    rows = [row("none", s, 0.5) for s in range(3)] + [row("sam", s, 0.75) for s in range(3)]
    (result,) = compared(rows)
    assert (result["difference"], result["p"]) == (0.25, 0.25)
    assert result["note"] == "the same difference in every seed: exact test of signs"
    apart = compared([row("none", 0, 0.5), row("sam", 1, 0.75)])
    assert {(r["seeds"], r.get("difference"), r["note"]) for r in apart} == {(0, None, "no common seeds")}


def test_adam_is_set_against_sgd_and_against_none_of_adam():
    rows = [
        row(w, s, 0.5 + s / 10 + len(w) / 100, o) for w in ("none", "sam") for o in ("sgd", "adam") for s in range(3)
    ]
    pairs = {(r["arm_id"], r["baseline"]) for r in compared(rows)}
    assert pairs == {
        ("sam/sgd", "none/sgd"),
        ("sam/adam", "none/adam"),
        ("none/adam", "none/sgd"),
        ("sam/adam", "sam/sgd"),
    }


def test_an_arm_whose_other_settings_differ_is_no_baseline():
    rows = [row("none", s, 0.5) for s in range(3)] + [row("sam", s, 0.6) for s in range(3)]
    settings = settings_of(rows)
    settings["none/sgd"]["optimizer.sgd.lr"] = 2
    assert compare(read_arms(rows, settings)) == []
    settings["none/sgd"]["optimizer.sgd.lr"] = 1
    settings["none/sgd"]["source.mine.Net"] = "a"
    settings["sam/sgd"]["source.mine.Net"] = "b"
    assert compare(read_arms(rows, settings)) == []
    settings["sam/sgd"] |= {"source.mine.Net": "a", "source.mine.Sam": "c"}
    assert len(compare(read_arms(rows, settings))) == 1
    more = [row("none", s, 0.7) | {"arm_id": "none without a class of its own"} for s in range(3)]
    settings[more[0]["arm_id"]] = {k: v for k, v in settings["none/sgd"].items() if not k.startswith("source.")}
    (own,) = [each for each in compare(read_arms(rows + more, settings)) if each.arm.arm_id == "sam/sgd"]
    assert own.baseline.arm_id == "none/sgd"
    assert compare(read_arms(rows, {})) == []  # a table that came without its arms.json


def test_another_baseline_changes_what_is_compared():
    rows = [row(w, s, 0.5 + s / 10) for w in ("none", "sam", "mixup") for s in range(3)]
    assert {r["arm_id"]: r["baseline"] for r in compared(rows, "sam")} == {
        "none/sgd": "sam/sgd",
        "mixup/sgd": "sam/sgd",
    }
    by_id, by_word = (
        [{k: v for k, v in r.items() if k != "family"} for r in compared(rows, b)] for b in ("sam/sgd", "sam")
    )
    assert by_id == by_word
    with pytest.raises(UsageError, match="no arm here has the regularizer or the arm_id nope"):
        compared(rows, "nope")


def test_the_interaction_of_a_stack_by_hand():
    cells = {"none": [1, 2, 4], "mixup": [2, 3, 6], "sam": [3, 5, 6], "mixup+sam": [7, 9, 8]}
    rows = [row(word, s, v / 10) for word, values in cells.items() for s, v in enumerate(values)]
    (result,) = interactions(read_arms(rows, settings_of(rows)))
    per_seed = np.array([7 - 2 - 3 + 1, 9 - 3 - 5 + 2, 8 - 6 - 6 + 4]) / 10
    assert (result.arm.words["regularizer"], result.seeds) == ("mixup+sam", 3)
    assert (result.difference, result.p) == pytest.approx((per_seed.mean(), stats.ttest_1samp(per_seed, 0).pvalue))
    settings = settings_of(rows)
    settings["sam/sgd"]["regularizer.sam.x"] = 2  # another rho than the stack's
    assert interactions(read_arms(rows, settings)) == []
