"""Figures of many arms: no two of them look alike, and no name is cut short."""

import re
from itertools import combinations

import pytest
from drawing import HISTORY, assert_readable, clone, draw, make_reliability, pick, tables, texts, unfinished
from matplotlib.colors import to_hex

from bench.report.figure.arms import ACCURACY, gather_arms, group_by
from bench.report.figure.curves import draw_curves
from bench.report.figure.figures import draw_figures, to_svg
from bench.report.figure.forest import draw_metric
from bench.report.figure.reliability import draw_reliability
from bench.report.figure.style import house_style
from bench.report.figure.tradeoffs import draw_calibration, draw_cost

PARTS = ["mixup", "cutmix", "dropout", "label_smoothing", "sam"]
STACKS = ["+".join(stack) for size in (2, 3) for stack in combinations(PARTS, size)]
SGD = [run for run in pick("sam", seeds="0") if run["optimizer"] == "sgd"]
MANY = {
    "one method's settings": [run for i in range(14) for run in clone(SGD, settings=f"regularizer.sam.rho={i}")],
    "stacks": [run for stack in STACKS for run in clone(SGD, regularizer=stack)],
    "own methods": [run for i in range(9) for run in clone(SGD, regularizer=f"method_{i}")],
    "three optimizers": [run for name in ("rmsprop", "lion") for run in clone(SGD, optimizer=name)],
    "learning rates": [
        run | {"settings": f"optimizer.{run['optimizer']}.lr={rate}{len(run['optimizer'])}"}
        for rate in (0.1, 0.2)
        for run in clone(pick("none", "sam", "mixup", seeds="0"), settings=str(rate))
    ],
    "long settings": [
        run
        for i in range(3)
        for run in clone(SGD, settings=" ".join(f"model.long_key_{k}=value" for k in range(9)) + f" model.z={i}")
    ],
}


def make_figure(many, name):
    """The runs, and a figure of them."""
    runs = [*pick("none", "sam", seeds="0"), *MANY[many]]
    arms = gather_arms(runs)
    with house_style():
        if name == "curves":
            of_run = group_by(HISTORY, lambda line: line["run_id"])
            history = [line | {"run_id": run["run_id"]} for run in runs for line in of_run[run["run_id"][:12]]]
            return runs, draw_curves(arms, history, "convnet on digits")
        if name == "reliability":
            return runs, draw_reliability(arms, make_reliability(runs), "convnet on digits")
        if name == "test_accuracy":
            return runs, draw_metric(arms, ACCURACY, "convnet on digits")
        return runs, {"cost": draw_cost, "calibration": draw_calibration}[name](arms, "convnet on digits")


def look(line):
    face = line.get_markerfacecolor()
    dashes = str(getattr(line, "_unscaled_dash_pattern", line.get_linestyle()))
    return to_hex(line.get_color()), str(line.get_marker()), face == "none", dashes


def legends(figure):
    return [
        legend
        for each in (figure, *figure.axes)
        for legend in [*getattr(each, "legends", []), getattr(each, "legend_", None)]
        if legend
    ]


@pytest.mark.parametrize("many", MANY)
def test_no_two_curves_of_a_panel_look_alike_and_legends_name_each(many):
    runs, figure = make_figure(many, "curves")
    for axes in figure.axes:
        looks = [look(line) for line in axes.lines]
        assert len(looks) == len(set(looks))
    arms = {run["arm_id"] for run in runs}
    assert sum(len(axes.lines) for axes in figure.axes) == 3 * len(arms)
    for legend in legends(figure):
        entries = [
            (look(line), text.get_text()) for line, text in zip(legend.get_lines(), legend.get_texts(), strict=True)
        ]
        assert len({style for style, _ in entries}) == len({label for _, label in entries}) == len(entries)
        shown = {look(line) for axes in figure.axes if legend in (axes.legend_, *figure.legends) for line in axes.lines}
        assert shown <= {style for style, _ in entries}
    assert_readable(figure)


@pytest.mark.parametrize("many", MANY)
@pytest.mark.parametrize("name", ["cost", "calibration"])
def test_points_that_look_alike_each_have_a_letter(many, name):
    runs, figure = make_figure(many, name)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    looks = [look(line) for line in legend.get_lines()]
    assert len(labels) == len(set(labels)) == len({run["arm_id"] for run in runs})
    letters = [label.rpartition("(")[2].strip(")") for label in labels if label.endswith(")")]
    assert len(letters) == len(set(letters))
    for label, each in zip(labels, looks, strict=True):
        assert looks.count(each) == 1 or label.endswith(")"), label
    for axes in figure.axes:
        assert sorted(text.get_text() for text in axes.texts) == sorted(letters)


@pytest.mark.parametrize(
    ("many", "name"),
    [("stacks", "test_accuracy"), ("stacks", "cost"), ("long settings", "cost"), ("long settings", "reliability")],
)
def test_names_are_not_cut_and_break_after_a_plus_alone(many, name):
    runs, figure = make_figure(many, name)
    words = [" ".join(text.split()).replace("+ ", "+") for text, _ in texts(figure)]
    for run in runs:
        assert any(f"{run['regularizer']} · {run['optimizer']}" in each for each in words), run["regularizer"]
    assert not any("…" in each for each in words)
    assert_readable(figure)


def test_figures_say_which_arm_is_where():
    runs = pick("none", "mixup", "sam")
    arms, sgd = {run["arm_id"] for run in runs}, {run["optimizer"]: run["arm_id"] for run in pick("none")}["sgd"]
    for name, figure in draw_figures(tables(runs)):
        told = " ".join(re.findall(r'data-arm="([^"]*)"', to_svg(name, figure).decode()))
        assert {arm for arm in arms if arm in told} == (arms - {sgd} if name.endswith("differences") else arms), name


def test_an_arm_without_finished_runs_takes_no_style():
    figure = draw([*pick("none"), *unfinished(clone(pick("sam"), settings="regularizer.sam.rho=1"))], "curves")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["none"]
