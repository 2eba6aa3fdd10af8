"""regbench: fair comparisons of regularizers for image classifiers.

The map, from the command to the table:
    cli.py      `regbench <command>`            app.py       Hydra: a command line -> plain typed runs
    plan.py     the runs of a command, checked  run.py       one run, top to bottom: start reading here
    train.py    the training step and epochs    evaluate.py  logits of a split and their metrics
    record.py   a run's identity and its files  report/      CSV tables and what the terminal shows
    rng.py      named random streams            ranges.py    which values are allowed
    plugins.py  a user's own folder             pictures.py  a user's image files -> pixels
    settings.py a run's settings, checked       memory.py    what a run takes of it
    sweep.py    trains what is missing          worker.py    what a process that trains does
    launcher.py where runs are trained          watch.py     tells of records while a sweep goes on
    lock.py     one process at a time           checkpoint.py, interrupt.py  stopping and going on
    forecast.py what a command would do         merge.py, results.py  bringing in and removing records
    doctor.py   what this machine offers        completion.py what the shell offers on TAB
    speed.py    times the training loop         contestants.py what it is compared with
    metric.py, schedule.py, stats.py, escape.py pure functions
The four axes are packages: dataset/, model/, regularizer/ and optimizer/, each with its choices in conf/<axis>/.
"""

from pathlib import Path

__version__ = "0.1.0"

AXES = ("dataset", "model", "regularizer", "optimizer")
_HERE = Path(__file__).parent
# Inside the package where it is installed from a wheel, beside it in a checkout.
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"


class UsageError(Exception):
    """Bad input, told in at most three lines: what was wrong, what is allowed, how to mend it. Exit code 2."""
