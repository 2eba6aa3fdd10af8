"""The page's script in a real browser: tables sort, and the arm that is chosen is picked out everywhere."""

import pytest
from conftest import needs_browser
from test_page import OVERFLOWS

from bench.record import tables

pytestmark = needs_browser
WIDTHS = pytest.mark.parametrize("width", [400, 900, 1800])
_CHOSEN = """selector => [...new Set([...document.querySelectorAll(selector)].map(each => each.dataset.arm))]"""
_OPACITY = "element => getComputedStyle(element).opacity"


def find_arm(page, *words):
    rows = tables.read_csv(page.parent / "runs.csv")
    return next(row["arm_id"] for row in rows if (row["regularizer"], row["optimizer"]) == words)


@WIDTHS
def test_an_arm_chosen_in_a_table_is_picked_out_in_every_figure_and_table(width, open_page, page):
    tab, arm = open_page(width), find_arm(page, "mixup", "adam")
    assert tab.evaluate(_CHOSEN, ".chosen") == []
    tab.locator(f"tr[data-arm='{arm}'] button").first.click()
    assert tab.evaluate(_CHOSEN, "tr.chosen, details.chosen") == [arm]
    assert all(arm in arms for arms in tab.evaluate(_CHOSEN, "svg .chosen"))
    figures = tab.locator("figure")
    assert figures.count() == 10
    for figure in figures.all():
        of_arm, others = figure.locator("svg .chosen"), figure.locator("svg [data-arm]:not(.chosen)")
        assert of_arm.first.evaluate(_OPACITY) == "1"
        assert float(others.first.evaluate(_OPACITY)) < 0.5
    for table in tab.locator(".table table:has(td)").all():
        words = table.inner_text()
        assert table.locator("tr.chosen").count() >= ("mixup" in words), words[:80]
    assert tab.locator("[role=status]").inner_text().startswith("mixup, adam")
    assert tab.evaluate(OVERFLOWS) == []
    tab.keyboard.press("Escape")
    assert tab.evaluate(_CHOSEN, ".chosen") == []
    assert not tab.locator("[role=status]").is_visible()


@WIDTHS
def test_a_label_or_a_legend_chooses_what_it_names_and_undoes_it(width, open_page, page):
    tab = open_page(width)
    tab.locator("#test_nll_differences svg g[data-arm] text", has_text="cutmix · adam").first.click()
    assert tab.evaluate(_CHOSEN, "tr.chosen") == [find_arm(page, "cutmix", "adam")]
    legend = tab.locator("#curves svg g[data-arm*=' '] text", has_text="sam").last  # with both optimizers
    legend.click()
    assert set(tab.evaluate(_CHOSEN, "tr.chosen")) == {find_arm(page, "sam", each) for each in ("adam", "sgd")}
    legend.click()
    assert tab.evaluate(_CHOSEN, ".chosen") == []


@WIDTHS
def test_a_choice_survives_sorting_and_the_keyboard_makes_one(width, open_page, page):
    tab, arm = open_page(width), find_arm(page, "asam", "adam")
    table = tab.locator("table").first
    table.locator(f"tr[data-arm='{arm}'] button").focus()
    tab.keyboard.press("Enter")
    table.locator("thead button", has_text="NLL").click()
    assert table.locator("thead th[aria-sort=ascending]").inner_text().startswith("NLL")
    assert tab.evaluate(_CHOSEN, "tr.chosen") == [arm]
    assert table.locator("button[aria-pressed=true]").inner_text() == "asam"
    tab.locator("[role=status] button").click()
    assert tab.evaluate(_CHOSEN, ".chosen") == []


def test_without_script_the_page_reads_the_same(browser, page):
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(page.as_uri())
        assert tab.locator("button").count() == 0
        assert tab.locator("tr[data-arm] td").first.inner_text() == "none"
