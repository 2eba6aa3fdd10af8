"""Draws an experiment's figures from its table: python scripts/draw_figures.py EXP [FOLDER]

A starting point for figures and statistics of your own: `bench.results` gives the runs as a pandas DataFrame.
"""

import argparse
import os
from pathlib import Path

import bench
from bench.evidence.comparison import compare
from bench.evidence.pairing import read_arms
from bench.record import tables
from bench.report.figure.figures import Tables, write_figures


def draw(exp: str, folder: Path, results: Path) -> list[str]:
    """Writes the figures into `folder` and returns their names; leave runs out here to draw the others alone."""
    runs = bench.results(exp, results)
    rows = runs.astype(object).where(runs.notna(), "").astype(str).to_dict("records")
    arms = read_arms(rows, tables.read_settings(results, exp))
    names = ("history", "reliability", "ensemble", "corruptions")
    others = (tables.read_csv(results / exp / f"{name}.csv") for name in names)
    return write_figures(folder, Tables(rows, compare(arms), *others))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exp", help="experiment, as in results/<exp>")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("figures"), help="now %(default)s")
    parser.add_argument("--results-dir", type=Path, default=os.environ.get("REGBENCH_RESULTS") or "results")
    options = parser.parse_args()
    try:
        print(*draw(options.exp, options.folder, options.results_dir), sep="\n")
    except bench.UsageError as error:
        parser.error(str(error))
