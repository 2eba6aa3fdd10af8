import json
from pathlib import Path

import numpy as np
import pytest
from reference.remake_metrics import CASES, make_case

from bench.measure.metric import accuracy, nll
from bench.measure.temperature import fit_temperature

PINNED = json.loads((Path(__file__).parent / "reference" / "metrics.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES)
def test_the_temperature_is_scikit_learns_and_netcals(case):
    logits, labels = make_case(case)
    temperature, at_bound = fit_temperature(logits, labels)
    assert temperature == pytest.approx(PINNED[case]["scikit-learn"]["temperature"], rel=1e-6)
    assert temperature == pytest.approx(PINNED[case]["netcal"]["temperature"], rel=1e-5)
    scaled = logits.astype(np.float64) / temperature
    assert nll(scaled, labels) == pytest.approx(PINNED[case]["scikit-learn"]["nll_scaled"], rel=1e-12)
    assert not at_bound


@pytest.mark.parametrize("factor", [0.1, 0.5, 2.0, 4.0])
def test_scaled_logits_have_a_scaled_temperature_and_no_accuracy_is_lost(factor):
    logits, labels = make_case("mild")
    temperature, _ = fit_temperature(logits, labels)
    scaled, _ = fit_temperature(factor * logits, labels)
    assert scaled == pytest.approx(factor * temperature, rel=1e-5)
    assert accuracy(logits / temperature, labels) == accuracy(logits, labels)


def test_predictions_that_are_all_right_or_all_wrong_are_at_a_bound():
    logits, labels = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])
    assert fit_temperature(logits, labels) == (pytest.approx(0.05), True)
    assert fit_temperature(logits, (labels + 1) % 3) == (pytest.approx(20.0), True)


@pytest.mark.parametrize("sure", [5, 100, 1000])
def test_where_the_nll_is_0_over_a_range_it_is_the_bound(sure):
    """In float64 it is 0 to the last digit for all but large T."""
    assert fit_temperature(sure * np.eye(3), np.arange(3)) == (pytest.approx(0.05), True)
