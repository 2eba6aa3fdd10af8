"""Draws an experiment's figures from its table: python scripts/draw_figures.py EXP [FOLDER]

A starting point for figures and statistics of your own: `bench.results` gives the runs as a pandas DataFrame.
"""

import sys
from pathlib import Path

import bench
from bench.comparison import compare, read_arms
from bench.report import tables
from bench.report.figures import Tables, write_figures


def draw(exp: str, folder: Path, results: Path = Path("results")) -> list[str]:
    """Writes the figures into `folder` and returns their names; leave runs out here to draw the others alone."""
    runs = bench.results(exp, results)
    rows = runs.astype(object).where(runs.notna(), "").astype(str).to_dict("records")
    settings = tables.read_arms(results, exp)
    comparison = [{key: tables.cell(value) for key, value in row.items()} for row in compare(read_arms(rows, settings))]
    history, reliability = (tables.read_csv(results / exp / f"{name}.csv") for name in ("history", "reliability"))
    return write_figures(folder, Tables(rows, comparison, history, reliability))


if __name__ == "__main__":
    exp = sys.argv[1]
    print(*draw(exp, Path(sys.argv[2] if len(sys.argv) > 2 else f"figures-{exp}")), sep="\n")
