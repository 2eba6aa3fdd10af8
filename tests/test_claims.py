"""`regbench claims`: each claim's file, and a claim of a user's own from its training to its verdict and page."""

import re

import pytest
from conftest import write

from bench.cli import main
from bench.config import plugins
from bench.config.claim import claim_files, read_claim
from bench.config.compose import compose_command
from bench.config.identity import arm_id, identity
from bench.console.lines import Terminal
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
    check_measures(claim, composed.switches["evaluation"])
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
    folder, few = own(), ("trials=2", "tune_seeds=1", "results_dir=results")
    with pytest.raises(SystemExit) as exit_:
        main(["tune", "--config-dir", str(folder), "+exp=claims/too_much", *few, *SMALL])
    assert exit_.value.code == 0, capsys.readouterr()
    assert (folder / "exp" / "claims" / "too_much_tuned.yaml").is_file()
    assert (tmp_path / "results" / "too_much_tune" / "runs.csv").is_file()
    command = re.search(r"Best against best: regbench claims (.*)", capsys.readouterr().out.replace("\n", " "))
    printed = claims(capsys, *command[1].split(), "results_dir=results")
    assert re.search(r"too_much_tuned +(supported|contradicted|inconclusive)", printed)
    assert (tmp_path / "results" / "too_much_tuned" / "claims.csv").is_file()


@pytest.mark.parametrize("identifier", CLAIMS)
def test_a_claim_of_ours_is_an_experiment_that_a_file_elsewhere_can_bring_along(identifier, tmp_path, monkeypatch):
    text = f"# @package _global_\n# mine\ndefaults:\n  - /exp/claims/{identifier}\n"
    monkeypatch.setenv(plugins.VARIABLE, str(write(tmp_path / "own", {"exp/mine.yaml": text})))
    assert len(compose_command(["+exp=mine"]).runs) == len(compose_command([f"+exp=claims/{identifier}"]).runs)


def test_the_width_of_the_tasks_net_is_for_that_net_alone():
    widths = {
        model: compose_command(["+exp=claims/ls_accuracy", f"model={model}"]).runs[0].model.values.get("width")
        for model in ("convnet", "mlp", "resnet8")
    }
    assert widths == {"convnet": 16, "mlp": 256, "resnet8": None}
    assert compose_command(["+exp=claims/ls_accuracy", "model=mlp", "model.width=8"]).runs[0].model.values["width"] == 8


def test_what_overrides_take_away_beside_a_claim_is_left_out_and_of_itself_is_refused(own, tmp_path, capsys):
    typed = ["too_much", "--config-dir", str(own()), *SMALL, f"results_dir={tmp_path}", "seed=0"]
    printed = claims(capsys, *typed, "regularizer=none,dropout")
    assert "inconclusive" in printed  # of one seed
    assert {each["measure"] for each in read_csv(tmp_path / "claims" / "effects.csv")} == {"test_accuracy", "test_nll"}
    refused = claims(capsys, *typed, "regularizer=none", code=2)
    assert "claim too_much: no arm has the settings of claim.arm: {'regularizer': 'dropout'}" in refused


def test_all_claims_are_checked_before_the_first_one_trains(own, tmp_path, capsys):
    folder = own()
    write(folder, {"exp/claims/a.yaml": (folder / "exp/claims/too_much.yaml").read_text()})
    other = (folder / "exp/claims/a.yaml").read_text().replace("arm: {regularizer: dropout}", "arm: {seed: 0}")
    write(folder, {"exp/claims/b.yaml": other})
    printed = claims(capsys, "a", "b", "--config-dir", str(folder), *SMALL, f"results_dir={tmp_path}", code=2)
    assert "claim b: no arm has the settings of claim.arm: {'seed': 0}" in printed
    assert not (tmp_path / "runs").exists()


def test_a_claim_has_a_row_for_each_dataset_and_model(own, tmp_path, capsys):
    typed = ["too_much", "--config-dir", str(own()), f"results_dir={tmp_path}", *SMALL, "model=mlp,convnet"]
    printed = claims(capsys, *typed)
    assert "claims: mlp on synthetic" in printed
    assert "claims: convnet on synthetic" in printed
    figures = {path.stem for path in (tmp_path / "claims" / "figures").glob("*.svg")}
    assert figures == {"claim_too_much_synthetic_mlp", "claim_too_much_synthetic_convnet"}
    runs = {(row["arm_id"], row["seed"]): row for row in read_csv(tmp_path / "claims" / "runs.csv")}
    effects = [row for row in read_csv(tmp_path / "claims" / "effects.csv") if row["number"] == "0"]
    assert [(row["model"], row["value"]) for row in effects] == [
        (model, f"value={value}") for model in ("convnet", "mlp") for value in (0.1, 0.6)
    ]
    for row in effects:
        pairs = [[runs[row[arm], seed] for arm in ("arm_id", "baseline")] for seed in "012"]
        assert {each["model"] for pair in pairs for each in pair} == {row["model"]}
        differences = [float(arm["test_accuracy"]) - float(baseline["test_accuracy"]) for arm, baseline in pairs]
        assert float(row["effect"]) == pytest.approx(sum(differences) / 3)


