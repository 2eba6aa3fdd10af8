"""regbench: fair comparisons of regularizers for image classifiers.

The map, from the command to the table:
    cli.py      `regbench <command>`            app.py       Hydra: a command line -> plain typed runs
    overrides.py, yaml_text.py, hydra_errors.py  what is typed and written, for Hydra; its errors, for users
    plan.py     the runs of a command, checked  run.py       one run, top to bottom: start reading here
    train.py    the training step and epochs    evaluate.py  logits of a split and their metrics
    record.py   a run's identity and its files  report/      CSV tables, the terminal, figures and the page
    rng.py      named random streams            ranges.py    which values are allowed
    plugins.py  a user's own folder             pictures.py  a user's image files -> pixels
    settings.py a run's settings, checked       decode.py    one of these files
    memory.py   what a run takes of it          device.py    which GPUs can be used, and whether one answers
    compile.py  torch.compile, for each run anew
    sweep.py    trains what is missing          worker.py    what a process that trains does
    launcher.py where runs are trained          watch.py     tells of records while a sweep goes on
    fail_fast.py  tells all of a sweep's processes that a run has failed
    lock.py     one process at a time           cores.py    how many there are to use
    files.py    whole or not at all; CSV        home.py     for users who have none
    gone.py     what others replace or remove
    streams.py  output that nothing ends        ending.py   a command's exit code and last words
    checkpoint.py, interrupt.py  stopping and going on
    forecast.py what a command would do         unused.py    overrides that no run uses
    merge.py, inventory.py  bringing in and removing records
    data_record.py  what a dataset holds, and which of its images are equal
    doctor.py   what this machine offers        completion.py what the shell offers on TAB
    speed.py    times the training loop         contestants.py what it is compared with
    fit.py      whether a run's parts fit       buffers.py  a model's running state
    metric.py, temperature.py, quantities.py  what is measured, and scores.py, of a finished run
    confusion.py  what each class is taken for
    stats.py, pairing.py, comparison.py, margins.py, resample.py, robust.py
                                          arms against their baseline, and how sure that is
    tracker.py  curves for TensorBoard          schedule.py, escape.py  pure functions
The four axes are packages: dataset/, model/, regularizer/ and optimizer/, each with its choices in conf/<axis>/.
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
