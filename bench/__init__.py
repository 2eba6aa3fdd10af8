"""regbench: fair comparisons of regularizers for image classifiers.

The map, from what is typed down to what is written; imports go down only (pyproject.toml, [tool.importlinter]):
    interface.py  the same things from Python: run, results, load_model, make_model, below
    cli/          `regbench <command>`, a command per file
    report/       what is shown: the terminal's tables, figure/, the page
    speed/        how fast a step is, beside a plain script's
    sweep/        many runs: planned, launched, watched
    training/     one run: start reading in run.py
    probe/        what needs the model itself: sharpness, robustness
    regularizer/  optimizer/  model/  dataset/  the four axes, each with its choices in conf/<axis>/
    record/       what is on disk: runs, and the tables of experiments
    evidence/     what is real: arms against their baseline, and how sure that is
    measure/      what a number is: metrics of logits, their columns
    config/       from words to typed values, and the identity that they make
    machine/      where it runs: cores, GPUs, memory
    disk/  console/  rng.py  errors.py  status.py  version.py  what all of them stand on
"""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import AXES as AXES
from bench.config import CONF as CONF
from bench.errors import UsageError as UsageError
from bench.version import __version__ as __version__

if TYPE_CHECKING:
    import pandas
    from torch import nn

    from bench.record.experiment import Experiment
    from bench.training.trained import TrainedModel

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


def run(*overrides: str | Sequence[str], config_dir: str | Path | None = None, **settings: object) -> "Experiment":
    """`regbench run`: trains what is missing of the runs that the overrides ask for, and returns their experiment.

    It prints what the command prints. The caller's random generators, threads, signal handlers and loggers are
    afterwards as they were.

    Args:
        overrides: as typed after `regbench run`, one text each, or lists of such.
        config_dir: a folder of your own datasets, models, regularizers, optimizers and experiments.
        settings: more overrides: seed="0,1" is "seed=0,1"; True, False and None are true, false and null.

    Raises:
        UsageError: bad input, in the command's words; nothing was trained.
        KeyboardInterrupt: what is finished is kept, and the same call does the rest.
    """
    from bench.interface import run

    return run(overrides, settings, config_dir)


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
    from bench.record.frame import read_frame

    return read_frame(_find_results(results_dir) / exp / "runs.csv")


def load_model(run_id: str, results_dir: str | Path | None = None) -> "TrainedModel":
    """A run's trained model in evaluation mode, on the CPU: uint8 images (N, H, W, C) in, probabilities (N, K) out.

    Args:
        run_id: as in runs.csv; of a run with kept weights (keep_weights=true).
        results_dir: the folder of results; by default REGBENCH_RESULTS, else `results` in the current folder.

    Raises:
        UsageError: there is no such run, or its weights were not kept.
    """
    from bench.training.trained import load_model

    return load_model(run_id, _find_results(results_dir))


def make_model(name: str, channels: int, classes: int, **values: Any) -> "nn.Module":
    """A model with fresh weights, from normalised images (N, C, H, W) to logits (N, K).

    Args:
        name: one of `regbench list model`.
        channels: C.
        classes: K.
        values: in place of those of its file, such as width=16.

    Raises:
        UsageError: there is no such model, or it has no such value.
    """
    from bench.model import make_model

    return make_model(name, channels, classes, **values)


def _find_results(folder: str | Path | None) -> Path:
    return Path(folder or os.environ.get("REGBENCH_RESULTS") or "results")