def test_runs_that_diverge_are_named_and_make_the_exit_code_1(own, tmp_path, capsys):
    typed = ["too_much", "--config-dir", str(own()), f"results_dir={tmp_path}", *SMALL, "optimizer.sgd.lr=1e30"]
    for _ in range(2):  # on record they are no less diverged
        assert "too_much: 9 runs diverged or failed; those seeds do not count." in claims(capsys, *typed, code=1)
    shown = claims(capsys, "--config-dir", str(own()), "--from", str(tmp_path / "claims"))
    assert "9 runs diverged" in shown


def test_a_measure_that_no_run_has_is_said(own, tmp_path, capsys):
    typed = ["too_much", "--config-dir", str(own("test_minority_accuracy")), f"results_dir={tmp_path}", *SMALL]
    assert "too_much: no run has test_minority_accuracy, so that nothing is known." in claims(capsys, *typed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"measure": "accuracyy"}, "there is no measure accuracyy"),
        ({"region": "0"}, "'0' is no region: write `> 0.01`"),
        ({"measure": "sharpness_0_1"}, "nothing measures sharpness_0_1.\nIt needs evaluation=[sharpness]"),
        ({"measure": "[test_accuracy, test_nll]"}, "measure is a text"),
        ({"arm": "dropout"}, "arm is settings, such as {regularizer: sam}"),
        ({"arm": "{regularizer: none}"}, "no arm but those of claim.arm has the settings of claim.against"),
        ({"arm": "{}"}, "its claim lacks arm"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused_before_anything_trains(values, message, own, tmp_path, capsys):
    printed = claims(capsys, "too_much", "--config-dir", str(own(**values)), f"results_dir={tmp_path}", code=2)
    assert message in printed
    assert len(printed.strip().splitlines()) <= 3
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("line", "mended", "message"),
    [
        ('region: "< 0"', "region: 0.5", "claim.region=0.5 is not allowed.\nregion is a text"),
        ("any_suffices: true", "any_suffices: 'false'", "any_suffices is true or false"),
        ("statement: Too much", "statement: 42 #", "statement is a text"),
        ("statement: Too much", "statement: ${foo}", "foo"),
        ("beside: [test_nll,", "beside: test_nll #", "beside is a list"),
        ('["my notes: it does"]', "[1]", "claim.reported is a list of texts"),
    ],
)
def test_a_value_of_another_type_is_refused(line, mended, message, own, tmp_path, capsys):
    file = own() / "exp/claims/too_much.yaml"
    assert line in file.read_text()
    file.write_text(file.read_text().replace(line, mended))
    printed = claims(capsys, "too_much", "--config-dir", str(file.parents[2]), f"results_dir={tmp_path}", code=2)
    assert message in printed
    assert len(printed.strip().splitlines()) <= 3
    assert not (tmp_path / "runs").exists()


def test_of_tables_only_what_they_hold_is_shown(own, tmp_path, capsys):
    typed = ["--config-dir", str(own())]
    claims(capsys, "too_much", *typed, *SMALL, f"results_dir={tmp_path}")
    typed += ["--from", str(tmp_path / "claims")]
    assert "has no claim sam_flat.\nIt has: too_much" in claims(capsys, *typed, "sam_flat", code=2)
    assert "--from trains nothing" in claims(capsys, *typed, "model=mlp", code=2)
    (tmp_path / "other").mkdir()
    assert "too_much: there is no file of this claim" in claims(
        capsys, "--config-dir", str(tmp_path / "other"), *typed[2:]
    )
    own(arm="{regularizer: mixup}")
    changed = claims(capsys, *typed)
    assert "too_much: its file has other arms by now" in changed
    assert "0 claims" in changed


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
    from bench.cli.claiming import _judge_again

    (judged,) = _judge_again(["too_much"], [], results / "claims", Terminal())
    (axes,) = draw_claim(judged).axes
    low, high = axes.get_xlim()
    ends = [100 * each for effect in judged.finding.effects for each in (effect.low, effect.high, *effect.values)]
    assert low < min(ends)
    assert high > max(ends)
    region = parse_region("|effect| < 0.02")
    shaded = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (shaded.x0, shaded.x1) == pytest.approx((100 * region.low, 100 * region.high))
