"""results/<exp>/report.html, in a real browser where there is one."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import needs_browser, write

from bench.cli import main
from bench.config.identity import digest
from bench.config.plugins import use_folder
from bench.record import tables
from bench.record.columns import METRIC_COLUMNS, RUN_COLUMNS
from bench.report.page import _find_papers

RESULTS = Path(__file__).parent / "tables"
FORET = "https://arxiv.org/abs/2010.01412"
MINE = (
    "# @package regularizer.mine\n# mine\n# source: I 2026, My Method\nslot: setting\nsets: model.dropout\nvalue: 0.1\n"
)


def test_the_page_loads_nothing_and_names_loads_of_nothing_but_papers(page):
    found = []

    class Loads(HTMLParser):
        def handle_starttag(self, tag, attributes):
            for key, value in attributes:
                if key in ("src", "srcset", "data", "action") or (tag == "link" and key == "href"):
                    found.append(value)

    text = page.read_text()
    Loads().feed(text)
    assert found == []
    assert not re.search(r"@import|url\((?!#)|fetch\(|<iframe|<object", text)
    links = re.findall(r'<a href="([^"]+)"', text)
    assert links
    assert all(link.startswith(("https://arxiv.org/", "#")) for link in links)


def test_the_page_names_the_papers_of_the_methods_in_its_tables_and_no_others(page, tmp_path):
    text = page.read_text()
    for paper in ("Foret et al. 2021", "Kingma &amp; Ba 2015", "Krogh &amp; Hertz 1991", "Sutskever et al. 2013"):
        assert text.count(f"{paper}, ") == 1
    assert "Loshchilov" not in text
    use_folder(write(tmp_path, {"regularizer/mine.yaml": MINE}))
    assert _find_papers([{"regularizer": "sam+mine", "optimizer": "adamw"}]) == [
        ("Foret et al. 2021, Sharpness-Aware Minimization for Efficiently Improving Generalization", FORET),
        ("I 2026, My Method", ""),
        ("Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization", "https://arxiv.org/abs/1711.05101"),
    ]


def test_the_page_tells_runs_protocol_versions_and_command(page):
    text = page.read_text()
    rows = tables.read_csv(page.parent / "runs.csv")
    assert all(row["run_id"] in text for row in rows)
    assert "regbench run +exp=digits" in text
    assert rows[0]["hardware"] in text
    assert rows[0]["torch"] in text
    assert "99 done, 1 failed" in " ".join(text.split())
    assert "4 (1 failed)" in text
    assert "<script>alert(1)" not in text
    assert not re.search(r"[0-9a-f]{32}", text)  # of a hash 8 digits
    assert "&lt;script&gt;alert(1)" in text
    for name in ("test_accuracy", "test_nll_differences", "curves", "cost", "calibration"):
        assert f'<figure id="{name}"' in text
        assert (page.parent / "figures" / f"{name}.svg").is_file()
        assert (page.parent / "figures" / f"{name}.png").is_file()


def test_ids_on_the_page_are_there_once(page):
    ids = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_500_runs_keep_the_page_under_5_mb(page, tmp_path):
    shutil.copytree(page.parent, tmp_path / "digits")
    rows = tables.read_csv(page.parent / "runs.csv")
    history = tables.read_csv(page.parent / "history.csv")
    arms = tables.read_settings(page.parent.parent, "digits")
    more, lines = [], []
    for copy in range(5):
        seeds = {row["run_id"]: 5 * copy + int(row["seed"]) for row in rows}
        ids = {row["run_id"]: digest(arms[row["arm_id"]] | {"seed": seeds[row["run_id"]]}) for row in rows}
        more += [row | {"run_id": ids[row["run_id"]], "seed": str(seeds[row["run_id"]])} for row in rows]
        lines += [line | {"run_id": ids[line["run_id"]]} for line in history]
    (tmp_path / "digits" / "runs.csv").write_text(tables.to_csv(RUN_COLUMNS, more))
    (tmp_path / "digits" / "history.csv").write_text(tables.to_csv(tables.HISTORY_COLUMNS, lines))
    with pytest.raises(SystemExit):
        main(["report", "digits", "--results-dir", str(tmp_path)])
    assert (tmp_path / "digits" / "report.html").read_text().count('data-title="run"') == 500
    assert (tmp_path / "digits" / "report.html").stat().st_size < 5e6


# What is wider than the window or its own box, and which of the boxes that hold text lie on one another.
OVERFLOWS = """() => {
  const wide = [];
  if (document.documentElement.scrollWidth > innerWidth) wide.push("page");
  for (const box of document.querySelectorAll("body *:not(svg *)")) {
    const {left, right, width} = box.getBoundingClientRect();
    if (width && (right > innerWidth + 1 || left < -1)) wide.push(box.tagName + " " + box.textContent.slice(0, 30));
    if (box.matches(".table") && box.scrollWidth > box.clientWidth) wide.push("table scrolls");
  }
  return wide;
}"""
_OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll("h1, h2, h3, p, li, pre, dt, dd, td, th, figure, summary")]
    .filter(box => box.checkVisibility()).map(box => [box, box.getBoundingClientRect()])
    .filter(([, r]) => r.width && r.height);
  const found = [];
  for (const [i, [a, r]] of boxes.entries())
    for (const [b, s] of boxes.slice(i + 1, i + 60))
      if (!a.contains(b) && r.left < s.right - 1 && s.left < r.right - 1
          && r.top < s.bottom - 1 && s.top < r.bottom - 1)
        found.push(a.textContent.slice(0, 20) + " | " + b.textContent.slice(0, 20));
  return found;
}"""
_TEXT_OVERLAPS = """() => {
  const found = [];
  for (const svg of document.querySelectorAll("figure svg")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(t => [t, t.getBoundingClientRect()]).filter(([, r]) => r.width);
    for (const [i, [a, r]] of texts.entries()) {
      if (r.left < frame.left - 1 || r.right > frame.right + 1) found.push("cut off: " + a.textContent);
      for (const [b, s] of texts.slice(i + 1))
        if (r.left < s.right - 1 && s.left < r.right - 1 && r.top < s.bottom - 2 && s.top < r.bottom - 2)
          found.push(svg.parentNode.id + ": " + a.textContent + " | " + b.textContent);
    }
  }
  return found;
}"""


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 900, 1280, 1800])
def test_nothing_overlaps_or_scrolls_sideways(width, scheme, open_page):
    tab = open_page(width, scheme)
    assert tab.evaluate(OVERFLOWS) == []
    assert tab.evaluate(_OVERLAPS) == []


