"""Margins of practical equivalence: how large a difference has to be to matter, by metric, from margins.yaml.

Whether a difference is beyond chance and whether it matters are two questions. An interval that lies within the margin
on both sides of 0 shows that arms are the same for practical purposes, which no p above 0.05 does. Source: Schuirmann
1987, "A comparison of the two one-sided tests procedure"; at 95 % the interval is stricter than its 90 %.
"""

from collections.abc import Mapping

import yaml

from bench.config import CONF
from bench.config.plugins import user_folder
from bench.errors import UsageError
from bench.measure import QUALITIES

Margins = Mapping[str, float]  # by key of the file; those relative to the baseline as `relative nll`
_KINDS = ("absolute", "relative")


def read_margins() -> dict[str, float]:
    """The margins of conf/margins.yaml, replaced by those of the user's folder.

    Raises:
        UsageError: a margin of no metric, or none that is a number above 0.
    """
    margins: dict[str, float] = {}
    known = {_shorten(column) for column in QUALITIES}
    for folder in filter(None, (CONF, user_folder())):
        file = folder / "margins.yaml"
        if not file.is_file():
            continue
        try:
            content = yaml.safe_load(file.read_text("utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} is no YAML: {str(error).splitlines()[0]}.") from error
        for kind, values in content.items() if isinstance(content, dict) else [(content, None)]:
            if kind not in _KINDS or not isinstance(values, dict):
                raise UsageError(f"{file}: {kind}.\nIt holds metrics and their margins below {' and '.join(_KINDS)}.")
            for key, value in values.items():
                number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
                if key not in known or not (number or value is None):
                    raise UsageError(
                        f"{file}: {kind}.{key}={value}.\nA margin is a number above 0, or null. "
                        f"Metrics: {', '.join(sorted(known))}"
                    )
                margins = {name: margin for name, margin in margins.items() if name.rpartition(" ")[2] != key}
                margins |= {} if value is None else {f"relative {key}" if kind == "relative" else key: float(value)}
    return margins


def find_margin(margins: Margins, column: str, baseline: float) -> float:
    """The margin of a column of runs.csv whose mean in the baseline is this; 0 where there is none."""
    key = _shorten(column)
    return margins.get(key, margins.get(f"relative {key}", 0.0) * abs(baseline))


def describe_margins(margins: Margins) -> str:
    """The margins on a line."""
    return ", ".join(
        f"{key.rpartition(' ')[2]} {100 * value:g} % of the baseline's" if " " in key else f"{key} {value:g}"
        for key, value in margins.items()
    )


def _shorten(column: str) -> str:
    split, _, rest = column.partition("_")
    return rest if split in ("test", "val", "train") else column
