"""`regbench report`: the tables, figures and the page of experiments, made anew from what is on record, and printed.

Tables are printed as soon as they are there; figures and pages, which take longer, follow. Results that may only be
read are reported all the same: what could not be written is said in a line.
"""

import argparse
import errno
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.console.lines import Terminal, live_line, print_line
from bench.errors import UsageError
from bench.evidence.comparison import MAIN_METRICS
from bench.evidence.pairing import check_baseline
from bench.record import tables
from bench.record.corruptions import write_corruptions
from bench.record.experiment import Experiment, name_results
from bench.record.folder import run_folder
from bench.record.logit_tables import write_logit_tables
from bench.record.logits import has_damaged_logits
from bench.report import terminal
from bench.report.formats import FORMATS
from bench.report.layout import Layout, make_tables, parse_metrics
from bench.report.robust import make_robust
from bench.status import Status

_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class _Report:
    """An experiment, its printed tables, and what was not written of its files, if anything."""

    experiment: Experiment
    layouts: Sequence[Layout]
    refused: str


def report(options: argparse.Namespace) -> int:
    """Writes and prints it; returns the exit code.

    Raises:
        UsageError: there are no such results, metric or baseline, or the tables are damaged.
        OSError: the results cannot be read, or the disk is full.
    """
    metrics = options.metric or MAIN_METRICS
    parse_metrics([*metrics, *([options.sort] if options.sort != "name" else [])])
    reports = [_make(exp, metrics, options) for exp in dict.fromkeys(options.exp)]
    console = Terminal()
    if options.format == "table":
        _show(console, reports, metrics, options.results_dir)
    else:
        layouts = [layout for each in reports for layout in each.layouts]
        print(FORMATS[options.format](layouts), end="", flush=True)
    for each in reports:
        refused = each.refused or _write_evidence(console, each.experiment)
        if options.format == "table":
            print_line(console, refused or f"Page: {each.experiment.folder / 'report.html'}")
        elif refused:
            print(refused, file=sys.stderr)
        for line in _find_damage(each.experiment):
            print(f"regbench: {line}", file=sys.stderr)
    return 0


def _make(exp: str, metrics: Sequence[str], options: argparse.Namespace) -> _Report:
    _check_has_results(options.results_dir, exp)
    experiment, refused = _write_tables(options.results_dir, exp)
    check_baseline(experiment.arms, options.baseline)
    refused = refused or _write_logit_tables(experiment)
    layouts = make_tables(experiment, metrics, options.baseline, options.sort, experiment.read("test_set"))
    if options.robust:
        layouts = [make_robust(layout, experiment.arms, options.baseline) for layout in layouts]
    return _Report(experiment, layouts, refused)


def _show(console: Terminal, reports: Sequence[_Report], metrics: Sequence[str], results: Path) -> None:
    for each in reports:
        terminal.show_comparison(console, each.layouts, each.experiment.rows)
    if len(reports) > 1:
        from bench.report.figure.critical import show_across  # here because scipy.stats takes a second to import

        columns = [quantity.column for quantity in parse_metrics(metrics)]
        written = not any(each.refused for each in reports)
        rows = {each.experiment.name: each.experiment.rows for each in reports}
        show_across(console, results, rows, columns, written)


def _write_tables(results: Path, exp: str) -> tuple[Experiment, str]:
    """The experiment, and what was not written of its tables, if anything."""
    try:
        tables.write_tables(results, exp)
        return Experiment.load(results, exp), ""
    except OSError as error:
        refused = _explain(error, results / exp, "tables, figures and report.html")
    rows, settings, _ = tables.collect(results, exp)
    return Experiment(exp, results, rows, settings), refused


def _write_logit_tables(experiment: Experiment) -> str:
    """What was not written, if anything."""
    try:
        write_logit_tables(experiment)
        write_corruptions(experiment)
    except OSError as error:
        return _explain(error, experiment.folder, "figures and report.html")
    return ""


def _write_evidence(console: Terminal, experiment: Experiment) -> str:
    """What was not written, if anything."""
    from bench.report import evidence  # here because Matplotlib takes half a second to import

    try:
        with live_line(console) as show:
            evidence.write_evidence(experiment, show)
    except OSError as error:
        return _explain(error, experiment.folder, "figures and report.html")
    return ""


def _find_damage(experiment: Experiment) -> Iterator[str]:
    """A line for each run whose damaged logits keep its arm out of what is made of them."""
    made = {row["arm_id"] for row in experiment.read("reliability")}
    for row in experiment.rows:
        identifier, lacks = row["run_id"], row["status"] == Status.DONE and row["arm_id"] not in made
        if lacks and has_damaged_logits(run_folder(experiment.results, identifier)):
            delete = f"regbench results --run {identifier} --delete{name_results(experiment.results)}"
            yield (
                f"the logits of run {identifier} are damaged, and what is made of logits lacks its arm. "
                f"`{delete}`, and the command that asked for it trains it anew."
            )


def _explain(error: OSError, folder: Path, what: str) -> str:
    """A line on what was not written; raises the error where the reason is not a missing permission."""
    if error.errno not in _REFUSED:
        raise error
    return f"Not written to {folder} ({error.strerror}): {what}; what stands there may be older than what is above."


def _check_has_results(results: Path, exp: str) -> None:
    known = tables.experiments(results)
    if exp not in known:
        raise UsageError(
            f"there are no results of {exp} in {results}.\n"
            f"There are those of: {', '.join(known) or 'nothing yet'}. Train them: regbench run exp={exp}"
        )
