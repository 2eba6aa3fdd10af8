"""regbench: fair comparisons of regularizers for image classifiers.

The map, from what is typed down to what is written; imports go down only (pyproject.toml, [tool.importlinter]):
    cli/          `regbench <command>`, a command per file
    report/       what is shown: the terminal's tables, figure/, the page
    speed/        how fast a step is, beside a plain script's
    sweep/        many runs: planned, launched, watched
    training/     one run: start reading in run.py
    regularizer/  optimizer/  model/  dataset/  the four axes, each with its choices in conf/<axis>/
    record/       what is on disk: runs, and the tables of experiments
    evidence/     what is real: arms against their baseline, and how sure that is
    measure/      what a number is: metrics of logits, their columns
    config/       from words to typed values, and the identity that they make
    machine/      where it runs: cores, GPUs, memory
    disk/  console/  rng.py  errors.py  version.py  what all of them stand on
"""

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config import AXES as AXES
from bench.config import CONF as CONF
from bench.errors import UsageError as UsageError
from bench.version import __version__ as __version__

if TYPE_CHECKING:
    import pandas

# Without it cuBLAS gives other sums each time. It reads it once in a process, at its first call: so it is set before
# any run is there to ask for determinism.
if "CUBLAS_WORKSPACE_CONFIG" not in os.environ:
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        warnings.warn(
            "bench was imported after CUDA was used: train.deterministic may not hold in this process. "
            "Import it first, or set CUBLAS_WORKSPACE_CONFIG=:4096:8.",
            stacklevel=2,
        )


def results(exp: str, results_dir: str | Path | None = None) -> "pandas.DataFrame":
    """An experiment's runs, a row each, with the columns of its runs.csv.

    Numbers are numbers, NaN where a run has none; ids, words and messages are text. It reads runs.csv as it stands:
    `regbench report EXP` brings that up to date.

    Args:
        exp: as in results/<exp>.
        results_dir: the folder of results; by default REGBENCH_RESULTS, else `results` in the current folder.

    Raises:
        UsageError: there are no results of that experiment.
    """
    from bench.record.frame import results

    return results(exp, results_dir)
