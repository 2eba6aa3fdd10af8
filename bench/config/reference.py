"""All that settings may be, as docs/settings.md lists it: `python -m bench.config.reference` prints the table."""

from collections.abc import Mapping, Sequence

import yaml

from bench.config import CONF
from bench.config.own_code import find_ranges, resolve
from bench.config.ranges import RANGES, Rule


def as_markdown() -> str:
    """The table of ranges, and what the classes and functions that conf/ names allow."""
    rules = {key: str(rule) for key, rule in RANGES.items()} | _of_constructors()
    rows = "\n".join(f"| `{key}` | {allowed} |" for key, allowed in rules.items())
    return f"| key | allowed |\n| --- | --- |\n{rows}\n"


def _of_constructors() -> dict[str, str]:
    """By key; where choices of an axis differ in what they allow, each with its name."""
    found: dict[str, dict[str, list[str]]] = {}
    for axis in ("dataset", "model", "regularizer", "optimizer"):
        for file in sorted((CONF / axis).glob("*.yaml")):
            values = yaml.safe_load(file.read_text("utf-8"))
            of_file = find_ranges(resolve(values["_target_"])) if "_target_" in values else {}
            prefix = f"{axis}.{file.stem}" if axis in ("regularizer", "optimizer") else axis
            rules: dict[str, Rule] = {key: rule for key, rule in of_file.items() if key in values}
            if "sets" in values:
                rules["value"] = RANGES[values["sets"]]
            for key, rule in rules.items():
                found.setdefault(f"{prefix}.{key}", {}).setdefault(str(rule), []).append(file.stem)
    return {key: _join(allowed) for key, allowed in found.items()}


def _join(allowed: Mapping[str, Sequence[str]]) -> str:
    if len(allowed) == 1:
        return next(iter(allowed))
    return "; ".join(f"{rule} ({', '.join(names)})" for rule, names in allowed.items())


if __name__ == "__main__":
    print(as_markdown(), end="")
