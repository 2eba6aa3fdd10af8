"""All that settings may be, as docs/settings.md lists it: `python -m bench.config.reference` prints the table."""

import yaml

from bench.config import CONF
from bench.config.own_code import find_ranges, resolve
from bench.config.ranges import RANGES, Rule


def as_markdown() -> str:
    """The table of ranges, and what the classes and functions that conf/ names allow."""
    rows = "\n".join(f"| `{key}` | {allowed} |" for key, allowed in {**RANGES, **_of_constructors()}.items())
    return f"| key | allowed |\n| --- | --- |\n{rows}\n"


def _of_constructors() -> dict[str, Rule]:
    found: dict[str, Rule] = {}
    for axis in ("dataset", "model", "regularizer", "optimizer"):
        for file in sorted((CONF / axis).glob("*.yaml")):
            values = yaml.safe_load(file.read_text("utf-8"))
            of_file = find_ranges(resolve(values["_target_"])) if "_target_" in values else {}
            prefix = f"{axis}.{file.stem}" if axis in ("regularizer", "optimizer") else axis
            found |= {f"{prefix}.{key}": rule for key, rule in of_file.items() if key in values}
            if "sets" in values:
                found[f"{prefix}.value"] = RANGES[values["sets"]]
    return found


if __name__ == "__main__":
    print(as_markdown(), end="")
