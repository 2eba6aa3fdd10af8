"""Same is not unknown: verdicts by the margins of practical equivalence, and what a test could have shown."""

import math

import numpy as np
import pytest
from scipy import stats
from test_notes import make_rows, noisy, show
from test_stats import settings_of

from bench.config.plugins import use_folder
from bench.errors import UsageError
from bench.evidence.comparison import compare
from bench.evidence.margins import describe_margins, find_margin, read_margins
from bench.evidence.pairing import read_arms
from bench.evidence.stats import smallest_detectable
from bench.record.tables import request_runs


def judge(values, metric="test_accuracy"):
    rows = make_rows(values, metric)
    found = compare(read_arms(rows, settings_of(rows)), metrics=[metric], margins=read_margins())
    return {each.arm.words["regularizer"]: each.to_row() for each in found if each.metric == metric}


def test_the_four_words():
    none = noisy(0.9, seed=1, scale=0.01)

    def shifted(by, spread):
        return [value + by + spread * (-1) ** s for s, value in enumerate(none)]

    found = judge(
        {
            "none": none,
            "a": shifted(0.03, 0.004),
            "b": shifted(-0.03, 0.004),
            "c": shifted(0.001, 0.002),  # within half a point
            "d": shifted(0.001, 0.02),
            "e": shifted(0.003, 0.0005),  # beyond chance, and within half a point
            "f": [*shifted(0.03, 0.004)[:-1], "diverged"],
        }
    )
    words = {key: row["verdict"] for key, row in found.items()}
    assert words == {"a": "better", "b": "worse", "c": "the same", "d": "unknown", "e": "the same", "f": "unknown"}
    assert found["e"]["p_holm"] < 0.05
    swapped = judge({"none": none, "a": shifted(0.03, 0.004)}, "test_nll")
    assert swapped["a"]["verdict"] == "worse"
    assert judge({"none": none, "a": shifted(0.3, 0.004)}, "test_entropy")["a"]["verdict"] == ""


def test_the_margin_of_nll_is_relative_to_the_baseline():
    margins = read_margins()
    assert find_margin(margins, "val_nll", 0.5) == pytest.approx(0.01)
    assert find_margin(margins, "test_accuracy", 0.5) == 0.005
    assert find_margin(margins, "test_ece", 0.5) == 0.01
    assert find_margin(margins, "test_brier", 0.5) == 0
    assert "nll 2 % of the baseline's" in describe_margins(margins)


def test_a_users_margins_replace_ours(tmp_path):
    (tmp_path / "margins.yaml").write_text("absolute: {nll: 0.05, ece: null}\n")
    use_folder(tmp_path)
    margins = read_margins()
    assert find_margin(margins, "test_nll", 0.5) == 0.05
    assert find_margin(margins, "test_ece", 0.5) == 0
    assert find_margin(margins, "test_accuracy", 0.5) == 0.005


@pytest.mark.parametrize(
    "text", ["absolute: {loss: 1}", "absolute: {ece: -1}", "ece: 1", "- ece", "relative: {nll: x}"]
)
def test_a_margin_that_is_none_is_told(text, tmp_path):
    (tmp_path / "margins.yaml").write_text(text)
    use_folder(tmp_path)
    with pytest.raises(UsageError) as error:
        read_margins()
    assert str(tmp_path / "margins.yaml") in str(error.value)
    assert str(error.value).count("\n") <= 2
    with pytest.raises(UsageError):  # before anything trains
        request_runs(tmp_path, "x", ["1"])


@pytest.mark.parametrize(("n", "level"), [(3, 0.05), (5, 0.05), (5, 0.05 / 9), (10, 0.005)])
def test_what_is_called_detectable_is_shown_in_80_percent_of_20000_experiments(n, level):
    """The Monte Carlo error is 0.3 points; three of them are allowed. The spread is known here, and fed as such."""
    pattern = stats.zscore(np.arange(float(n)), ddof=1)  # of deviation 1
    shift = smallest_detectable(pattern, level)
    samples = np.random.default_rng(0).standard_normal((20_000, n)) + shift
    shown = stats.ttest_1samp(samples, 0, axis=1).pvalue < level
    assert shown.mean() == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / 20_000))


def test_same_is_rarely_said_of_what_differs_by_the_margin():
    """At a true difference of the margin, at most 2.5 % of intervals lie within it; 2,000 experiments, error 0.35."""
    random = np.random.default_rng(0)
    differences = random.normal(0.005, 0.001, (2000, 5))
    intervals = stats.ttest_1samp(differences, 0, axis=1).confidence_interval(0.95)
    said = [
        judge({"none": [0.9] * 5, "sam": list(0.9 + each)})["sam"]["verdict"] == "the same"
        for each in differences[:300]
    ]
    within = (intervals.high < 0.005) & (intervals.low > -0.005)
    assert said == within[:300].tolist()
    assert within.mean() == pytest.approx(0.025, abs=3 * 0.0035)


def test_a_table_says_what_it_could_have_shown():
    rows = make_rows({"none": noisy(0.9, seed=1), "a": noisy(0.9, seed=2), "b": noisy(0.9, seed=3)})
    found = compare(read_arms(rows, settings_of(rows)))
    size = 100 * np.median([each.detectable for each in found])
    _, _, notes = show({"none": noisy(0.9, seed=1), "a": noisy(0.9, seed=2), "b": noisy(0.9, seed=3)})
    assert f"80 % power, medians over arms, by their own spread: accuracy % {size:.2f}." in notes
