"""What every column of every CSV means, as docs/columns.md: `python -m bench.report.columns` prints the page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.evidence.comparison import COMPARISON_COLUMNS
from bench.evidence.confusion import CONFUSION_COLUMNS
from bench.measure import OF_SOME_RUNS, QUALITIES
from bench.measure.quantities import COSTS, DECLARED
from bench.record.claims import CLAIM_COLUMNS, EFFECT_COLUMNS
from bench.record.columns import RUN_COLUMNS, SUMMARISED, SUMMARY_COLUMNS
from bench.record.corruptions import CORRUPTION_COLUMNS
from bench.record.folder import HISTORY_COLUMNS
from bench.record.logit_tables import ENSEMBLE_COLUMNS, RELIABILITY_COLUMNS, TEST_SET_COLUMNS
from bench.report.ranks import PAIR_COLUMNS, RANK_COLUMNS

_INTRODUCTION = """\
# Columns

Every column of an experiment's CSV files, by `python -m bench.report.columns`. Fractions lie in [0, 1] here, and are
percent in print. An empty cell is a number that there is not, as of a run without a validation split. Columns that
you add stay. The runs of a tuned experiment have a further column `tuned`: the settings that each arm has of its own.
"""

_SHARED = {
    "run_id": "of a run: 12 hex digits that stand for all of its settings and its data",
    "arm_id": "of an arm, a run less its seed: 12 hex digits",
    "exp": "the experiment's name",
    "dataset": "the chosen dataset, NAME/VALUE where the name alone does not say which",
    "model": "the chosen model, NAME/VALUE where the name alone does not say which",
    "regularizer": "the chosen regularizer; the parts of a stack are joined by +",
    "optimizer": "the chosen optimizer",
    "settings": "in what else arms of these names differ",
    "seed": "of weights, batches and whatever is drawn",
    "status": "done, diverged or failed",
    "epochs": "that were trained",
    "train_size": "training images",
    "batch_size": "images of a step",
    "precision": "fp32, bf16 or fp16",
    "device": "cpu or cuda",
    "gradient_evaluations": "forward and backward passes of a batch, of the whole run; with an average of the weights "
    "also the batches of the pass that makes BatchNorm's statistics anew, each as one",
    "train_seconds": "of the training steps, and of the pass for an average's BatchNorm; without evaluation",
    "images_per_second": "trained on, over `train_seconds`: the pass for an average's BatchNorm adds time alone",
    "protocol_version": "of the records; a newer one moves numbers under equal settings",
    "workers": "trainings at a time on that machine",
    "threads": "of torch",
    "hardware": "the CPU or GPU",
    "torch": "its version",
    "resumed": "True where the run went on from a checkpoint",
    "message": "what went wrong, or a note",
    "runs": "of the arm that are done",
    "failed": "how many runs of the arm failed",
    "diverged": "how many diverged",
    "diverged_share": "of the arm's runs, those that diverged",
    "baseline": "the arm_id that the arm is compared with",
    "metric": "a column of runs.csv, or `diverged`",
    "seeds": "that are counted; of a comparison, those that both arms have",
    "difference": "the arm less its baseline, mean over seeds",
    "low": "lower end of the 95 % interval",
    "high": "upper end",
    "p": "of the paired test",
    "p_holm": "p after Holm's correction within the family",
    "improved": "share of the seeds in which the arm is better",
    "note": "why there is no test, or no correction",
    "family": "the question whose tests are corrected together",
    "family_size": "comparisons in it",
    "verdict": "better, worse, the same or unknown",
    "detectable": "the smallest difference that the test shows with 80 % power",
    "epoch": "from 1",
    "train_loss": "mean objective of the epoch's steps",
    "lr": "learning rate of the epoch's last step, the largest of the groups'",
    "seconds": "of the epoch's training steps",
    "scaled": "True after division by the temperature",
    "bin": "of confidence, from 0",
    "count": "predictions in the bin",
    "confidence": "mean confidence in the bin",
    "accuracy": "share of the predictions that are right; higher is better",
    "corruption": "what was done to the test images; `none` is the clean ones",
    "strength": "its deviation (noise; blur, in pixels), factor (contrast, brightness) or quality (jpeg)",
    "made_of": "a digest of what the row was made of",
    "examples": "test images",
    "interval": "of which difference the interval is",
    "classes": "of the dataset",
    "label": "class id, from 0",
    "prediction": "class id, from 0",
    "images": "test images of the label",
    "share": "of these, taken for the prediction",
    "members": "runs whose probabilities are averaged: 1 is the mean over single runs",
    "subsets": "sets of so many members that the row is the mean over: all, or, of more than 70, 70 drawn",
    "nll": "mean negative log-likelihood in nats; lower is better",
    "ece": "expected calibration error, as `test_ece`; lower is better",
    "ece_debiased": "as `test_ece_debiased`; nearer 0 is better",
    "place": "a dataset and a model",
    "value": "mean of the metric over seeds",
    "rank": "1 is best",
    "arm": "a regularizer and an optimizer",
    "other": "the arm that it is set against",
    "places": "that both have",
    "wins": "places where the arm is better",
    "losses": "places where it is worse",
    "friedman_p": "of the test that any arms differ at all",
}
_OF_CLAIMS = {  # where these words mean something else
    "id": "of the claim, its file's name",
    "claim": "its statement",
    "number": "0 for the claim's own measure and arms; those that stand beside it count from 1",
    "value": "which of the claim's arms it is, where there are several; in claims.csv the one that decides",
    "measure": "a column of runs.csv",
    "threshold": "the region in which the effect must lie, in the measure's unit",
    "effect": "the arm less its baseline, or their ratio, mean over seeds",
    "low": "lower end of the interval, of 95 %, or Holm's of several values",
    "baseline": "the arm_id that the arm is set against",
    "seeds": "that both arms have",
    "verdict": "supported, contradicted or inconclusive; empty beside the claim",
    "seeds_needed": "with which the interval would decide, were effect and spread to stay; empty where it does, or is "
    "not known",
    "gradient_evaluations": "of all runs that the claim rests on",
}
_PARTS = {"mean": "mean over seeds", "std": "deviation", "low": "lower end of the 95 % t interval", "high": "upper end"}


def as_markdown() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for name, what, columns in (
        ("runs.csv", "a row per run", [*RUN_COLUMNS, *OF_SOME_RUNS]),
        ("summary.csv", "a row per arm", SUMMARY_COLUMNS),
        ("comparison.csv", "a row per arm and metric, against its baseline", COMPARISON_COLUMNS),
        ("history.csv", "a row per run and epoch", HISTORY_COLUMNS),
        ("reliability.csv", "a row per arm and bin of confidence", RELIABILITY_COLUMNS),
        ("test_set.csv", "the differences over resampled test images", TEST_SET_COLUMNS),
        ("confusion.csv", "a row per arm, label and prediction", CONFUSION_COLUMNS),
        (
            "ensemble.csv",
            "a row per arm and number of its runs, averaged into one model",
            ENSEMBLE_COLUMNS,
        ),
        (
            "corruptions.csv",
            "a row per arm, corruption and strength; only with evaluation=[robustness]",
            CORRUPTION_COLUMNS,
        ),
        ("claims.csv", "a row per claim, dataset and model; of `regbench claims`", CLAIM_COLUMNS),
        ("effects.csv", "a row per claim, measure and pair of arms; of `regbench claims`", EFFECT_COLUMNS),
        ("across/ranks.csv", "a row per metric, place and arm", RANK_COLUMNS),
        ("across/pairs.csv", "a row per metric and two arms", PAIR_COLUMNS),
    ):
        own = _OF_CLAIMS if "seeds_needed" in columns else {}
        rows = "\n".join(f"| `{column}` | {meaning} |" for column, meaning in _describe(columns, _SHARED | own))
        parts.append(f"## {name}\n\n{what}\n\n| column | holds |\n| --- | --- |\n{rows}\n")
    return "\n".join(parts)


def _describe(columns: Sequence[str], meanings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    metrics = _of_metrics()
    summarised = {f"{metric}_{part}" for metric in SUMMARISED for part in _PARTS}
    for column in _once_per_metric(columns, summarised):
        if column.endswith("_*"):
            means = "`_mean`, `_std`, `_low`, `_high`: " + ", ".join(_PARTS.values())
            of_one = meanings.get(column.removesuffix("_*"))
            yield column, f"{of_one}. {means}" if of_one else f"for each of these metrics {means}"
        else:
            yield column, meanings.get(column) or metrics[column]


def _once_per_metric(columns: Iterable[str], summarised: set[str]) -> Iterator[str]:
    """The four columns of a metric stand in one row of the page, and those of all of summary.csv's, too."""

    def shorten(column: str) -> str:
        metric, _, part = column.rpartition("_")
        if column in summarised:
            return "METRIC_*"
        return f"{metric}_*" if part in _PARTS and metric in _SHARED else column

    yield from dict.fromkeys(map(shorten, columns))


def _of_metrics() -> dict[str, str]:
    """What each metric's column holds, with its range, and which end is better."""
    declared = {column: (split, each) for each in DECLARED.values() for split, column in each.columns.items()}
    found = {}
    for column, (split, each) in declared.items():
        quantity = (QUALITIES | COSTS).get(column)
        of_split = {"val": "of the validation split: ", "train": "of the training images, unmixed: "}.get(split, "")
        better = f"; {quantity.better} is better" if quantity and quantity.better else ""
        where = f"; only with {each.where}" if each.where else ""
        found[column] = of_split + each.meaning.rstrip(".") + better + where
    return found


if __name__ == "__main__":
    print(as_markdown(), end="")
