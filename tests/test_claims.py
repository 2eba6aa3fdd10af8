"""`regbench claims`: each claim's file, and a claim of a user's own from its training to its verdict and page."""

import re

import pytest
from conftest import write

from bench.cli import main
from bench.config import plugins
from bench.config.claim import claim_files, read_claim
from bench.config.compose import compose_command
from bench.config.identity import arm_id, identity
from bench.errors import UsageError
from bench.evidence.claim import parse_region
from bench.record.claims import CLAIM_COLUMNS, check_measures, find_all_pairs
from bench.record.read_tables import read_csv
from bench.report.figure.claims import draw_claim

CLAIMS = list(claim_files())
OWN = """# @package _global_
# Dropout costs accuracy
# source: me 2026, My claim
defaults:
  - override /dataset: synthetic
  - override /model: mlp

train: {{epochs: 1, batch_size: 16}}
claim:
  statement: Too much dropout costs accuracy
  measure: {measure}
  region: "{region}"
  any_suffices: true
  arm: {arm}
  against: {{regularizer: none}}
  beside: [test_nll, {{measure: train_accuracy, against: {{regularizer: mixup}}}}]
  reported: ["my notes: it does"]

hydra:
  sweeper:
    arms:
      - {{regularizer: none}}
      - {{regularizer: mixup}}
      - {{regularizer: dropout, regularizer.dropout.value: "0.1,0.6"}}
    params:
      seed: 0,1,2
"""
SMALL = ("optimizer.sgd.lr=0.05", "dataset.train_images=100", "dataset.test_images=60", "train.epochs=6")


@pytest.fixture
def own(tmp_path):
    """A function: the claim `too_much` with these values, in a user's folder."""

    def make(measure="test_accuracy", region="< 0", arm="{regularizer: dropout}"):
        text = OWN.format(measure=measure, region=region, arm=arm)
        return write(tmp_path / "own", {"exp/claims/too_much.yaml": text})

    return make


def claims(capsys, *arguments, code=0):
    with pytest.raises(SystemExit) as exit_:
        main(["claims", *arguments])
    printed = capsys.readouterr()
    assert exit_.value.code == code, printed
    return printed.out + printed.err


@pytest.mark.parametrize("identifier", CLAIMS)
def test_every_claim_has_arms_a_measure_a_region_a_source_and_a_line_for_the_list(identifier):
    file = claim_files()[identifier]
    assert 20 < len(plugins.first_comment(file)) <= 80
    assert plugins.read_sources(file)
    composed = compose_command([f"+exp=claims/{identifier}"])
    claim = read_claim(identifier, composed.claim)
    check_measures(claim)
    arms = {arm_id(run): identity(run) for run in composed.runs}
    assert all(find_all_pairs(claim, arms))
    assert {run.seed for run in composed.runs} == {0, 1, 2, 3, 4}
    assert composed.exp == "claims"


def test_the_claims_are_those_of_the_textbook():
    of_family = {family: len([each for each in CLAIMS if each.startswith(family)]) for family in ("ls", "mix", "sam")}
    assert of_family == {"ls": 4, "mix": 5, "sam": 3}
    assert {"sgd_flat", "sgd_noise", "adam_then_sgd"} < {*CLAIMS}
    assert len(CLAIMS) == 15


def test_a_claim_of_ones_own_is_trained_judged_shown_and_judged_again(own, tmp_path, capsys):
    results = tmp_path / "results"
    typed = ["too_much", "--config-dir", str(own()), *SMALL, f"results_dir={results}"]
    printed = claims(capsys, *typed)
    assert re.search(r"too_much +(supported|contradicted|inconclusive) +accuracy % +< 0", printed)
    assert "value=0." in printed
    folder = results / "claims"
    (row,) = read_csv(folder / "claims.csv")
    assert [*row] == CLAIM_COLUMNS
    assert (row["dataset"], row["model"], row["seeds"], row["threshold"]) == ("synthetic", "mlp", "3", "< 0")
    runs = {(each["arm_id"], each["seed"]): float(each["test_accuracy"]) for each in read_csv(folder / "runs.csv")}
    assert int(row["gradient_evaluations"]) == 4 * 3 * 6 * 5
    effects = read_csv(folder / "effects.csv")
    own_effects = [each for each in effects if each["number"] == "0"]
    assert [each["value"] for each in own_effects] == ["value=0.1", "value=0.6"]
    for each in own_effects:
        differences = [runs[each["arm_id"], seed] - runs[each["baseline"], seed] for seed in "012"]
        assert float(each["effect"]) == pytest.approx(sum(differences) / 3)
    assert {each["measure"] for each in effects if each["number"] != "0"} == {"test_nll", "train_accuracy"}
    page = (folder / "claims.html").read_text()
    assert all(words in page for words in ("Too much dropout costs accuracy", "my notes: it does", "me 2026", "<svg"))
    before = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/result.json")}
    again = claims(capsys, *typed)
    assert {path: path.stat().st_mtime_ns for path in results.glob("runs/*/result.json")} == before
    table = printed[printed.index("\nclaims: mlp") : printed.index("Page:")]
    assert table in again
    elsewhere = claims(capsys, "--config-dir", str(own()), "--from", str(folder))
    assert table.strip() in elsewhere


