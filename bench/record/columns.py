"""The columns of runs.csv and summary.csv, in their order; those of some runs alone come last where there are such."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.config import AXES
from bench.measure import OF_EVERY_SPLIT, OF_SOME_RUNS, QUALITIES, SCORES, SPLITS
from bench.measure.quantities import COSTS

METRIC_COLUMNS = [*(each.columns[split] for split in SPLITS for each in OF_EVERY_SPLIT[:3]), *COSTS]
LATER_COLUMNS = [c for each in OF_EVERY_SPLIT[3:] for c in each.columns.values()]  # came when tables were there
RUN_COLUMNS = [
    *("run_id", "exp", *AXES, "seed", "status", "epochs", "train_size", "batch_size", "precision", "device"),
    *METRIC_COLUMNS,
    *("arm_id", "settings", "protocol_version", "workers", "threads", "hardware", "torch"),
    *LATER_COLUMNS,
    *SCORES,
    *("resumed", "message"),
]
_ALWAYS = [*METRIC_COLUMNS, *LATER_COLUMNS, *(column for column in SCORES if column in QUALITIES)]
SUMMARISED = [*_ALWAYS, *(column for column in OF_SOME_RUNS if column in QUALITIES)]
PARTS = ("mean", "std", "low", "high")
ARM_COLUMNS = [*AXES, "settings", "arm_id", "runs", "failed", "diverged"]
SUMMARY_COLUMNS = [
    *ARM_COLUMNS,
    *(f"{metric}_{part}" for metric in _ALWAYS for part in PARTS),
    "diverged_share",
]


def with_others(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, None]:
    """The columns, and behind them what else rows have: of some runs alone, or what regbench does not know."""
    return dict.fromkeys([*columns, *(column for row in rows for column in row)])
