"""`regbench report`: the tables, figures and the page of experiments, made anew from what is on record, and printed.

Results that may only be read are reported all the same: what could not be written is said in a line.
"""

import argparse
import errno
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.console.lines import Terminal, print_line
from bench.errors import UsageError
from bench.evidence.comparison import MAIN_METRICS
from bench.evidence.pairing import check_baseline, read_arms
from bench.record import tables
from bench.record.folder import run_folder
from bench.record.logits import has_damaged_logits
from bench.record.tables import Row
from bench.report import evidence, terminal
from bench.report.formats import FORMATS
from bench.report.layout import make_tables, parse_metrics
from bench.report.robust import make_robust

_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def report(options: argparse.Namespace) -> int:
    """Writes and prints it; returns the exit code.

    Raises:
        UsageError: there are no such results, metric or baseline, or the tables are damaged.
        OSError: the results cannot be read, or the disk is full.
    """
    metrics = options.metric or MAIN_METRICS
    parse_metrics([*metrics, *([options.sort] if options.sort != "name" else [])])
    layouts, of_exp, written = [], {}, True
    for exp in options.exp:
        _check_has_results(options.results_dir, exp)
        rows, settings, refused = _write_tables(options.results_dir, exp)
        check_baseline(read_arms(rows, settings), options.baseline)
        refused = refused or _write_evidence(options.results_dir, exp, rows)
        test_set = tables.read_csv(options.results_dir / exp / "test_set.csv")
        laid_out = make_tables(exp, rows, settings, metrics, options.baseline, options.sort, test_set)
        if options.robust:
            laid_out = [make_robust(layout, rows, settings, options.baseline) for layout in laid_out]
        layouts += laid_out
        of_exp[exp], written = rows, written and not refused
        page = f"Page: {options.results_dir / exp / 'report.html'}"
        if options.format == "table":
            console = Terminal()
            terminal.show_comparison(console, laid_out, rows)
            print_line(console, refused or page)
        elif refused:
            print(refused, file=sys.stderr)
        for line in _find_damage(options.results_dir, exp, rows):
            print(f"regbench: {line}", file=sys.stderr)
    if options.format == "table" and len(of_exp) > 1:
        from bench.report.figure.critical import show_across  # here because scipy.stats takes a second to import

        columns = [quantity.column for quantity in parse_metrics(metrics)]
        show_across(Terminal(), options.results_dir, of_exp, columns, written)
    if options.format != "table":
        print(FORMATS[options.format](layouts), end="")
    return 0


def _write_tables(results: Path, exp: str) -> tuple[Sequence[Row], Mapping[str, Any], str]:
    """The rows of runs.csv, every setting of each arm, and what was not written, if anything."""
    try:
        return tables.write_tables(results, exp), tables.read_settings(results, exp), ""
    except OSError as error:
        refused = _explain(error, results / exp, "tables, figures and report.html")
    rows, settings, _ = tables.collect(results, exp)
    return rows, settings, refused


def _write_evidence(results: Path, exp: str, rows: Sequence[Row]) -> str:
    """What was not written, if anything."""
    try:
        evidence.write_evidence(results, exp, rows)
    except OSError as error:
        return _explain(error, results / exp, "figures and report.html")
    return ""


def _find_damage(results: Path, exp: str, rows: Sequence[Row]) -> Iterator[str]:
    """A line for each run whose damaged logits keep its arm out of what is made of them."""
    made = {row["arm_id"] for row in tables.read_csv(results / exp / "reliability.csv")}
    for row in rows:
        identifier, lacks = row["run_id"], row["status"] == "done" and row["arm_id"] not in made
        if lacks and has_damaged_logits(run_folder(results, identifier)):
            yield (
                f"the logits of run {identifier} are damaged, and what is made of logits lacks its arm. "
                f"`regbench results --run {identifier} --delete`, and the command that asked for it trains it anew."
            )


def _explain(error: OSError, folder: Path, what: str) -> str:
    """A line on what was not written; raises the error where that is not for want of permission."""
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
