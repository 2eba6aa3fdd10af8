"""The numbers on the page, read back from its HTML."""

import shutil
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench.cli import main
from bench.evidence.comparison import MAIN_METRICS, interactions
from bench.evidence.pairing import read_arms
from bench.measure import QUALITIES
from bench.record import tables

RESULTS = Path(__file__).parent / "tables"


class Tables(HTMLParser):
    """The rows of a page's tables, cells by their column's title, under the last heading before each."""

    def __init__(self, text):
        super().__init__()
        self.found, self.heading, self.cell = defaultdict(list), "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.cell = tag if tag == "h2" else dict(attributes).get("data-title") if tag == "td" else None
        if tag == "tr":
            self.found[self.heading].append({})

    def handle_endtag(self, tag):
        self.cell = None

    def handle_data(self, text):
        if self.cell == "h2":
            self.heading = text
        elif self.cell is not None:
            self.found[self.heading][-1][self.cell] = text


def shows(text, number):
    """Whether the text is the number, rounded to as many digits as it has."""
    return abs(float(text) - number) <= 0.51 * 10.0 ** -len(text.partition(".")[2])


def assert_shows(cells, row, column, over_images=None):
    """That a row of the page shows a row of `compare`, and the other interval."""
    factor = QUALITIES[row["metric"]].factor
    told = {"95 % over seeds": row, "95 % over test images": over_images}
    assert shows(cells[column].strip("▲▼△▽≠"), factor * float(row["difference"]))
    for title, interval in told.items():
        if interval:
            ends = zip(cells[title].split(" to "), ("low", "high"), strict=True)
            assert all(shows(text, factor * float(interval[end])) for text, end in ends)
    assert cells["seeds"] == str(row["seeds"])
    for title, key in (("p", "p"), ("p (Holm)", "p_holm")):
        if title in cells:
            p = float(row[key])
            assert cells[title] == "< 0.0001" if p < 0.0001 else float(cells[title]) == pytest.approx(p, rel=0.06)


def test_the_page_shows_the_numbers_of_the_tables(tmp_path):
    """Differences, both of their intervals, p, and stacks, of the committed Fashion-MNIST experiment."""
    shutil.copytree(RESULTS / "fashion", tmp_path / "fashion")
    with pytest.raises(SystemExit):
        main(["report", "fashion", "--results-dir", str(tmp_path)])
    headings = ("Differences to the baseline", "Against SGD", "Stacks")
    found = Tables((tmp_path / "fashion" / "report.html").read_text()).found
    shown = {
        (heading, cells["regularizer"], cells["optimizer"], cells["metric"]): cells
        for heading in headings
        for cells in filter(None, found[heading])
    }
    rows, compared, over_images = (
        tables.read_csv(tmp_path / "fashion" / f"{name}.csv") for name in ("runs", "comparison", "test_set")
    )
    intervals = {(row["arm_id"], row["baseline"], row["metric"]): row for row in over_images}
    optimizers = {row["arm_id"]: row["optimizer"] for row in rows}

    def take(heading, row):
        return shown.pop((heading, row["regularizer"], row["optimizer"], QUALITIES[row["metric"]].title))

    for row in compared:
        if row["metric"] in MAIN_METRICS:
            heading = headings[optimizers[row["baseline"]] != row["optimizer"]]
            interval = intervals[row["arm_id"], row["baseline"], row["metric"]]
            assert_shows(take(heading, row), row, "difference", interval)
    stacks = [each.to_row() for each in interactions(read_arms(rows, tables.read_settings(tmp_path, "fashion")))]
    assert stacks
    for row in stacks:
        if row["metric"] in MAIN_METRICS:
            assert_shows(take("Stacks", row), row, "interaction")
    assert not shown  # the page has no row beside these
