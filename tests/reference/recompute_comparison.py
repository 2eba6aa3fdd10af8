"""comparison.csv once more, from runs.csv and arms.json alone, by pandas and SciPy: nothing here is regbench's.

    python tests/reference/recompute_comparison.py results/digits

prints what differs. Families, sizes and Holm's correction are written down anew, by their definitions.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, stats

_LOWER = ("nll", "ece", "brier", "mce", "aurc", "ece_scaled", "nll_scaled", "ece_equal_mass", "ece_classwise")
_FLAT = ("sharpness", "adaptive_sharpness", "m_sharpness", "hessian")  # begin a column; lower is better
_NEARER_0 = ("test_ece_debiased", "test_confidence_gap")
_NEITHER = ("test_entropy", "accuracy_gap", "nll_gap", "temperature", "hessian_trace_error")
_POINT = dict.fromkeys(("ece", "ece_debiased", "ece_equal_mass", "ece_scaled"), lambda _: 0.01)
_HALF_A_POINT = dict.fromkeys(("accuracy", "balanced_accuracy"), lambda _: 0.005)
_MARGINS = {**_POINT, **_HALF_A_POINT, **dict.fromkeys(("nll", "nll_scaled"), lambda baseline: 0.02 * baseline)}
KEY = ["arm_id", "baseline", "metric"]


def recompute(folder):
    """The rows as a frame with KEY, seeds, difference, low, high, p, p_holm, improved, family, family_size,
    verdict and detectable."""
    runs = pd.read_csv(folder / "runs.csv", dtype={"arm_id": str}, keep_default_na=False, na_values=[""])
    settings = json.loads((folder / "arms.json").read_text())
    planned = _plan(runs.drop_duplicates("arm_id"), settings)
    committed = pd.read_csv(folder / "comparison.csv", dtype=str, keep_default_na=False)
    columns = [metric for metric in dict.fromkeys(committed["metric"]) if metric != "diverged"]
    rows = [row for _, pair in planned.iterrows() for row in _compare(runs, pair, columns)]
    frame = pd.DataFrame(rows)
    together = ["family", "dataset", "model"]
    frame["family_size"] = frame.merge(planned.groupby(together).size().rename("n").reset_index(), on=together)["n"]
    frame["p_holm"] = np.nan
    for _, family in frame.groupby([*together, "metric"]):
        p = family["p"].where(family["whole"]).dropna().sort_values(kind="stable")
        factors = family["family_size"].iloc[0] - np.arange(len(p))
        frame.loc[p.index, "p_holm"] = np.minimum(1, np.maximum.accumulate(p * factors))
    frame["verdict"] = [_judge(row) for row in frame.itertuples()]
    frame["detectable"] = [_detect(row) for row in frame.itertuples()]
    return frame


def _judge(row):
    if row.metric in (*_NEARER_0, *_NEITHER):
        return ""
    if np.isnan(row.p_holm):
        return "unknown"
    if max(abs(row.low), abs(row.high)) < row.margin:
        return "the same"
    up = -1 if _is_lower_better(row.metric) else 1
    return "unknown" if row.p_holm >= 0.05 else "better" if up * row.difference > 0 else "worse"


def _is_lower_better(column):
    return column.startswith(_FLAT) or column.partition("_")[2] in _LOWER


def _detect(row):
    """By a search for the shift at which the noncentral t is beyond the critical value in 80 % of cases."""
    n = row.seeds
    if np.isnan(row.p) or row.low == row.high:
        return np.nan
    critical = stats.t.ppf(1 - 0.025 / row.family_size, n - 1)
    shift = optimize.brentq(lambda x: stats.nct.sf(critical, n - 1, x) - 0.8, 0, 1000)
    return shift * row.deviation / np.sqrt(n)


def _plan(arms, settings):
    """Each arm with `none`, and with SGD, of those that equal it in all other settings."""

    def rest(arm_id, axis):
        left = {k: v for k, v in settings[arm_id].items() if k.split(".")[0] not in (axis, "source")}
        return json.dumps(left, sort_keys=True)

    pairs = []
    for axis, word in (("regularizer", "none"), ("optimizer", "sgd")):
        keyed = arms.assign(rest=[rest(arm_id, axis) for arm_id in arms["arm_id"]])
        ours, theirs = keyed[keyed[axis] != word], keyed[keyed[axis] == word]
        both = ours.merge(theirs[["rest", "arm_id"]], on="rest", suffixes=("", "_of_baseline"))
        against = (
            "regularizers against none, " + both["optimizer"] if axis == "regularizer" else "optimizers against sgd"
        )
        pairs.append(both.assign(baseline=both["arm_id_of_baseline"], family=against))
    return pd.concat(pairs)[["arm_id", "baseline", "family", "dataset", "model"]]


def _compare(runs, pair, columns):
    arm, baseline = (runs[runs["arm_id"] == pair[key]].set_index("seed") for key in ("arm_id", "baseline"))
    whole = bool((arm["status"] == "done").all() and (baseline["status"] == "done").all())
    arm, baseline = arm[arm["status"] == "done"], baseline[baseline["status"] == "done"]
    for column in columns:
        both = pd.concat([arm[column], baseline[column]], axis=1, join="inner").dropna().to_numpy(dtype=float)
        if len(both) == 0:
            continue
        difference = both[:, 0] - both[:, 1]
        baseline_mean = baseline[column].astype(float).mean()
        told = {**pair, "metric": column, "margin": _MARGINS.get(column.partition("_")[2], lambda _: 0)(baseline_mean)}
        told |= {"deviation": difference.std(ddof=1) if len(difference) > 1 else np.nan}
        told |= {"metric": column, "whole": whole, "seeds": len(both), "difference": difference.mean()}
        yield {**told, **_test(*both.T), "improved": _improved(column, *both.T)}


def _test(arm, baseline):
    n, difference = len(arm), arm - baseline
    if n < 2:
        return {}
    if np.ptp(difference) <= 1e-12 * max(abs(arm).max(), abs(baseline).max()):
        up = int((difference > 0).sum())
        p = 1.0 if np.allclose(difference, 0, atol=1e-15) else stats.binomtest(up, n).pvalue
        return {"low": difference.mean(), "high": difference.mean(), "p": p if n > 2 else np.nan}
    test = stats.ttest_rel(arm, baseline)
    interval = test.confidence_interval(0.95)
    return {"low": interval.low, "high": interval.high, "p": test.pvalue if n > 2 else np.nan}


def _improved(column, arm, baseline):
    if column in _NEITHER:
        return np.nan
    if column in _NEARER_0:
        gain = abs(baseline) - abs(arm)
    else:
        gain = (baseline - arm) if _is_lower_better(column) else (arm - baseline)
    return np.mean((gain > 0) + (gain == 0) / 2)


def differing(folder):
    """What of comparison.csv is not so, as lines."""
    ours = recompute(folder).set_index(KEY)
    theirs = pd.read_csv(folder / "comparison.csv", keep_default_na=False, na_values=[""]).set_index(KEY)
    if set(ours.index) != set(theirs.index):
        return [f"other rows: {sorted(set(ours.index) ^ set(theirs.index))}"]
    theirs = theirs.loc[ours.index]
    lines = []
    for column in ("family", "verdict"):
        lines += [f"{column}: {key}" for key in ours.index[(ours[column] != theirs[column].fillna("")).to_numpy()]]
    for column in ("seeds", "difference", "low", "high", "p", "p_holm", "improved", "family_size", "detectable"):
        one, other = (each[column].to_numpy(dtype=float) for each in (ours, theirs))
        wrong = ~np.isclose(one, other, rtol=1e-6, atol=1e-9, equal_nan=True)
        lines += [f"{column}: {key}" for key in ours.index[wrong]]
    return lines


if __name__ == "__main__":
    print(*differing(Path(sys.argv[1])) or ["nothing differs"], sep="\n")