def test_a_claim_that_is_tuned_has_a_file_of_its_own(own, tmp_path, monkeypatch, capsys):
    """All claims are one experiment, and the second one's rates replaced the first one's."""
    monkeypatch.chdir(tmp_path)
    folder, few = own(), ("seed=0", "regularizer=none", "trials=2", "tune_seeds=1", "results_dir=results")
    with pytest.raises(SystemExit) as exit_:
        main(["tune", "--config-dir", str(folder), "+exp=claims/too_much", *few, *SMALL])
    assert exit_.value.code == 0, capsys.readouterr()
    assert (folder / "exp" / "too_much_tuned.yaml").is_file()
    assert (tmp_path / "results" / "too_much_tune" / "runs.csv").is_file()


def test_what_overrides_take_away_beside_a_claim_is_left_out_and_of_itself_is_refused(own, tmp_path, capsys):
    typed = ["too_much", "--config-dir", str(own()), *SMALL, f"results_dir={tmp_path}", "seed=0"]
    printed = claims(capsys, *typed, "regularizer=none,dropout")
    assert "inconclusive" in printed  # of one seed
    assert {each["measure"] for each in read_csv(tmp_path / "claims" / "effects.csv")} == {"test_accuracy", "test_nll"}
    refused = claims(capsys, *typed, "regularizer=none", code=2)
    assert "claim too_much: no arm has the settings of claim.arm: {'regularizer': 'dropout'}" in refused


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"measure": "accuracyy"}, "there is no measure accuracyy"),
        ({"region": "0"}, "'0' is no region: write `> 0.01`"),
        ({"arm": "dropout"}, "hold settings, such as {regularizer: sam}"),
        ({"arm": "{}"}, "its claim lacks arm"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused_before_anything_trains(values, message, own, tmp_path, capsys):
    printed = claims(capsys, "too_much", "--config-dir", str(own(**values)), f"results_dir={tmp_path}", code=2)
    assert message in printed
    assert len(printed.strip().splitlines()) <= 3
    assert not (tmp_path / "runs").exists()


def test_an_unknown_claim_and_a_folder_without_claims_are_refused_and_claims_are_listed(tmp_path, capsys):
    assert "there is no claim sam_falt.\nThere are: adam_then_sgd" in claims(capsys, "sam_falt", code=2)
    (tmp_path / "empty").mkdir()
    assert "has no effects.csv" in claims(capsys, "--from", str(tmp_path / "empty"), code=2)
    listed = claims(capsys, "--list")
    assert all(re.search(rf"^{identifier} +\S", listed, re.M) for identifier in CLAIMS)


def test_an_experiment_without_a_claim_is_none():
    with pytest.raises(UsageError, match="has no node `claim`"):
        read_claim("digits", compose_command(["+exp=digits"]).claim)


def test_the_picture_holds_every_effect_and_shades_what_is_claimed(own, tmp_path, capsys):
    results = tmp_path / "results"
    claims(capsys, "too_much", "--config-dir", str(own(region="|effect| < 0.02")), *SMALL, f"results_dir={results}")
    from bench.cli.claiming import _judge_again, _read_claims

    (judged,) = _judge_again([*_read_claims(["too_much"], [])], results / "claims")
    (axes,) = draw_claim(judged).axes
    low, high = axes.get_xlim()
    ends = [100 * each for effect in judged.finding.effects for each in (effect.low, effect.high, *effect.values)]
    assert low < min(ends)
    assert high > max(ends)
    region = parse_region("|effect| < 0.02")
    shaded = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (shaded.x0, shaded.x1) == pytest.approx((100 * region.low, 100 * region.high))
