"""What the tests of figures draw, and how they look at it."""

import io
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.config import AXES
from bench.evidence.comparison import compare
from bench.evidence.pairing import read_arms
from bench.measure.probed import PROBED
from bench.record.tables import read_csv
from bench.report.figure.figures import Tables, draw_figures
from bench.report.figure.style import house_style

DIGITS = Path(__file__).parent / "tables" / "digits"
RUNS, HISTORY = read_csv(DIGITS / "runs.csv"), read_csv(DIGITS / "history.csv")
METRICS = ["test_accuracy", "test_nll", "test_ece"]
KNOWN = "none label_smoothing mixup cutmix mixup_cutmix sam look_sam asam weight_decay dropout".split()


def pick(*regularizers, seeds="01234"):
    return [run for run in RUNS if run["regularizer"] in regularizers and run["seed"] in seeds]


def clone(runs, **changes):
    """Runs of another arm."""
    name = "".join(changes.values())
    return [{**run, **changes, "run_id": run["run_id"] + name, "arm_id": run["arm_id"] + name} for run in runs]


def unfinished(runs, status="diverged"):
    numbers = [
        column for column in RUNS[0] if column.startswith(("test_", "val_", "train_")) and column != "train_size"
    ]
    return [{**run, "status": status} | dict.fromkeys(numbers, "") for run in runs]


def make_comparison(runs):
    """Comparisons of arms that differ in what stands in `settings` and in nothing else."""
    settings = {}
    for run in runs:
        own = dict(setting.split("=") for setting in run["settings"].split())
        settings[run["arm_id"]] = {axis: run[axis] for axis in AXES} | own
    return compare(read_arms(runs, settings))


def make_reliability(runs):
    rows = []
    for arm_id in dict.fromkeys(run["arm_id"] for run in runs):
        for scaled in "01":
            for index in range(15):
                row = {"arm_id": arm_id, "scaled": scaled, "bin": str(index), "count": str(index * index)}
                accuracy = min(1, (index + 0.5) / 15 + 0.05 * (scaled == "0"))
                row |= {"confidence": str((index + 0.5) / 15), "accuracy": str(accuracy)}
                rows.append(row if index else row | {"confidence": "", "accuracy": ""})
    return rows


def make_ensemble(runs):
    rows = []
    for arm_id, arm in {run["arm_id"]: run for run in runs if run["test_nll"]}.items():
        for members in (1, 2, 3):
            row = {"arm_id": arm_id, **{axis: arm[axis] for axis in AXES}, "settings": arm["settings"]}
            row |= {"members": str(members), "subsets": "3" if members < 3 else "1", "made_of": ""}
            for name, factor in (("accuracy", 1.01), ("nll", 0.9), ("ece", 1.1), ("ece_debiased", 1.1)):
                row[name] = str(float(arm[f"test_{name}"]) * factor ** (members - 1))
            rows.append(row)
    return rows


def make_corruptions(runs):
    """Accuracy of 0.9 on the clean images of every arm, and 0.1 less at each strength, with an interval of ± 0.01."""
    kinds = {"noise": ("0.04", "0.08", "0.1"), "blur": ("0.4", "0.7", "1"), "contrast": ("0.75", "0.5", "0.15")}
    kinds |= {"brightness": ("1.1", "1.3", "1.6"), "jpeg": ("80", "58", "40")}
    rows = []
    for arm_id, arm in {run["arm_id"]: run for run in runs if run["test_nll"]}.items():
        points = [("none", "0.0", 0), *((name, at, i) for name, each in kinds.items() for i, at in enumerate(each, 1))]
        for corruption, strength, index in points:
            row = {"arm_id": arm_id, **{axis: arm[axis] for axis in AXES}, "settings": arm["settings"]}
            row |= {"corruption": corruption, "strength": strength, "seeds": "3", "made_of": ""}
            mean = 0.9 - 0.1 * index
            row |= {f"accuracy_{part}": str(mean + off) for part, off in (("mean", 0), ("low", -0.01), ("high", 0.01))}
            rows.append(row)
    return rows


def with_sharpness(runs):
    """The runs with sharpness, which rises with the seed."""
    columns = [column for column in PROBED["sharpness"] if "sharpness_" in column]
    of_seed = {seed: {c: str((1 + int(seed)) * (i + 1) / 10) for i, c in enumerate(columns)} for seed in "01234"}
    return [run | (of_seed[run["seed"]] if run["test_nll"] else {}) for run in runs]


def tables(runs):
    others = HISTORY, make_reliability(runs), make_ensemble(runs), make_corruptions(runs)
    return Tables(with_sharpness(runs), make_comparison(runs), *others)


def draw(runs, name):
    return dict(draw_figures(tables(runs)))[name]


def texts(figure: Figure):
    """What is written in a figure: words and their boxes in pixels, in which letters leave some room."""
    with house_style(), patch.object(Text, "draw", autospec=True) as draw_text:
        figure.savefig(io.BytesIO(), format="raw")  # ticks beyond the ends of an axis have labels, which are not drawn
        drawn = dict.fromkeys(call.args[0] for call in draw_text.call_args_list)
        visible = [text for text in drawn if text.get_visible() and text.get_text().strip()]
        return [(text.get_text(), Text.get_window_extent(text).padded(-0.5)) for text in visible]


def labels(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def assert_readable(figure):
    """No text covers another, and none is cut off."""
    drawn = texts(figure)
    for words, box in drawn:
        assert box.x0 >= 0, words
        assert box.y0 >= 0, words
        assert box.x1 <= figure.bbox.x1, words
        assert box.y1 <= figure.bbox.y1, words
    for (words, box), (other, its) in combinations(drawn, 2):
        assert not box.overlaps(its), (words, other)
