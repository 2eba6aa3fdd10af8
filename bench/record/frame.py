"""An experiment's runs for pandas."""

import io
import os
from pathlib import Path

import pandas

from bench.disk.gone import read_if_there
from bench.errors import UsageError
from bench.measure.quantities import COSTS, QUALITIES


def results(exp: str, results_dir: str | Path | None = None) -> pandas.DataFrame:
    """As `bench.results`."""
    file = Path(results_dir or os.environ.get("REGBENCH_RESULTS") or "results", exp, "runs.csv")
    content = read_if_there(file)
    if content is None:
        raise UsageError(f"there is no {file}.\nName the experiment and the folder of results, or train it first.")
    frame = pandas.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    numbers = ["seed", "epochs", "train_size", "batch_size", "workers", "threads", *QUALITIES, *COSTS]
    for column in (column for column in numbers if column in frame):
        frame[column] = pandas.to_numeric(frame[column])
    if "temperature_at_bound" in frame:
        frame["temperature_at_bound"] = frame["temperature_at_bound"].map({"True": True, "False": False})
    return frame
