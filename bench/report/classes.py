"""What the page says of classes: each arm's accuracies by class, worst first, and its confusion matrix or pairs.

Names come from the run's record, or that of its dataset, and are text; classes without a name go by their number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.config.identity import data_id
from bench.evidence.confusion import MATRIX
from bench.measure import QUALITIES
from bench.record.data import read_data
from bench.record.experiment import Experiment
from bench.record.folder import read_result, run_folder
from bench.record.read_tables import explaining_damage
from bench.record.tables import Row
from bench.report.cells import print_with_half
from bench.report.figure.arms import group_by, shown

# What a page of under 5 MB has room for, of all arms together: classes, and cells of matrices. Beyond, each arm has its
# worst classes, and pairs instead of the matrix, as it has with many classes.
_MOST_CLASSES, _MOST_CELLS = 5_000, 50_000
_WORST, _PAIRS = 20, 10
_NAME = 30  # characters of a name in a table of arms


@dataclass(frozen=True)
class Share:
    """A part of a class's test images: those taken for `prediction`, in [0, 1]; `text` has it in percent."""

    label: int
    prediction: int
    images: int
    share: float
    text: str


@dataclass(frozen=True)
class Classes:
    """Of an arm.

    Attributes:
        names: one of each class that occurs, by its number.
        tested: how many have test images.
        accuracies: of these, the worst first; of very many only the worst.
        pairs: what was most often taken for something else, most images first.
        matrix: a row per class, with a cell per class; empty where there are too many.
    """

    names: Mapping[int, str]
    tested: int
    accuracies: Sequence[Share]
    pairs: Sequence[Share]
    matrix: Sequence[Sequence[Share | None]]

    @property
    def worst(self) -> str:
        """The classes of the lowest accuracy, and how high that is."""
        return self._describe_first(self.accuracies, lambda each: self._short(each.label))

    @property
    def most_confused(self) -> str:
        """What was taken for what most often; empty where nothing was mistaken."""
        return self._describe_first(
            self.pairs, lambda each: f"{self._short(each.label)} as {self._short(each.prediction)}"
        )

    def _describe_first(self, shares: Sequence[Share], name: Any) -> str:
        """The first, with those that are equal to it: three by name."""
        equal = [name(each) for each in shares if math.isclose(each.share, shares[0].share, abs_tol=1e-12)]
        more = [f"{len(equal) - 3} more"] * (len(equal) > 3)
        return f"{', '.join([*equal[:3], *more])}: {shares[0].text}\N{NO-BREAK SPACE}%" if shares else ""

    def _short(self, label: int) -> str:
        name = self.names[label]
        return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def read_classes(experiment: Experiment) -> dict[str, Classes]:
    """By arm_id, of the arms that confusion.csv has.

    Args:
        experiment: whose confusion.csv is up to date.

    Raises:
        UsageError: confusion.csv is damaged.
    """
    of_arms = group_by(experiment.rows, lambda run: run["arm_id"])
    rows = (row for row in experiment.read("confusion") if row["arm_id"] in of_arms)
    found = group_by(rows, lambda row: row["arm_id"])
    with explaining_damage(experiment.folder / "confusion.csv"):
        classes = [int(rows[0]["classes"]) for rows in found.values()]
        most = None if sum(classes) <= _MOST_CLASSES else _WORST
        fits = sum(k**2 for k in classes if k <= MATRIX) <= _MOST_CELLS
        return {
            str(arm): _make_classes(rows, _read_names(experiment, of_arms[arm]), most, fits)
            for arm, rows in found.items()
        }


def _read_names(experiment: Experiment, runs: Sequence[Row]) -> Sequence[str]:
    """The names of the classes in their order; none where they are not on record."""
    records = (read_result(run_folder(experiment.results, run["run_id"])) for run in runs)
    of_run: dict[str, Any] = next((record for record in records if record), {})
    settings = experiment.settings.get(runs[0]["arm_id"], {})
    of_data = read_data(experiment.results, data_id(settings)) or {}
    return of_run.get("class_names") or of_data.get("class_names") or []


def _make_classes(rows: Sequence[Row], names: Sequence[str], most: int | None, fits: bool) -> Classes:
    shares = [_read_share(row) for row in rows]
    cells = {(each.label, each.prediction): each for each in shares}
    accuracies = sorted((each for each in shares if each.label == each.prediction), key=lambda each: each.share)
    pairs = sorted(
        (each for each in shares if each.label != each.prediction), key=lambda each: -each.share * each.images
    )
    classes = int(rows[0]["classes"])
    in_matrix = range(classes if fits and classes <= MATRIX else 0)
    occurring = {*in_matrix, *(label for cell in cells for label in cell)}
    return Classes(
        names={label: shown("".join(names[label : label + 1])) or str(label) for label in occurring},
        tested=len(accuracies),
        accuracies=accuracies[:most],
        pairs=pairs[:_PAIRS],
        matrix=[[cells.get((label, prediction)) for prediction in in_matrix] for label in in_matrix],
    )


def _read_share(row: Row) -> Share:
    share, low, high = (float(row[column] or "nan") for column in ("share", "low", "high"))
    half = None if math.isnan(low) else (high - low) / 2
    mean, half_text = print_with_half(QUALITIES["test_accuracy"], share, half)
    text = f"{mean}±{half_text}" if half_text else mean
    return Share(int(row["label"]), int(row["prediction"]), int(row["images"]), share, text)
