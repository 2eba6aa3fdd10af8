"""Tables for pandas."""

import io
from pathlib import Path

import pandas

from bench.disk.gone import read_if_there
from bench.errors import UsageError
from bench.measure import QUALITIES
from bench.measure.quantities import COSTS

_COUNTS = ("seed", "seeds", "epoch", "epochs", "train_size", "batch_size", "workers", "threads", "runs", "family_size")
_NUMBERS = {
    *(*QUALITIES, *COSTS, *_COUNTS, "failed", "diverged", "train_loss", "lr", "seconds"),
    *("difference", "low", "high", "p", "p_holm", "improved", "detectable"),
}
_PARTS = ("_mean", "_std", "_low", "_high", "_share")
_BOOLEANS = ("temperature_at_bound",)


def read_frame(file: Path) -> pandas.DataFrame:
    """One of an experiment's CSV files: numbers are numbers, NaN where there is none; all else is text.

    Raises:
        UsageError: there is no such file.
    """
    content = read_if_there(file)
    if content is None:
        raise UsageError(f"there is no {file}.\nName the experiment and the folder of results, or train it first.")
    frame = pandas.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    for column in frame:
        if column in _NUMBERS or str(column).endswith(_PARTS):
            frame[column] = pandas.to_numeric(frame[column])
        elif column in _BOOLEANS:
            frame[column] = frame[column].map({"True": True, "False": False})
    return frame
