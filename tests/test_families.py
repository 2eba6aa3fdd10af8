"""Which tests are corrected together; false-alarm rates by simulation, with their Monte Carlo error."""

import math

import numpy as np
import pytest
from test_stats import compared, row, settings_of

from bench.evidence.comparison import compare
from bench.evidence.pairing import read_arms
from bench.evidence.stats import holm

REGULARIZERS = ["none", *(f"r{i}" for i in range(9))]
OPTIMIZERS = ("sgd", "adam")


def simulate(random, seeds=5, effect=0.0):
    """Ten regularizers with two optimizers, of which Adam differs from SGD by `effect`, and noise."""
    common = 0.9 + 0.01 * random.standard_normal(seeds)
    return [
        row(word, s, common[s] + effect * (optimizer == "adam") + 0.003 * random.standard_normal(), optimizer)
        for word in REGULARIZERS
        for optimizer in OPTIMIZERS
        for s in range(seeds)
    ]


def families(rows):
    found = {}
    for each in rows:
        found.setdefault((each["family"], each["metric"]), []).append(each)
    return found


def test_a_family_is_a_question():
    found = families(compared(simulate(np.random.default_rng(0))))
    assert {key: (len(each), {r["family_size"] for r in each}) for key, each in found.items()} == {
        ("regularizers against none, sgd", "test_accuracy"): (9, {9}),
        ("regularizers against none, adam", "test_accuracy"): (9, {9}),
        ("optimizers against sgd", "test_accuracy"): (10, {10}),
    }
    for each in found.values():
        assert [r["p_holm"] for r in each] == pytest.approx(holm([r["p"] for r in each]))
    (chosen,) = families(compared(simulate(np.random.default_rng(0)), "none/sgd"))
    assert chosen == ("arms against none/sgd", "test_accuracy")


def test_each_dataset_and_model_is_a_family_of_its_own():
    rows = simulate(np.random.default_rng(0), 3)
    rows += [each | {"model": "n", "arm_id": f"{each['arm_id']}/n"} for each in rows]
    settings = settings_of(rows)
    for arm_id, each in settings.items():
        each["model"] = "n" if arm_id.endswith("/n") else "m"
    assert {each.family_size for each in compare(read_arms(rows, settings))} == {9, 10}


@pytest.mark.slow
def test_false_alarms_of_each_question_stay_below_5_percent_over_1000_simulated_experiments():
    """At 5 % of 1,000 the Monte Carlo error is 0.7 points; the bound is three of them above. Tests against one
    baseline depend on each other, so the rate may be well below."""
    random, alarms, n = np.random.default_rng(0), {}, 1000
    for _ in range(n):
        for (family, _), each in families(compared(simulate(random))).items():
            alarms[family] = alarms.get(family, 0) + any(r["p_holm"] < 0.05 for r in each)
            alarms[f"raw {family}"] = alarms.get(f"raw {family}", 0) + any(r["p"] < 0.05 for r in each)
    rates = {family: count / n for family, count in alarms.items()}
    error = math.sqrt(0.05 * 0.95 / n)
    assert all(rate <= 0.05 + 3 * error for family, rate in rates.items() if not family.startswith("raw")), rates
    assert rates["optimizers against sgd"] >= 0.05 - 4 * error, rates
    assert rates["raw optimizers against sgd"] > 0.25, rates


def test_differences_that_do_not_vary_count_in_their_family():
    random = np.random.default_rng(0)
    rows = [row("none", s, 0.5 + s / 100) for s in range(5)]
    rows += [row("equal", s, 0.5 + s / 100) for s in range(5)] + [row("shifted", s, 0.6 + s / 100) for s in range(5)]
    rows += [row("sam", s, 0.55 + s / 100 + 0.01 * random.standard_normal()) for s in range(5)]
    results = {r["regularizer"]: r for r in compared(rows)}
    assert (results["equal"]["p"], results["equal"]["note"]) == (1, "equal in every seed")
    assert results["shifted"]["p"] == 2 / 2**5
    assert results["sam"]["p_holm"] == pytest.approx(3 * results["sam"]["p"])
    assert results["shifted"]["p_holm"] == 2 * 2 / 2**5


def test_a_planned_arm_that_has_no_p_counts():
    random = np.random.default_rng(1)
    rows = [row(word, s, 0.9 + 0.01 * random.standard_normal()) for word in ("none", "a", "b") for s in range(5)]
    rows += [row("c", s, None, status="failed") for s in range(5)] + [row("d", 9, 0.9)]
    results = [r for r in compared(rows) if r["metric"] == "test_accuracy"]
    assert {r["family_size"] for r in results} == {4}
    p = sorted(r["p"] for r in results if r["p"] is not None)
    corrected = sorted(r["p_holm"] for r in results if r["p_holm"] is not None)
    assert corrected[0] == pytest.approx(min(1, 4 * p[0]))
    assert [r["p_holm"] for r in results if r["regularizer"] in ("c", "d")] == [None, None]
