"""What `regbench report` writes beside the tables: the figures and the page."""

from collections.abc import Callable

from bench.record.experiment import Experiment
from bench.report.figure.figures import Tables, remove_others, write_figures
from bench.report.page import write_page

_MOST_ARMS = 150  # of a dataset and model; more cannot be distinguished in a figure


def write_evidence(experiment: Experiment, show: Callable[[str], None] = lambda line: None) -> None:
    """Writes figures/ and report.html of an experiment whose tables are up to date; `show` gets a line per figure."""
    folder = experiment.folder / "figures"
    drawn = [row for part in experiment.places.values() if len(part.arms) <= _MOST_ARMS for row in part.rows]
    others = (experiment.read(table) for table in ("history", "reliability", "ensemble", "corruptions"))
    figures = write_figures(folder, Tables(drawn, experiment.comparisons, *others), show)
    remove_others(folder, figures)
    write_page(experiment, figures)