@needs_browser
def test_no_text_of_a_figure_overlaps_another_or_is_cut_off(open_page):
    assert open_page(1600).evaluate(_TEXT_OVERLAPS) == []


@needs_browser
def test_ink_and_paper_are_apart_in_light_and_dark(open_page):
    for scheme, paper in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(22, 24, 29)")):
        tab = open_page(1600, scheme)
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        ink = tab.evaluate("getComputedStyle(document.body).color")
        text = tab.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
        assert text == ink != paper


@needs_browser
@pytest.mark.parametrize("width", [400, 1600])
def test_columns_sort_both_ways_with_missing_numbers_last(width, open_page):
    tab = open_page(width)
    column = "[...document.querySelectorAll('table')].at(-1)"
    titles = tab.evaluate(f"[...{column}.tHead.rows[0].cells].map(th => th.textContent)")
    index = titles.index("accuracy %")
    button = tab.locator("table").last.locator("thead button", has_text="accuracy %")

    def values():
        return tab.evaluate(f"[...{column}.tBodies[0].rows].map(row => row.cells[{index}].textContent)")

    before = values()
    button.click()
    up = values()
    assert up[:-1] == sorted(up[:-1], key=float)
    assert up[-1] == ""  # of the run that failed
    assert sorted(up) == sorted(before)
    button.click()
    assert values()[:-1] == sorted(up[:-1], key=float, reverse=True)
    assert values()[-1] == ""
    words = tab.locator("table").first.locator("thead button", has_text="regularizer")
    words.focus()
    tab.keyboard.press("Enter")
    first = tab.evaluate("[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[0].textContent)")
    assert first == sorted(first)


def keep(*kept, **changed):
    """A change of the rows: those of these regularizers and optimizers alone, with other values."""
    return lambda rows: [row | changed for row in rows if {row["regularizer"], row["optimizer"]} <= set(kept)]


LONG = ("two models", "one seed")  # with nearly as many figures as the whole
ODD = {
    "one optimizer": keep("none", "sam", "sgd"),
    "no baseline": keep("sam", "mixup", "sgd", "adam"),
    "one run": lambda rows: rows[:1],
    "all failed": keep("none", "sam", "sgd", **dict.fromkeys(METRIC_COLUMNS, ""), status="failed"),
    "one seed": lambda rows: [row for row in rows if row["seed"] == "0"],
    "two models": lambda rows: [r | {"model": "timm/a<b" if r["optimizer"] == "sgd" else r["model"]} for r in rows],
}


@pytest.mark.parametrize("odd", [pytest.param(odd, marks=pytest.mark.slow) if odd in LONG else odd for odd in ODD])
def test_odd_experiments_have_a_page_too(odd, tmp_path, capsys):
    shutil.copytree(RESULTS / "digits", tmp_path / "digits")
    rows = ODD[odd](tables.read_csv(RESULTS / "digits" / "runs.csv"))
    (tmp_path / "digits" / "runs.csv").write_text(tables.to_csv(RUN_COLUMNS, rows))
    with pytest.raises(SystemExit) as exit_:
        main(["report", "digits", "--results-dir", str(tmp_path)])
    assert exit_.value.code == 0
    text = (tmp_path / "digits" / "report.html").read_text()
    assert all(row["run_id"] in text for row in rows)
    assert "a<b" not in text
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Page: ")]
    assert max(map(len, lines)) <= 80
