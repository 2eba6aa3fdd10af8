import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest
from drawing import (
    DIGITS,
    HISTORY,
    KNOWN,
    METRICS,
    RUNS,
    assert_readable,
    clone,
    draw,
    labels,
    make_comparison,
    make_reliability,
    pick,
    tables,
    texts,
    unfinished,
)

from bench.config import CONF
from bench.evidence.stats import t_interval
from bench.report.differences import signed
from bench.report.figure.figures import (
    NAMES,
    Tables,
    draw_figures,
    remove_others,
    to_png,
    to_svg,
    write_figures,
)
from bench.report.figure.style import INK, look_of


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return folder, write_figures(folder, tables(pick("none", "mixup", "sam")))


def test_all_figures_of_a_real_experiment_are_written_as_png_and_svg(written):
    folder, names = written
    assert names == NAMES
    assert {file.name for file in folder.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert all((folder / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)


def test_an_svg_is_without_background_holds_its_text_and_has_the_ink_alone(written):
    svg = (written[0] / "test_accuracy.svg").read_text()
    root = ET.fromstring(svg)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "mixup · sgd" in words
    styles = [element.get("style", "") for element in root.iter() if element.tag.endswith("text")]
    assert all(f"fill: {INK}" in style for style in styles)
    assert not any(colour in svg for colour in ("#ffffff", "#000000", "white", "black"))


def test_equal_tables_give_equal_bytes_whatever_matplotlibrc_says_and_leave_it_alone(written, tmp_path):
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}
        write_figures(tmp_path, tables(pick("none", "mixup", "sam")))
        assert {key: mpl.rcParams[key] for key in before} == before
    for file in written[0].iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_pictures_that_are_no_longer_made_are_removed_and_others_stay(tmp_path):
    for name in ("cost.png", "reliability.svg", "curves-digits-convnet.svg", "mine.png", "cost.txt", "README.md"):
        (tmp_path / name).touch()
    remove_others(tmp_path, write_figures(tmp_path, Tables(pick("none", seeds="0"))))
    names = {file.name for file in tmp_path.iterdir()}
    assert {"mine.png", "cost.txt", "README.md", "cost.png"} <= names
    assert not names & {"reliability.svg", "curves-digits-convnet.svg"}


def test_a_figure_is_left_out_where_its_tables_are_empty():
    names = [name for name, _ in draw_figures(Tables(pick("none", "sam")))]
    assert names == [*METRICS, "cost", "calibration"]
    assert not list(draw_figures(Tables([])))
    assert not list(draw_figures(Tables(unfinished(pick("none")))))


def test_looks_are_distinct_and_never_change():
    looks = {(look_of(name).colour, str(look_of(name).marker)) for name in KNOWN}
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == len(KNOWN)
    ours = [file.stem for file in (CONF / "regularizer").glob("*.yaml")]
    looks = {(look_of(name).colour, str(look_of(name).marker)) for name in ours}
    markers = {str(look_of(name).marker) for name in ours}
    assert len(looks) == len(markers) == len(ours) > len(KNOWN)
    assert (look_of("none").colour, look_of("none").marker) == (INK, "o")
    assert (look_of("sam").colour, look_of("sam").marker) == ("#0072b2", "P")
    assert (look_of("cutout").colour, look_of("cutout").marker) == ("#d36ba6", "h")
    assert (look_of("my_method").colour, look_of("my_method").marker) == ("#8b5cd6", "p")
    others = {(look_of(name).colour, str(look_of(name).marker)) for name in ("my_method", "augmix", "zoneout")}
    assert len(others) == 3
    assert not others & looks


def test_a_stack_has_the_colour_of_its_first_part_and_the_marker_of_its_last():
    assert look_of("mixup+dropout+sam").colour == look_of("mixup").colour
    assert look_of("mixup+dropout+sam").marker == look_of("sam").marker


@pytest.mark.parametrize("name", KNOWN[1:])
@pytest.mark.parametrize("background", ["#ffffff", "#16181d"])
def test_colours_show_on_white_and_on_near_black(name, background):
    light, dark = sorted((luminance(look_of(name).colour), luminance(background)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 2.6


def luminance(colour):
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in mpl.colors.to_rgb(colour)]
    return math.fsum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def test_arms_stand_in_groups_with_none_and_sgd_first():
    figure = draw(pick("none", "mixup", "sam"), "test_nll")
    words = [
        f"{regularizer} · {optimizer}" for regularizer in ("none", "mixup", "sam") for optimizer in ("sgd", "adam")
    ]
    assert labels(figure) == words


def test_the_mean_its_interval_and_each_seed_are_drawn_in_percent():
    runs = [run for run in pick("none") if run["optimizer"] == "sgd"]
    values = [100 * float(run["test_accuracy"]) for run in runs]
    seeds, interval, mean = draw(runs, "test_accuracy").axes[0].lines
    assert list(seeds.get_xdata()) == pytest.approx(values)
    assert list(interval.get_xdata()) == pytest.approx(t_interval(values))
    assert mean.get_xdata() == pytest.approx(sum(values) / 5)


def test_one_run_has_a_point_and_no_interval():
    figures = dict(draw_figures(tables(pick("none", seeds="0")[:1])))
    _, interval, mean = figures["test_accuracy"].axes[0].lines
    assert set(interval.get_xdata()) == set(mean.get_xdata())
    for figure in figures.values():
        assert_readable(figure)


def test_arms_with_unfinished_runs_say_so():
    runs = pick("none")
    runs += unfinished(pick("mixup", seeds="01")) + pick("mixup", seeds="234")
    runs += unfinished(pick("sam", seeds="0"), "failed") + unfinished(pick("sam", seeds="1234"))
    figure = draw(runs, "test_accuracy")
    assert "mixup · sgd (2 diverged)" in labels(figure)
    assert "sam · sgd (1 failed, 4 diverged)" in labels(figure)
    for figure in dict(draw_figures(tables(runs))).values():
        assert_readable(figure)


def test_differences_are_filled_where_they_are_significant_and_panels_tell_the_baseline():
    figure = draw(pick("none", "cutmix"), "test_accuracy_differences")
    against_none, against_sgd = figure.axes
    assert against_none.get_title(loc="left") == "against none with the same optimizer"
    assert against_sgd.get_title(loc="left") == "against sgd with the same regularizer"
    rows = [each for each in make_comparison(pick("none", "cutmix")) if each.metric == "test_accuracy"]
    lines = [line for axes in figure.axes for line in axes.lines if line.get_marker() in ("o", "v")]
    filled = [line.get_markerfacecolor() != "none" for line in lines]
    p = {each.key[:2]: each.p_holm for each in rows}
    arms = {(run["regularizer"], run["optimizer"]): run["arm_id"] for run in pick("none", "cutmix")}
    pairs = [(("cutmix", "sgd"), ("none", "sgd")), (("cutmix", "adam"), ("none", "adam"))]
    pairs += [(("none", "adam"), ("none", "sgd")), (("cutmix", "adam"), ("cutmix", "sgd"))]
    assert filled == [p[arms[arm], arms[baseline]] < 0.05 for arm, baseline in pairs]
    assert len(set(filled)) == 2  # of both kinds


def test_an_arm_that_is_far_from_all_others_becomes_an_arrowhead():
    runs = pick("none", "mixup", "sam")
    far = [run | {"test_accuracy": "0.1"} for run in pick("sam") if run["optimizer"] == "sgd"]
    runs += clone(far, settings="regularizer.sam.rho=9")
    figure = draw(runs, "test_accuracy")
    assert figure.axes[0].get_xlim()[0] > 90
    assert [line.get_marker() for line in figure.axes[0].lines].count("<") == 1
    assert any("off the scale" in words for words, _ in texts(figure))
    assert any("not shown: sam · sgd, rho=9" in " ".join(words.split()) for words, _ in texts(draw(runs, "cost")))


def test_huge_numbers_are_short():
    runs = pick("none") + [run | {"test_nll": str(1e19 * float(run["test_nll"]))} for run in pick("sam")]
    for name in ("test_nll", "test_nll_differences"):
        figure = draw(runs, name)
        assert not any(re.search(r"\d{9}", words) for words, _ in texts(figure))
        assert_readable(figure)
    assert signed("test_nll", 4.3194775814286819e19, (-5e20, 6e20)) == ("+4.3e+19", "-5.0e+20 to +6.0e+20")


def test_curves_have_a_column_per_optimizer_and_no_row_without_numbers():
    runs = pick("none", "sam")
    assert len(draw(runs, "curves").axes) == 6
    history = [row | {"val_accuracy": "", "val_nll": ""} for row in HISTORY]
    assert len(dict(draw_figures(Tables(runs, history=history)))["curves"].axes) == 2


def test_curves_are_means_of_the_finished_seeds():
    runs = [run for run in pick("none") if run["optimizer"] == "sgd"]
    figure = draw([*runs[:3], *unfinished(runs[3:])], "curves")
    ids = {run["run_id"] for run in runs[:3]}
    last = [float(row["train_loss"]) for row in HISTORY if row["run_id"] in ids and row["epoch"] == "40"]
    (line,) = figure.axes[0].lines
    assert line.get_ydata()[-1] == pytest.approx(sum(last) / 3)


def test_seconds_are_shown_where_all_runs_were_trained_on_equal_terms():
    runs = pick("none", "sam")
    assert [axes.get_xlabel() for axes in draw(runs, "cost").axes] == [
        "gradient evaluations",
        "seconds of training steps",
    ]
    assert len(draw([runs[0] | {"threads": "9"}, *runs[1:]], "cost").axes) == 1
    assert len(draw([run | {"hardware": ""} for run in runs], "cost").axes) == 1


def test_the_pareto_front_rises_with_cost():
    axes = draw(pick(*KNOWN), "cost").axes[1]
    (front,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
    beaten = [any(x <= cost and y > accuracy for x, y in points) for cost, accuracy in points]
    on_front = sorted(point for point, is_beaten in zip(points, beaten, strict=True) if not is_beaten)
    assert list(zip(front.get_xdata(), front.get_ydata(), strict=True))[:-1] == on_front


def test_at_most_24_reliability_diagrams_are_drawn():
    runs = [run for i in range(26) for run in clone(pick("sam", seeds="0")[:1], settings=f"regularizer.sam.rho={i}")]
    figure = draw(runs, "reliability")
    assert len(figure.axes) == 48
    assert any(words.endswith("24 of 26 arms") for words, _ in texts(figure))


@pytest.mark.slow
def test_many_arms_get_more_room():
    runs = pick("none", seeds="01")
    for i in range(20):
        runs += clone(pick("sam", seeds="01"), settings=f"regularizer.sam.rho=0.{i:02} regularizer.sam.interval={i}")
    figures = dict(draw_figures(Tables(runs, make_comparison(runs))))
    assert figures["test_accuracy"].get_figheight() > 10
    for name in ("test_accuracy", "test_accuracy_differences", "cost", "calibration"):
        assert_readable(figures[name])


def test_long_names_and_settings_are_wrapped():
    settings = " ".join(f"regularizer.sam.some_long_key_{i}=and_its_value" for i in range(9))
    runs = pick("none") + clone(pick("sam"), settings=settings)
    runs += clone(pick("sam"), regularizer="label_smoothing+mixup_cutmix+a_name_that_is_longer_than_a_line")
    words = {"dataset": "image_folder/pictures_of_a_long_name", "model": "timm/vit_base_patch16_224.augreg_in21k"}
    for figure in dict(draw_figures(tables([run | words for run in runs]))).values():
        assert_readable(figure)


WEIRD = ["_under", "$x$", "<b>&amp;", "日本語", "a\nb\x07", "ü" * 30]


def test_any_word_may_stand_in_a_figure(tmp_path):
    runs = [run for word in WEIRD for run in clone(pick("none"), regularizer=word)]
    runs = [run | {"dataset": word} for word in ("image_folder/ü b", "image_folder/ö b", "../\udcff") for run in runs]
    names = write_figures(tmp_path, Tables(runs))
    assert len(set(names)) == 15
    assert all(name.isascii() and name.replace("-", "").replace("_", "").isalnum() for name in names)
    for name in names:
        root = ET.parse(tmp_path / f"{name}.svg").getroot()
        words = "".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
        assert all(word in words for word in ("_under · sgd", "$x$ · sgd", "<b>&amp; · sgd", "日本語", "a b\\x07"))


def test_names_end_in_dataset_and_model_where_there_are_several():
    runs = pick("none") + clone(pick("none"), model="timm/resnet10t")
    names = [name for name, _ in draw_figures(Tables(runs))]
    assert names[0] == "test_accuracy-digits-convnet"
    assert names[5] == "test_accuracy-digits-timm-resnet10t"


def test_neither_torch_nor_pyplot_is_loaded(tmp_path):
    code = (
        "import sys; from pathlib import Path; from bench.report.figure.figures import Tables, write_figures; "
        "from bench.record.tables import read_csv; "
        "write_figures(Path(sys.argv[2]), Tables(read_csv(Path(sys.argv[1]))[:5])); "
        "sys.exit(bool({'torch', 'matplotlib.pyplot'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code, DIGITS / "runs.csv", tmp_path], check=True)


@pytest.mark.slow
def test_500_runs_take_less_than_two_and_a_half_megabytes():
    runs = [run for i in range(5) for run in clone(RUNS, settings=f"optimizer.lr=0.{i}")]
    history = [row | {"run_id": row["run_id"] + f"optimizer.lr=0.{i}"} for i in range(5) for row in HISTORY]
    figures = draw_figures(Tables(runs, make_comparison(runs), history, make_reliability(runs)))
    assert sum(len(to_svg(name, figure)) for name, figure in figures) < 2_500_000


def test_a_figure_can_be_had_without_a_file():
    name, figure = next(draw_figures(Tables(pick("none"))))
    assert to_png(figure).startswith(b"\x89PNG")
    assert to_svg(name, figure).startswith(b"<?xml")
